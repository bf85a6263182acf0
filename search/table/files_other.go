//go:build !unix

package table

import (
	"io"
	"os"
	"path/filepath"
)

// mapFile reads the file where there is no mapping of files.
func mapFile(file *os.File) ([]byte, func() error, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(file)
	return data, func() error { return nil }, err
}

// createAtomic opens a file that takes its name only when it is whole.
func createAtomic(path string) (atomicFile, error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	return &renamedFile{File: file, path: path}, nil
}

type renamedFile struct {
	*os.File
	path string
	done bool
}

func (f *renamedFile) Cleanup() error {
	if f.done {
		return nil
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

func (f *renamedFile) CloseAtomicallyReplace() error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	f.done = true
	return os.Rename(f.Name(), f.path)
}
