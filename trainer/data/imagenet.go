package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
)

// Statistics of ImageNet's training images that every published network was trained with.
var (
	imageNetMean = [3]float32{0.485, 0.456, 0.406}
	imageNetStd  = [3]float32{0.229, 0.224, 0.225}
)

// maxClasses bounds the labels of encoded sets: a wrong column must not make millions of classes.
const maxClasses = 1 << 20

// imageFiles is a store of image files in folders.
type imageFiles struct {
	root    string
	folders []string // below root
	entries []fileEntry
}

type fileEntry struct {
	folder, label int32
	base          string
}

func (f *imageFiles) count() int        { return len(f.entries) }
func (f *imageFiles) label(i int) int32 { return f.entries[i].label }
func (f *imageFiles) name(i int) string {
	return filepath.Join(f.folders[f.entries[i].folder], f.entries[i].base)
}

func (f *imageFiles) read(i int, buf []byte) ([]byte, error) {
	path := filepath.Join(f.root, f.name(i))
	file, err := files.Open(path)
	var system *fs.PathError
	switch {
	case errors.As(err, &system): // without its path: a result must not depend on where a set lies
		return buf, system.Err
	case err != nil: // it is no regular file
		return buf, damage{errors.New(strings.TrimPrefix(err.Error(), path+" "))}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return buf, err
	}
	if info.Size() > maxFileBytes {
		return buf, damage{fmt.Errorf("%d bytes: at most %d are accepted", info.Size(), maxFileBytes)}
	}
	at := len(buf)
	buf = slices.Grow(buf, int(info.Size()))[:at+int(info.Size())]
	_, err = io.ReadFull(file, buf[at:])
	return buf, err
}

func (f *imageFiles) stamp(i int) stamp {
	name := f.name(i)
	return stampOf(name, filepath.Join(f.root, name), nil)
}

// The names that folders of published validation images have.
var validationFolders = []string{"val", "validation", "valid"}

// Where below a folder that people name ImageNet's training images lie: as Kaggle packs them, and without its outer
// folders.
var imageNetInside = []string{"ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC"}

// openImageNet reads images in folders of their classes, or beside a labels.csv:
//
//	train/CLASS/*                images, or a folder `images` with them (Tiny ImageNet)
//	val/CLASS/*                  also named validation or valid
//	val/*                        with a list of their classes: LOC_val_solution.csv (Kaggle), val.txt (Caffe: file
//	                             and class index) or val_annotations.txt (Tiny ImageNet)
//	test/CLASS/*                 images of no known class are left out
//
// It may all lie in ILSVRC/Data/CLS-LOC below the folder, or in its only folder that holds a `train`. A file instead of
// a folder is what Pack wrote.
func openImageNet(dir string) (*Dataset, error) {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return openPacked(dir)
	}
	d := &Dataset{Validation: &Set{}, Test: &Set{}, Mean: imageNetMean, Std: imageNetStd}
	left := leaving{}
	if list := filepath.Join(dir, "labels.csv"); exists(list) {
		f, err := files.Open(list)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		train, classes, err := readLabels(files.Text(f), dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		train.unlisted(left)
		d.Train, d.Classes, d.Indexed, d.LeftOut = &Set{store: train}, classes, true, left.list()
		return d, nil
	}
	root, err := imageNetRoot(dir)
	if err != nil {
		return nil, err
	}
	train, classes, err := readFolders(root, "train", nil, left)
	if err != nil {
		return nil, err
	}
	d.Train, d.Classes = &Set{store: train}, classes
	val, test, err := heldOutFolders(root, left)
	if err != nil {
		return nil, err
	}
	if val != "" {
		held, err := readHeldOut(dir, root, val, classes, left)
		if err != nil {
			return nil, err
		}
		d.Test = &Set{store: held}
	}
	if test != "" {
		held, _, err := readFolders(root, test, classes, left)
		if err != nil {
			return nil, err
		}
		d.Validation, d.Test = d.Test, &Set{store: held}
	}
	d.LeftOut = left.list()
	return d, nil
}

