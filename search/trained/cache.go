package trained

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// Key is everything that a training's outcome depends on.
type Key struct {
	Format    int            `json:"format"` // of Record
	Arch      string         `json:"arch"`
	Images    string         `json:"images"`       // checksum
	Train     int            `json:"train_images"` // how many; which of them are held out, the seed says
	Recipe    trainer.Recipe `json:"recipe"`
	Seed      uint64         `json:"seed"`
	OnNaN     string         `json:"on_nan"`
	OnCorrupt data.OnCorrupt `json:"on_corrupt"`
	Level     string         `json:"level"`           // of the device
	Decoder   string         `json:"decoder"`         // of images
	Version   string         `json:"version"`         // of the program
	Start     string         `json:"start,omitempty"` // checksum of what it began with
}

func (k Key) hash() string {
	text, _ := json.Marshal(k) // numbers and text
	return digest.Of(text)
}

// Record is a training in the cache.
type Record struct {
	Key Key `json:"key"` // of which the file's name is a hash
	// Validation is the accuracy after each epoch: fewer than the recipe's where it was stopped or diverged.
	Validation []float64 `json:"validation"`
	Test       *float64  `json:"test"` // accuracy at the end; null where it was stopped or diverged
	Diverged   string    `json:"diverged,omitempty"`
	// Corrupt are the images that could not be read and were left out; absent without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
	Params  int64               `json:"params"`
	MAdds   int64               `json:"madds"`
	Seconds float64             `json:"seconds"` // of the process that ended it
}

// recordFormat counts the forms that records have had: 1 had no seal, and a key that did not tell images of equal
// names apart.
const recordFormat = 2

// cache is a folder of trainings that several processes share: KEY.json is a training that has ended, the folder KEY
// is one in work, with its checkpoints; KEY is a key's hash. Both lie in a folder named by its first two digits.
type cache string

func (c cache) base(k Key) string {
	hash := k.hash()
	return filepath.Join(string(c), hash[:2], hash)
}

// maxRecordBytes bounds what is read of a record; one has some thousand bytes.
const maxRecordBytes = 1 << 20

// load returns the record of a key, nil where there is none. A file that is no record, was changed or is another
// training's is an error.
func (c cache) load(k Key) (*Record, error) {
	path := c.base(k) + ".json"
	text, err := files.Read(path, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r, err := decodeRecord(text)
	if err == nil && r.Key != k {
		err = fmt.Errorf("it is the record of %s with seed %d in another file's place", r.Key.Arch, r.Key.Seed)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, which keeps the training of %s with seed %d, cannot be believed: %w; "+
			"delete the file to have it trained again", path, k.Arch, k.Seed, err)
	}
	return r, nil
}

// decodeRecord checks what store wrote.
func decodeRecord(text []byte) (*Record, error) {
	r := &Record{}
	if err := checkpoint.OpenJSON(text, r); err != nil {
		return nil, err
	}
	accuracies := r.Validation
	if r.Test != nil {
		accuracies = append(slices.Clip(accuracies), *r.Test)
	}
	for _, v := range accuracies {
		if !(v >= 0 && v <= 1) {
			return nil, fmt.Errorf("an accuracy of %g", v)
		}
	}
	if len(r.Validation) > r.Key.Recipe.Epochs {
		return nil, fmt.Errorf("%d epochs of %d", len(r.Validation), r.Key.Recipe.Epochs)
	}
	return r, nil
}

func (c cache) store(r *Record) error {
	text, err := checkpoint.SealJSON(r)
	if err != nil {
		return err
	}
	return files.Write(c.base(r.Key)+".json", text)
}

// claim makes the folder of a training in work and waits until nobody else works in it.
func (c cache) claim(ctx context.Context, k Key) (dir string, lock *files.FolderLock, err error) {
	dir = c.base(k)
	lock, err = files.Claim(ctx, dir, "a training for a label")
	return dir, lock, err
}

// empty removes everything from a folder of work but its lock.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != files.LockName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
