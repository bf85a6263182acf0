package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/google/renameio/v2"
)

// Pending is a file that takes its name only when it is whole: it is written beside the target, under a name with a
// leading dot.
type Pending struct {
	file *renameio.PendingFile
	path string
}

// Create begins a file. What of it has been written by a process that was killed stays behind until Sweep.
func Create(path string) (*Pending, error) {
	// Beside the target: within one file system a rename is atomic, the folder's group and quota apply, and what a kill
	// leaves behind lies where its owner looks.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o644))
	if err != nil {
		return nil, about(path, err)
	}
	return &Pending{f, path}, nil
}

func (p *Pending) Write(data []byte) (int, error) {
	n, err := p.file.Write(data)
	return n, about(p.path, err)
}

// WriteAt writes at an offset, and Seek moves the next Write, as of os.File.
func (p *Pending) WriteAt(data []byte, offset int64) (int, error) {
	n, err := p.file.WriteAt(data, offset)
	return n, about(p.path, err)
}

// Seek moves where the next Write writes.
func (p *Pending) Seek(offset int64, whence int) (int64, error) {
	n, err := p.file.Seek(offset, whence)
	return n, about(p.path, err)
}

// Commit flushes the file to the disk, gives it its name in place of a file that has it, and flushes the name.
func (p *Pending) Commit() error {
	if err := p.file.CloseAtomicallyReplace(); err != nil {
		return about(p.path, err)
	}
	return SyncDir(filepath.Dir(p.path))
}

// Sync flushes what has been written to the disk.
func (p *Pending) Sync() error { return about(p.path, p.file.Sync()) }

// Discard removes what was written, unless it has been committed.
func (p *Pending) Discard() { _ = p.file.Cleanup() }

// about makes an error name the file that is wanted, not the one that it is written to until it is whole.
func about(path string, err error) error {
	var named *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &named):
		return &fs.PathError{Op: named.Op, Path: path, Err: named.Err}
	case errors.As(err, &link):
		return &fs.PathError{Op: link.Op, Path: path, Err: link.Err}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Write writes a file whole or not at all, flushed to the disk with its name.
func Write(path string, data []byte) error {
	p, err := Create(path)
	if err != nil {
		return err
	}
	defer p.Discard()
	if _, err := p.Write(data); err != nil {
		return err
	}
	return p.Commit()
}

// Rename gives a file another name and flushes both folders.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if a, b := filepath.Dir(from), filepath.Dir(to); a != b {
		if err := SyncDir(a); err != nil {
			return err
		}
	}
	return SyncDir(filepath.Dir(to))
}

// MkdirAll makes a folder and those above it that are missing, and flushes the names of what it made.
func MkdirAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(filepath.Clean(dir))
	if above != filepath.Clean(dir) {
		if err := MkdirAll(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		if info, e := os.Stat(dir); e == nil && info.IsDir() { // made by another process in between
			return nil
		}
		return err
	} else if err != nil {
		return err
	}
	return SyncDir(above)
}

// leftover is the name of a file that Create began: a dot, the target's name, digits.
var leftover = regexp.MustCompile(`^\.(.+?)\d+$`)

// Sweep removes from a folder what processes that were killed left of the files named: beginnings that never took their
// name. Whoever sweeps has the folder locked.
func Sweep(dir string, names ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		m := leftover.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		for _, name := range names {
			if m[1] == name {
				err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return err
}
