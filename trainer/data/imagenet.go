package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	file, err := os.Open(filepath.Join(f.root, f.name(i)))
	if err != nil {
		return buf, withoutPath(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return buf, withoutPath(err)
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

// withoutPath is a file's error without its path: the image's name stands before it, and a result must not depend on where a set lies.
func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func openImageNet(dir string) (*Dataset, error) {
	d := &Dataset{Validation: &Set{}, Test: &Set{}, Mean: imageNetMean, Std: imageNetStd}
	list := filepath.Join(dir, "labels.csv")
	if exists(list) {
		f, err := os.Open(list)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		train, classes, err := readLabels(f, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		d.Train, d.Classes = &Set{store: train}, classes
		return d, nil
	}
	if !exists(filepath.Join(dir, "train")) {
		return nil, fmt.Errorf("%s holds neither a folder train with a folder a class, nor a labels.csv", dir)
	}
	train, classes, err := readFolders(dir, "train", nil)
	if err != nil {
		return nil, err
	}
	d.Train, d.Classes = &Set{store: train}, classes
	if exists(filepath.Join(dir, "val")) {
		test, _, err := readFolders(dir, "val", classes)
		if err != nil {
			return nil, err
		}
		d.Test = &Set{store: test}
	}
	return d, nil
}

func isImage(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return true
	}
	return false
}

// readFolders lists root/part/CLASS/*: classes are the sorted folder names, which must be `want` where it is given.
func readFolders(root, part string, want []string) (*imageFiles, []string, error) {
	top := filepath.Join(root, part)
	list, err := os.ReadDir(top) // sorted
	if err != nil {
		return nil, nil, err
	}
	out := &imageFiles{root: root}
	var classes []string
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		// A class may be a link to a folder.
		if info, err := os.Stat(filepath.Join(top, e.Name())); err != nil || !info.IsDir() {
			if isImage(e.Name()) {
				return nil, nil, fmt.Errorf("%s is not in a folder of its class", filepath.Join(top, e.Name()))
			}
			continue
		}
		classes = append(classes, e.Name())
		out.folders = append(out.folders, filepath.Join(part, e.Name()))
	}
	if len(classes) == 0 {
		return nil, nil, fmt.Errorf("%s holds no folders of classes", top)
	}
	if want != nil {
		for _, c := range classes {
			if !slices.Contains(want, c) {
				return nil, nil, fmt.Errorf("%s is a class that the training images do not have", filepath.Join(top, c))
			}
		}
	}
	for i, c := range classes {
		label := i
		if want != nil {
			label = slices.Index(want, c)
		}
		list, err := os.ReadDir(filepath.Join(top, c))
		if err != nil {
			return nil, nil, err
		}
		before := len(out.entries)
		for _, e := range list {
			if isImage(e.Name()) && !strings.HasPrefix(e.Name(), ".") {
				out.entries = append(out.entries, fileEntry{int32(i), int32(label), e.Name()})
			}
		}
		if len(out.entries) == before {
			return nil, nil, fmt.Errorf("%s holds no .jpg, .jpeg or .png files", filepath.Join(top, c))
		}
	}
	return out, classes, nil
}

// readLabels reads a CSV with a header and at least the columns file and class_index; a column wnid names the classes. Files are below root.
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
		out.entries = append(out.entries, fileEntry{0, int32(label), strings.Clone(path)})
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
