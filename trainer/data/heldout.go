package data

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
)

// answers is a list that says the classes of images which lie together in one folder.
type answers struct {
	name string // of the file
	// read returns an image's name, without its ending where the list has none, and its class, below 0 for a header;
	// false: the line is none of the list.
	read func(line string, classes []string) (image string, label int, ok bool)
}

// knownAnswers are those that can be read without doubt. ILSVRC2012_validation_ground_truth.txt cannot: it numbers
// classes as the development kit's meta.mat does.
var knownAnswers = []answers{
	{"LOC_val_solution.csv", kaggleAnswer},
	{"val_annotations.txt", tinyAnswer},
	{"val.txt", caffeAnswer},
}

func isAnswers(name string) bool {
	return slices.ContainsFunc(knownAnswers, func(a answers) bool { return a.name == name })
}

const numberedAnswers = "ILSVRC2012_validation_ground_truth.txt"

// kaggleAnswer reads "ILSVRC2012_val_00048981,n03995372 85 1 499 272 ...": the boxes are all of one class.
func kaggleAnswer(line string, classes []string) (string, int, bool) {
	image, boxes, _ := strings.Cut(line, ",")
	class, _, _ := strings.Cut(boxes, " ")
	label := slices.Index(classes, class)
	return image, label, label >= 0 || image == "ImageId"
}

// tinyAnswer reads "val_0.JPEG	n03444034	0	32	44	62".
func tinyAnswer(line string, classes []string) (string, int, bool) {
	fields := strings.Split(line, "\t")
	if len(fields) < 2 {
		return "", 0, false
	}
	label := slices.Index(classes, fields[1])
	return fields[0], label, label >= 0
}

// caffeAnswer reads "ILSVRC2012_val_00000001.JPEG 65", the index in the sorted classes. The val.txt of ImageNet's
// ImageSets, which numbers images, has names without endings.
func caffeAnswer(line string, classes []string) (string, int, bool) {
	image, number, _ := strings.Cut(line, " ")
	label, err := strconv.Atoi(strings.TrimSpace(number))
	return image, label, err == nil && isImage(image) && label >= 0 && label < len(classes)
}

// readHeldOut reads root/part: folders of classes, or images of one folder with a list of their classes somewhere
// between the folder that the user named and part.
func readHeldOut(dir, root, part string, classes []string, left leaving) (*imageFiles, error) {
	top := filepath.Join(root, part)
	if hasClasses(top) {
		out, _, err := readFolders(root, part, classes, left)
		return out, err
	}
	folder := part
	if isFolder(filepath.Join(top, imagesFolder)) {
		folder = filepath.Join(part, imagesFolder)
	}
	out, beside := &imageFiles{root: root}, leaving{}
	count, err := out.list(folder, 0, beside)
	if err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, fmt.Errorf("%s holds neither folders of classes nor images", top)
	}
	numbered := ""
	for at := top; ; at = filepath.Dir(at) {
		for _, a := range knownAnswers {
			path := filepath.Join(at, a.name)
			if !exists(path) {
				continue
			}
			if err := out.answer(path, a, classes); err != nil {
				return nil, err
			}
			left.merge(beside)
			return out, nil
		}
		if path := filepath.Join(at, numberedAnswers); exists(path) {
			numbered = path
		}
		if at == filepath.Clean(dir) || at == filepath.Dir(at) {
			break
		}
	}
	want := "want a folder a class, or beside them a list of their classes: LOC_val_solution.csv (Kaggle), val.txt " +
		"(lines of file and class index) or val_annotations.txt"
	if numbered != "" {
		return nil, fmt.Errorf("%s holds %d images and no folders of classes, and %s numbers classes in an order "+
			"of its own (meta.mat of the development kit): %s",
			top, count, numbered, want)
	}
	return nil, fmt.Errorf("%s holds %d images and no folders of classes: %s", top, count, want)
}

// maxAnswers bounds a list's bytes: ImageNet's have 2 MB.
const maxAnswers = 256 << 20

// answer gives the images of a folder the classes of a list, which must say them all.
func (f *imageFiles) answer(path string, a answers, classes []string) error {
	file, err := files.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	labels := map[string]int32{}
	lines := bufio.NewScanner(files.Text(io.LimitReader(file, maxAnswers)))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r \t")
		if line == "" {
			continue
		}
		image, label, ok := a.read(line, classes)
		if !ok {
			return fmt.Errorf("%s: line %d: %.200q says no class that the training images have", path, n, line)
		}
		if label < 0 { // a header
			continue
		}
		if have, twice := labels[image]; twice && have != int32(label) {
			return fmt.Errorf("%s: line %d: %s is class %d here and %d before", path, n, image, label, have)
		}
		labels[image] = int32(label)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for i := range f.entries {
		base := f.entries[i].base
		label, known := labels[base]
		if !known {
			label, known = labels[strings.TrimSuffix(base, filepath.Ext(base))]
		}
		if !known {
			return fmt.Errorf("%s does not say the class of %s", path, f.name(i))
		}
		f.entries[i].label = label
	}
	return nil
}
