package made

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
)

// Cache is a folder of trainings that several processes share: NAME.json is the record of one that has ended, the
// folder NAME is one in work; NAME is a hash of everything that a training's outcome depends on. Both lie in a folder
// named by its first two digits.
type Cache string

// Base is the path of a training without an ending: that of its folder.
func (c Cache) Base(name string) string { return filepath.Join(string(c), name[:2], name) }

// maxRecordBytes bounds what is read of a record; one has some thousand bytes.
const maxRecordBytes = 1 << 20

// Load reads a training's record into r, whose check tells whether it is one of this training; false where there is
// none. A file that is no record, was changed or is another training's is an error. what names the training for people.
func (c Cache) Load(name, what string, r any, check func() error) (found bool, err error) {
	path := c.Base(name) + ".json"
	text, err := files.Read(path, maxRecordBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err = checkpoint.OpenJSON(text, r); err == nil {
		err = check()
	}
	if err != nil {
		return false, fmt.Errorf("%s, which keeps the training of %s, cannot be believed: %w; delete the file to have "+
			"it trained again", path, what, err)
	}
	return true, nil
}

// Put stores a training's record.
func (c Cache) Put(name string, r any) error {
	text, err := checkpoint.SealJSON(r)
	if err != nil {
		return err
	}
	path := c.Base(name) + ".json"
	if err := files.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	return files.Write(path, text)
}

// Claim makes the folder of a training in work and waits until nobody else works in it.
func (c Cache) Claim(ctx context.Context, name string) (dir string, lock *files.FolderLock, err error) {
	dir = c.Base(name)
	lock, err = files.Claim(ctx, dir, "a training for a label")
	return dir, lock, err
}

// Empty removes everything from a folder of work but its lock and what is kept.
func Empty(dir string, kept ...string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != files.LockName && !slices.Contains(kept, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// Folder is the default one of a kind of labels, in the user's cache folder.
func Folder(kind string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w; name one with --label-cache", err)
	}
	return filepath.Join(cache, "ctnas", kind), nil
}
