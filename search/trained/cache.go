package trained

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/trainer"
)

// key is everything that a training's outcome depends on.
type key struct {
	Format  int // of Record
	Arch    string
	Data    string // checksum
	Train   int    // images; which of them are held out, the seed says
	Recipe  trainer.Recipe
	Seed    uint64
	OnNaN   string
	Level   string // of the device
	Decoder string // of images
	Version string // of the program
}

func (k key) hash() string {
	text, _ := json.Marshal(k) // numbers and text
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Record is a training in the cache: Arch and Recipe are for its reader, the file's name is the key.
type Record struct {
	Arch       string         `json:"arch"`
	Recipe     trainer.Recipe `json:"recipe"`
	Seed       uint64         `json:"seed"`
	Validation []float64      `json:"validation"` // accuracy after each epoch; fewer than the recipe's where it was stopped or diverged
	Test       *float64       `json:"test"`       // accuracy at the end; null where it was stopped or diverged
	Diverged   string         `json:"diverged,omitempty"`
	Params     int64          `json:"params"`
	MAdds      int64          `json:"madds"`
	Seconds    float64        `json:"seconds"` // of the process that ended it
	Device     string         `json:"device"`
	Version    string         `json:"version"`
}

const recordFormat = 2

// cache is a folder of trainings that several processes share: KEY.json is a training that has ended, the folder KEY is one in work, with its
// checkpoints. Both lie in a folder named by the key's first two digits.
type cache string

func (c cache) base(hash string) string { return filepath.Join(string(c), hash[:2], hash) }

// maxRecordBytes bounds what is read of a record; one has some thousand bytes.
const maxRecordBytes = 1 << 20

// load returns the record of a key, nil where there is none. A file that is no record is an error.
func (c cache) load(hash string) (*Record, error) {
	path := c.base(hash) + ".json"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if info.Size() > maxRecordBytes {
		return nil, fmt.Errorf("%s: %d bytes, which no record of a training has", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s is damaged, delete it: %w", path, err)
	}
	for _, v := range r.Validation {
		if !(v >= 0 && v <= 1) {
			return nil, fmt.Errorf("%s is damaged, delete it: an accuracy of %g", path, v)
		}
	}
	return r, nil
}

func (c cache) store(hash string, r *Record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(c.base(hash)+".json", append(text, '\n'))
}

// claim makes the folder of a training in work and waits until nobody else works in it. release lets others in.
func (c cache) claim(ctx context.Context, hash string) (dir string, release func(), err error) {
	dir = c.base(hash)
	lock, err := files.Claim(ctx, dir, "a training for a label")
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = lock.Unlock() }, nil
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
