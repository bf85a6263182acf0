package data

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/trainer/format"
)

// maxPickled bounds a file of CIFAR's Python version: CIFAR-100's training images have 155 MB.
const maxPickled = 256 << 20

// openPython opens the Python version, pickles of the same images in the same order, in dir or in its folder there;
// nil where neither holds it.
func (c *cifarFormat) openPython(dir string, mean, std [3]float32) (*Dataset, error) {
	first := strings.TrimSuffix(c.train[0], ".bin")
	if inner := filepath.Join(dir, c.python); exists(filepath.Join(inner, first)) {
		dir = inner
	} else if path := filepath.Join(dir, first); !exists(path) || isFolder(path) {
		return nil, nil
	}
	train, err := c.loadPython(dir, c.train, c.records)
	if err != nil {
		return nil, err
	}
	test, err := c.loadPython(dir, c.test, c.tests)
	if err != nil {
		return nil, err
	}
	classes, err := c.pythonClasses(filepath.Join(dir, c.pythonMeta))
	if err != nil {
		return nil, err
	}
	return c.dataset(train, test, classes, mean, std), nil
}

func (c *cifarFormat) loadPython(dir string, names []string, records int) (*pixels, error) {
	out := c.pixels(dir, names)
	for _, name := range names {
		path := filepath.Join(dir, strings.TrimSuffix(name, ".bin"))
		columns, err := readColumns(path)
		if err != nil {
			return nil, err
		}
		if err := c.readPython(out, columns, records); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

func readColumns(path string) (*format.Columns, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	columns, err := format.ReadColumns(f, maxPickled)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return columns, nil
}

// readPython appends the records of a file, which must be `records`.
func (c *cifarFormat) readPython(out *pixels, columns *format.Columns, records int) error {
	labels, images := columns.Integers[c.pythonLabels], columns.Bytes["data"]
	if len(images.Shape) != 2 || images.Shape[0] != records || images.Shape[1] != 3*cifarPlane ||
		len(labels) != records {
		return fmt.Errorf("data of shape %v and %d %s, want %d rows of %d bytes and as many", images.Shape,
			len(labels), c.pythonLabels, records, 3*cifarPlane)
	}
	for i, label := range labels {
		if label < 0 || label >= int64(c.classes) {
			return fmt.Errorf("image %d: label %d, want 0..%d", i, label, c.classes-1)
		}
		c.add(out, byte(label), []byte(images.Data[i*3*cifarPlane:(i+1)*3*cifarPlane]))
	}
	return nil
}

// pythonClasses reads the classes' names; without the file they are numbers.
func (c *cifarFormat) pythonClasses(path string) ([]string, error) {
	columns, err := readColumns(path)
	if errors.Is(err, fs.ErrNotExist) {
		return numbered(c.classes), nil
	}
	if err != nil {
		return nil, err
	}
	names := columns.Texts[c.pythonNames]
	if len(names) != c.classes {
		return nil, fmt.Errorf("%s: %d %s, want %d", path, len(names), c.pythonNames, c.classes)
	}
	return names, nil
}
