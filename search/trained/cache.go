package trained

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/search/made"
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

// Cache is a folder of trainings that several processes share, with their checkpoints while they are in work.
type Cache string

func (c Cache) base(k Key) string { return made.Cache(c).Base(k.hash()) }

// weights is the file of a training's weights, where they are kept.
func (c Cache) weights(k Key) string { return c.base(k) + filepath.Ext(trainer.WeightsName) }

// Load returns the record of a key, nil where there is none. A file that is no record, was changed or is another
// training's is an error.
func (c Cache) Load(k Key) (*Record, error) {
	r := &Record{}
	found, err := made.Cache(c).Load(k.hash(), fmt.Sprintf("%s with seed %d", k.Arch, k.Seed), r, func() error {
		if err := r.check(); err != nil {
			return err
		}
		if r.Key != k {
			return fmt.Errorf("it is the record of %s with seed %d in another file's place", r.Key.Arch, r.Key.Seed)
		}
		return nil
	})
	if !found {
		return nil, err
	}
	return r, err
}

// check finds what no training leaves.
func (r *Record) check() error {
	accuracies := r.Validation
	if r.Test != nil {
		accuracies = append(slices.Clip(accuracies), *r.Test)
	}
	for _, v := range accuracies {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("an accuracy of %g", v)
		}
	}
	if len(r.Validation) > r.Key.Recipe.Epochs {
		return fmt.Errorf("%d epochs of %d", len(r.Validation), r.Key.Recipe.Epochs)
	}
	return nil
}

// Put stores a record.
func (c Cache) Put(r *Record) error { return made.Cache(c).Put(r.Key.hash(), r) }
