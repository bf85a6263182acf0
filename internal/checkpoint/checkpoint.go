// Package checkpoint keeps the state of a run in its folder: two files, of which one is whole at every moment.
package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
)

// The folder within a run's, and the two files in it.
const (
	Dir      = "checkpoint"
	Latest   = "latest"
	Previous = "previous"
)

// ErrNone says that a run folder holds no checkpoint.
var ErrNone = errors.New("no checkpoint")

// Take makes the folder of a run and takes it for this process, which command started, until it is unlocked. What a
// process that was killed left half-written there is tidied: of the files of these names, and of checkpoints.
func Take(dir, command string, names ...string) (*files.FolderLock, error) {
	if err := files.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := files.Lock(dir, command)
	if err != nil {
		return nil, err
	}
	err = files.Sweep(dir, names...)
	if e := files.Sweep(filepath.Join(dir, Dir), Latest); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

// Seal puts a line that names the format and its version (magic) and the SHA-256 of the body before a body.
func Seal(magic string, body []byte) []byte {
	sum := sha256.Sum256(body)
	out := make([]byte, 0, len(magic)+len(sum)+len(body))
	return append(append(append(out, magic...), sum[:]...), body...)
}

// Open checks what Seal made and returns the body.
func Open(magic string, data []byte) (body []byte, err error) {
	head := len(magic) + sha256.Size
	if len(data) < head || string(data[:len(magic)]) != magic {
		return nil, errors.New("not a checkpoint of this version of the format")
	}
	if sha256.Sum256(data[head:]) != [sha256.Size]byte(data[len(magic):head]) {
		return nil, errors.New("a damaged checkpoint: the checksum is wrong")
	}
	return data[head:], nil
}

// whole tells whether a file is what Seal made, of whatever magic line and body.
func whole(path string) bool {
	file, err := files.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	r := bufio.NewReader(file)
	var want [sha256.Size]byte
	if line, err := r.ReadSlice('\n'); err != nil || len(line) == 0 {
		return false
	} else if _, err := io.ReadFull(r, want[:]); err != nil {
		return false
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return false
	}
	return [sha256.Size]byte(sum.Sum(nil)) == want
}

// Write puts a checkpoint that Seal made into a run folder, flushed to the disk; the one before stays as the previous
// one, unless it is damaged: then the previous one is the only one that is whole until this one stands.
func Write(folder string, data []byte) error { return write(folder, data, false) }

// write is Write; who has written the latest one himself knows that it is whole.
func write(folder string, data []byte, known bool) error {
	begin := time.Now()
	dir := filepath.Join(folder, Dir)
	if err := files.MkdirAll(dir); err != nil {
		return err
	}
	latest := filepath.Join(dir, Latest)
	file, err := files.Create(latest)
	if err != nil {
		return err
	}
	defer file.Discard()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if known || whole(latest) {
		if err := files.Rename(latest, filepath.Join(dir, Previous)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := file.Commit(); err != nil {
		return err
	}
	metrics.CheckpointSeconds.Observe(time.Since(begin))
	return nil
}

// maxBytes bounds what is read of a checkpoint: the weights, moments and average of 4e9 parameters.
const maxBytes = 64 << 30

// Read gives decode the newest checkpoint of a run folder, and the previous one where decode refuses that. ErrNone
// where there is none.
func Read(folder string, decode func(data []byte) error) error {
	var damaged error
	for _, name := range []string{Latest, Previous} {
		path := filepath.Join(folder, Dir, name)
		data, err := files.Read(path, maxBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err = decode(data); err == nil {
			return nil
		}
		damaged = errors.Join(damaged, fmt.Errorf("%s: %w", path, err))
	}
	if damaged != nil {
		return damaged
	}
	return fmt.Errorf("%s: %w", folder, ErrNone)
}
