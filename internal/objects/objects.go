// Package objects keeps whole files under names, in a folder or in a bucket of S3: checkpoints of machines that may
// vanish, and sets of images on their way to a disk.
package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/files"
)

// Store keeps objects by their names, which are relative paths with slashes. Errors name the store and the object;
// fs.ErrNotExist says that there is none.
type Store interface {
	// Put stores size bytes of r, whose SHA-256 is sum (hexadecimal), in place of what has the name: all of them or
	// nothing.
	Put(ctx context.Context, name string, r io.ReaderAt, size int64, sum string) error
	// Get writes an object to w. What w has got is the object only where there is no error.
	Get(ctx context.Context, name string, w io.Writer) error
	// List returns the objects whose names begin with a prefix, by their names.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// String is the text that Open opens it by.
	String() string
}

// Object is what a store says of one.
type Object struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

// Scheme begins the text of a bucket.
const Scheme = "s3://"

// Open opens what a text names: s3://BUCKET/PREFIX, or a folder, which is made when something is put there.
func Open(text string) (Store, error) {
	if strings.HasPrefix(text, Scheme) {
		return openBucket(text)
	}
	if text == "" || strings.Contains(text, "://") {
		return nil, fmt.Errorf("%q: want %sBUCKET/PREFIX or a folder", text, Scheme)
	}
	return folder(text), nil
}

// checkName refuses names that would lead out of a folder, or that no folder could hold.
func checkName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
		return fmt.Errorf("%q is no name of an object: want a relative path", name)
	}
	return nil
}

// folder is a store in a folder. Files that begin with a dot are not its own.
type folder string

func (f folder) String() string { return string(f) }

func (f folder) path(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("%s: %w", f, err)
	}
	return filepath.Join(string(f), filepath.FromSlash(name)), nil
}

func (f folder) Put(ctx context.Context, name string, r io.ReaderAt, size int64, sum string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := files.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := files.Create(path)
	if err != nil {
		return err
	}
	defer file.Discard()
	whole := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, whole), reader{ctx, io.NewSectionReader(r, 0, size)})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(whole.Sum(nil)); n != size || got != sum {
		return fmt.Errorf("%s: what was to be stored is %d bytes of SHA-256 %s, want %d of %s", path, n, got, size, sum)
	}
	return file.Commit()
}

func (f folder) Get(ctx context.Context, name string, w io.Writer) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	file, err := files.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, reader{ctx, file})
	return err
}

func (f folder) List(ctx context.Context, prefix string) (all []Object, err error) {
	err = filepath.WalkDir(string(f), func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == string(f):
			return nil
		case err != nil:
			return err
		case strings.HasPrefix(e.Name(), ".") && path != string(f) && e.IsDir():
			return filepath.SkipDir
		case !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "."):
			return ctx.Err()
		}
		inside, err := filepath.Rel(string(f), path)
		if err != nil {
			return err
		}
		if name := filepath.ToSlash(inside); strings.HasPrefix(name, prefix) {
			info, err := e.Info()
			if err != nil {
				return err
			}
			all = append(all, Object{name, info.Size(), info.ModTime()})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

func (f folder) Delete(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// putFile stores the first bytes of a file.
func putFile(ctx context.Context, s Store, name string, file *os.File, size int64) error {
	whole := sha256.New()
	if _, err := io.Copy(whole, reader{ctx, io.NewSectionReader(file, 0, size)}); err != nil {
		return fmt.Errorf("%s: %w", file.Name(), err)
	}
	return s.Put(ctx, name, file, size, hex.EncodeToString(whole.Sum(nil)))
}

// GetFile writes an object to a file, whole or not at all. The file's time is `modified` unless that is zero.
func GetFile(ctx context.Context, s Store, name, path string, modified time.Time) error {
	if err := files.MkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := files.Create(path)
	if err != nil {
		return err
	}
	defer file.Discard()
	if err := s.Get(ctx, name, file); err != nil {
		return err
	}
	if err := file.Commit(); err != nil || modified.IsZero() {
		return err
	}
	return os.Chtimes(path, modified, modified)
}
