package supernet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// Key is everything that a measurement depends on.
type Key struct {
	Format    int    `json:"format"` // of Record
	Arch      string `json:"arch"`
	Weights   string `json:"weights"` // checksum of the file
	Images    string `json:"images"`  // checksum of the set
	Split     string `json:"split"`
	Judging   int    `json:"judging_images"`
	Calibrate int    `json:"calibration_images"`
	Seed      uint64 `json:"seed"`
	// Statistics are StatisticsBatch; empty: the sub-network's own.
	Statistics string `json:"statistics,omitempty"`
	Level      string `json:"level"`   // of the device
	Decoder    string `json:"decoder"` // of images
	Version    string `json:"version"` // of the program
}

func (k Key) hash() string {
	text, _ := json.Marshal(k) // numbers and text
	return digest.Of(text)
}

// Record is a measurement in the cache.
type Record struct {
	Key Key `json:"key"` // of which the file's name is a hash
	Measured
}

// recordFormat counts the forms that records have had.
const recordFormat = 1

func (e *Evaluator) keyOf(arch string) Key {
	k := Key{Format: recordFormat, Arch: arch, Weights: e.Weights.Checksum, Images: e.checksum, Split: e.Split,
		Judging: e.Judging(), Calibrate: e.Calibrate, Seed: e.Seed, Level: e.level, Decoder: data.Decoder,
		Version: e.Version}
	if e.batched() {
		k.Statistics, k.Seed = e.Statistics, 0 // which draws images of calibration
	}
	return k
}

// cache is a folder of measurements that several processes share, a file each in a folder named by its first two
// digits. Two processes that measure the same at once write the same.
type cache string

func (c cache) path(k Key) string {
	hash := k.hash()
	return filepath.Join(string(c), hash[:2], hash+".json")
}

// maxRecordBytes bounds what is read of a record; one has some hundred bytes.
const maxRecordBytes = 1 << 20

// load returns the record of a key, nil where there is none. A file that is no record, was changed or is another
// measurement's is an error.
func (c cache) load(k Key) (*Record, error) {
	if c == "" {
		return nil, nil
	}
	path := c.path(k)
	text, err := files.Read(path, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := &Record{}
	if err = checkpoint.OpenJSON(text, r); err == nil {
		err = r.check(k)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which keeps the evaluation of %s, cannot be believed: %w; delete the file to have "+
			"it evaluated again", path, k.Arch, err)
	}
	return r, nil
}

// check tells whether it is the record of a key.
func (r *Record) check(k Key) error {
	switch {
	case r.Key != k:
		return fmt.Errorf("it is the record of %s with another key", r.Key.Arch)
	case !(r.Top1 >= 0 && r.Top1 <= 1) || !(r.Top5 >= 0 && r.Top5 <= 1) || r.Measured.Images != k.Judging:
		return fmt.Errorf("an accuracy of %g of %d images", r.Top1, r.Measured.Images)
	}
	return nil
}

func (c cache) store(r *Record) error {
	if c == "" {
		return nil
	}
	text, err := checkpoint.SealJSON(r)
	if err != nil {
		return err
	}
	path := c.path(r.Key)
	if err := files.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return files.Write(path, text)
}

// cached returns what the cache holds of an architecture, nil where it holds nothing.
func (e *Evaluator) cached(a space.Arch) (*Record, error) {
	return cache(e.Cache).load(e.keyOf(a.String()))
}

func (e *Evaluator) keep(a space.Arch, m Measured) error {
	return cache(e.Cache).store(&Record{e.keyOf(a.String()), m})
}
