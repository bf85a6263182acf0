package data

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
)

// cifarFormat is one of the binary layouts of https://www.cs.toronto.edu/~kriz/cifar.html: records of label bytes, then
// 1,024 red, 1,024 green and 1,024 blue bytes of a 32x32 image, row by row.
type cifarFormat struct {
	labels  int // label bytes in front of the pixels; the last one counts
	classes int
	folder  string // that the archive unpacks to
	python  string // the folder of the Python version
	// its archive without .tar.gz, the key of labels, the file of the classes' names and their key
	pythonArchive, pythonLabels, pythonMeta, pythonNames string
	archive                                              string // of the binary version, without .tar.gz
	train                                                []string
	test                                                 []string
	records                                              int // of a training file
	tests                                                int // records of a test file
	names                                                string
}

// cifarHome is where the sets come from.
const cifarHome = "https://www.cs.toronto.edu/~kriz/cifar.html"

const (
	cifarSide  = 32
	cifarPlane = cifarSide * cifarSide
)

var cifar10 = cifarFormat{labels: 1, classes: 10, folder: "cifar-10-batches-bin", python: "cifar-10-batches-py",
	pythonArchive: "cifar-10-python",
	pythonLabels:  "labels", pythonMeta: "batches.meta", pythonNames: "label_names", archive: "cifar-10-binary",
	train: []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
	test:  []string{"test_batch.bin"}, records: 10_000, tests: 10_000, names: "batches.meta.txt"}

var cifar100 = cifarFormat{labels: 2, classes: 100, folder: "cifar-100-binary", python: "cifar-100-python",
	pythonArchive: "cifar-100-python",
	pythonLabels:  "fine_labels", pythonMeta: "meta", pythonNames: "fine_label_names", archive: "cifar-100-binary",
	train: []string{"train.bin"}, test: []string{"test.bin"}, records: 50_000, tests: 10_000,
	names: "fine_label_names.txt"}

func openCIFAR10(dir string) (*Dataset, error) {
	return cifar10.open(dir, [3]float32{0.4914, 0.4822, 0.4465}, [3]float32{0.2470, 0.2435, 0.2616})
}

func openCIFAR100(dir string) (*Dataset, error) {
	return cifar100.open(dir, [3]float32{0.5071, 0.4865, 0.4409}, [3]float32{0.2673, 0.2564, 0.2762})
}

func (c *cifarFormat) open(dir string, mean, std [3]float32) (*Dataset, error) {
	if inner := filepath.Join(dir, c.folder); exists(filepath.Join(inner, c.train[0])) {
		dir = inner
	}
	if !exists(filepath.Join(dir, c.train[0])) {
		if d, err := c.openPython(dir, mean, std); d != nil || err != nil {
			return d, err
		}
		return nil, c.elsewhere(dir)
	}
	train, err := c.load(dir, c.train, c.records)
	if err != nil {
		return nil, err
	}
	test, err := c.load(dir, c.test, c.tests)
	if err != nil {
		return nil, err
	}
	classes, err := c.classNames(filepath.Join(dir, c.names))
	if err != nil {
		return nil, err
	}
	return c.dataset(train, test, classes, mean, std), nil
}

func (c *cifarFormat) dataset(train, test *pixels, classes []string, mean, std [3]float32) *Dataset {
	return &Dataset{Classes: classes, Train: &Set{store: train}, Validation: &Set{}, Test: &Set{store: test},
		Width: cifarSide, Height: cifarSide,
		Mean: mean, Std: std, sum: checksum(train, test)}
}

// pixels is empty; its images will be those of some files.
func (c *cifarFormat) pixels(dir string, names []string) *pixels {
	out := &pixels{file: filepath.Join(dir, names[0]), width: cifarSide, height: cifarSide}
	if len(names) > 1 {
		out.file = dir
	}
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// elsewhere is the error of a folder without a version that is read: it names what lies there instead.
func (c *cifarFormat) elsewhere(dir string) error {
	for _, archive := range []string{c.archive, c.pythonArchive} {
		if packed := filepath.Join(dir, archive+".tar.gz"); exists(packed) {
			return fmt.Errorf("%s is packed: tar -xzf %s -C %s", packed, packed, dir)
		}
	}
	return fmt.Errorf("%s holds neither %s nor a folder %s or %s: unpack %s.tar.gz from %s there", dir, c.train[0],
		c.folder, c.python, c.archive, cifarHome)
}

// load reads files of exactly `records` records each.
func (c *cifarFormat) load(dir string, names []string, records int) (*pixels, error) {
	out := c.pixels(dir, names)
	for _, file := range names {
		if err := c.loadFile(out, filepath.Join(dir, file), records); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *cifarFormat) loadFile(out *pixels, path string, records int) error {
	f, err := files.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(records) * int64(c.record())
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() != size {
		return fmt.Errorf("%s has %d bytes, want %d (%d records of %d)", path, info.Size(), size, records, c.record())
	}
	if err := c.read(out, f, records); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (c *cifarFormat) record() int { return c.labels + 3*cifarPlane }

// read appends records, which must be all that r holds.
func (c *cifarFormat) read(out *pixels, r io.Reader, records int) error {
	buf := make([]byte, c.record())
	for i := range records {
		offset := int64(i) * int64(len(buf))
		if n, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("record %d at offset %d: truncated after %d of %d bytes: %w", i, offset, n, len(buf), err)
		}
		label := buf[c.labels-1]
		if int(label) >= c.classes {
			return fmt.Errorf("record %d at offset %d: label %d, want 0..%d", i, offset+int64(c.labels-1), label,
				c.classes-1)
		}
		c.add(out, label, buf[c.labels:])
	}
	if n, err := io.ReadFull(r, buf[:1]); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("offset %d: more than %d records", int64(records)*int64(len(buf)), records)
	}
	return nil
}

// add appends an image of three planes.
func (c *cifarFormat) add(out *pixels, label byte, planes []byte) {
	out.labels = append(out.labels, int32(label))
	at := len(out.pix)
	out.pix = append(out.pix, planes...)
	image := out.pix[at:]
	for p := range cifarPlane {
		image[3*p], image[3*p+1], image[3*p+2] = planes[p], planes[cifarPlane+p], planes[2*cifarPlane+p]
	}
}

// maxNamesBytes bounds the list of the classes' names.
const maxNamesBytes = 1 << 16

// classNames reads one name a line; without the file the names are numbers.
func (c *cifarFormat) classNames(path string) ([]string, error) {
	text, err := files.ReadText(path, maxNamesBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return numbered(c.classes), nil
	}
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(text))
	if len(names) != c.classes {
		return nil, fmt.Errorf("%s: %d names, want %d", path, len(names), c.classes)
	}
	return names, nil
}

// Numbered tells whether classes have the names 0, 1, 2, …: those that nothing names.
func Numbered(classes []string) bool { return slices.Equal(classes, numbered(len(classes))) }

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	return names
}