// unlisted counts the images that lie in the folders of a labels.csv's images and that it does not list.
func (f *imageFiles) unlisted(left leaving) {
	names := make([]string, len(f.entries))
	folders := map[string]bool{}
	for i, e := range f.entries {
		names[i] = e.base
		folders[filepath.Dir(e.base)] = true
	}
	slices.Sort(names)
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		list, err := os.ReadDir(filepath.Join(f.root, folder))
		if err != nil { // its images cannot be read, which is said when they are needed
			continue
		}
		for _, e := range list {
			name := filepath.Join(folder, e.Name())
			if _, listed := slices.BinarySearch(names, name); !listed && isImage(name) && !e.IsDir() {
				left.add(whyUnlisted, name)
			}
		}
	}
}

// imageNetRoot is the folder that holds `train`: the one that was named, or one below it that there is no doubt about.
func imageNetRoot(dir string) (string, error) {
	if exists(filepath.Join(dir, "train")) {
		return dir, nil
	}
	for _, inside := range imageNetInside {
		if root := filepath.Join(dir, filepath.FromSlash(inside)); exists(filepath.Join(root, "train")) {
			return root, nil
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var folders, holding []string
	for _, e := range list {
		if path := filepath.Join(dir, e.Name()); !strings.HasPrefix(e.Name(), ".") && isFolder(path) {
			folders = append(folders, e.Name())
			if exists(filepath.Join(path, "train")) {
				holding = append(holding, e.Name())
			}
		}
	}
	want := "neither a folder train with a folder a class, nor a labels.csv"
	whole, err := files.Absolute(dir)
	if err != nil {
		return "", err
	}
	outer := filepath.Dir(whole)
	switch {
	case len(holding) == 1:
		return filepath.Join(dir, holding[0]), nil
	case len(holding) > 1:
		return "", fmt.Errorf("%s holds %s; its folders %s hold a train each: name one of them", dir, want,
			some(holding))
	case slices.Contains(append([]string{"train", "test"}, validationFolders...), filepath.Base(whole)) &&
		exists(filepath.Join(outer, "train")):
		return "", fmt.Errorf("%s holds %s, but is a part of a set itself: name %s, which holds it", dir, want, outer)
	case len(folders) > 0:
		return "", fmt.Errorf("%s holds %s, but the folders %s: if these are the classes, move them into %s", dir,
			want, some(folders), filepath.Join(dir, "train"))
	}
	return "", fmt.Errorf("%s holds %s", dir, want)
}

// heldOutFolders are the folders beside `train` of validation images and of test images; empty where there are none.
// One without folders of classes is no test set: the labels of ImageNet's are not published.
func heldOutFolders(root string, left leaving) (val, test string, err error) {
	list, err := os.ReadDir(root)
	if err != nil {
		return "", "", err
	}
	for _, e := range list {
		name := e.Name()
		switch {
		case name == "train" || strings.HasPrefix(name, ".") || !isFolder(filepath.Join(root, name)):
		case slices.Contains(validationFolders, name) && val != "":
			return "", "", fmt.Errorf("%s holds the folders %s and %s: one of them only can be its validation images",
				root, val, name)
		case slices.Contains(validationFolders, name):
			val = name
		case name == "test" && hasClasses(filepath.Join(root, name)):
			test = name
		default:
			left.add(whyUnread, name)
		}
	}
	return val, test, nil
}

// hasClasses tells whether a folder holds folders, other than one of images without their classes.
func hasClasses(dir string) bool {
	list, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool {
		return e.Name() != imagesFolder && !strings.HasPrefix(e.Name(), ".") && isFolder(filepath.Join(dir, e.Name()))
	})
}

func isFolder(path string) bool {
	info, err := os.Stat(path) // a class may be a link to a folder
	return err == nil && info.IsDir()
}

// some names the first of a list.
func some(names []string) string {
	if len(names) > leftNames {
		return strings.Join(names[:leftNames], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func isImage(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".png", ".webp":
		return true
	}
	return false
}

// imageKinds says which files are images.
const imageKinds = ".jpg, .jpeg, .png or .webp files"

// imagesFolder is the folder in a class's folder, or in that of validation images, where Tiny ImageNet has them.
const imagesFolder = "images"

// readFolders lists root/part/CLASS/*: classes are the sorted folder names, which must be among `want` where it is
// given.
func readFolders(root, part string, want []string, left leaving) (*imageFiles, []string, error) {
	top := filepath.Join(root, part)
	list, err := os.ReadDir(top) // sorted
	if err != nil {
		return nil, nil, err
	}
	out := &imageFiles{root: root}
	var classes, empty []string
	for _, e := range list {
		switch {
		case strings.HasPrefix(e.Name(), "."):
			left.add(whyHidden, filepath.Join(part, e.Name()))
		case isFolder(filepath.Join(top, e.Name())):
			classes = append(classes, e.Name())
		case isImage(e.Name()):
			return nil, nil, fmt.Errorf("%s is not in a folder of its class", filepath.Join(top, e.Name()))
		default:
			left.add(whyBeside, filepath.Join(part, e.Name()))
		}
	}
	if len(classes) == 0 {
		return nil, nil, fmt.Errorf("%s holds no folders of classes", top)
	}
	for _, c := range classes {
		if want != nil && !slices.Contains(want, c) {
			return nil, nil, fmt.Errorf("%s is a class that the training images do not have", filepath.Join(top, c))
		}
	}
	for i, c := range classes {
		label := i
		if want != nil {
			label = slices.Index(want, c)
		}
		beside := leaving{}
		found, err := out.list(filepath.Join(part, c), label, beside)
		if err == nil && found == 0 && isFolder(filepath.Join(top, c, imagesFolder)) {
			delete(beside, whyNested)
			found, err = out.list(filepath.Join(part, c, imagesFolder), label, beside)
		}
		if err != nil {
			return nil, nil, err
		}
		left.merge(beside)
		if found == 0 {
			empty = append(empty, filepath.Join(top, c))
		}
	}
	if len(empty) > 0 {
		return nil, nil, fmt.Errorf("%s holds no %s (%d of %d classes have no images)", some(empty), imageKinds,
			len(empty), len(classes))
	}
	return out, classes, nil
}

// list adds the images of a folder below the root and returns how many there are.
func (f *imageFiles) list(folder string, label int, left leaving) (int, error) {
	list, err := os.ReadDir(filepath.Join(f.root, folder))
	if err != nil {
		return 0, err
	}
	number, before := int32(len(f.folders)), len(f.entries)
	f.folders = append(f.folders, folder)
	for _, e := range list {
		switch name := filepath.Join(folder, e.Name()); {
		case strings.HasPrefix(e.Name(), "."):
			left.add(whyHidden, name)
		case e.IsDir():
			left.add(whyNested, name)
		case isImage(e.Name()):
			f.entries = append(f.entries, fileEntry{number, int32(label), e.Name()})
		case isAnswers(e.Name()):
		default:
			left.add(whyType(filepath.Ext(e.Name())), name)
		}
	}
	return len(f.entries) - before, nil
}

// readLabels reads a CSV with a header and at least the columns file and class_index; a column wnid names the classes.
// Files are below root.
func readLabels(r io.Reader, root string) (*imageFiles, []string, error) {
	lines := csv.NewReader(r)
	lines.ReuseRecord = true
	header, err := lines.Read()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("empty file")
	}
	if err != nil {
		return nil, nil, err
	}
	file, index, wnid := slices.Index(header, "file"), slices.Index(header, "class_index"), slices.Index(header, "wnid")
	if file < 0 || index < 0 {
		return nil, nil, fmt.Errorf("line 1: columns %q, want file and class_index among them", header)
	}
	out := &imageFiles{root: root, folders: []string{""}}
	names := map[int]string{}
	top := -1
	for {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		line, _ := lines.FieldPos(file)
		label, err := strconv.Atoi(record[index])
		if err != nil || label < 0 || label >= maxClasses {
			return nil, nil, fmt.Errorf("line %d: class_index %q, want 0..%d", line, record[index], maxClasses-1)
		}
		path := filepath.FromSlash(record[file])
		if !filepath.IsLocal(path) {
			return nil, nil, fmt.Errorf("line %d: file %q is not below the folder", line, record[file])
		}
		name := fmt.Sprint(label)
		if wnid >= 0 {
			name = strings.Clone(record[wnid])
		}
		if have, ok := names[label]; ok && have != name {
			return nil, nil, fmt.Errorf("line %d: class %d is %q here and %q before", line, label, name, have)
		}
		names[label] = name
		top = max(top, label)
		out.entries = append(out.entries, fileEntry{0, int32(label), strings.Clone(filepath.Clean(path))})
	}
	if len(out.entries) == 0 {
		return nil, nil, errors.New("no images")
	}
	classes := numbered(top + 1)
	for label, name := range names {
		classes[label] = name
	}
	return out, classes, nil
}
