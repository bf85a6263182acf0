// Package files opens, reads and writes the files of people and of runs: what is opened for reading is a regular file
// of bounded size, what is written is whole or not there, and a folder has one writer at a time.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Open opens a regular file for reading. A device, a pipe, a socket or a folder is an error that names it and says what
// it is: reading /dev/zero would never end, and opening a pipe without a writer never begins.
func Open(path string) (*os.File, error) { return OpenFile(path, os.O_RDONLY) }

// OpenFile is Open with the flags of os.OpenFile, for a file that is also written. One that it makes has the mode 0644.
func OpenFile(path string, flag int) (*os.File, error) {
	// What a name stands for can change between a look at it and the opening of it: so the opening must not wait, and
	// what was opened is looked at.
	f, err := os.OpenFile(path, flag|dontWait, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s, want a regular file", path, kind(info.Mode()))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Absolute is the path that means the same file in any working directory. An empty one names nothing and stays.
func Absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// kind says in words what a file is that is not a regular one.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}

// Read returns the whole of a regular file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return read(f, path, limit)
}

// ReadText is Read for text: UTF-8 with or without a byte-order mark, or UTF-16 with one. The result is UTF-8 without a
// mark.
func ReadText(path string, limit int64) ([]byte, error) {
	text, err := Read(path, limit)
	if err != nil {
		return nil, err
	}
	if text, _, err = transform.Bytes(decoder(), text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

// Text is what ReadText does to a file, for a stream.
func Text(r io.Reader) io.Reader { return transform.NewReader(r, decoder()) }

func decoder() transform.Transformer { return unicode.BOMOverride(transform.Nop) }

// read reads at most limit bytes. The size is asked for first, so that what is refused is not read, and counted again,
// for a file may grow.
func read(f *os.File, path string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size <= limit {
		data := make([]byte, 0, size+1) // one more, so that the end is seen without growing
		for {
			n, err := f.Read(data[len(data):cap(data)])
			data = data[:len(data)+n]
			if errors.Is(err, io.EOF) {
				return data, nil
			} else if err != nil {
				return nil, err
			}
			if size = int64(len(data)); size > limit {
				break
			}
			if len(data) == cap(data) {
				data = append(data, 0)[:len(data)]
			}
		}
	}
	return nil, fmt.Errorf("%s: %d bytes, at most %d are accepted", path, size, limit)
}
