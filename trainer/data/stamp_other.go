//go:build !unix

package data

import (
	"io/fs"
	"os"
)

// stampOf is the stamp of a named file or, where it is open, of an open one: the whole of it is the image.
func stampOf(name, path string, open *os.File) stamp {
	var info fs.FileInfo
	var err error
	if open != nil {
		info, err = open.Stat()
	} else {
		info, err = os.Stat(path)
	}
	if err != nil {
		return stamp{file: name, unavailable: true}
	}
	return stamp{file: name, size: info.Size(), mtime: info.ModTime().UnixNano(), length: info.Size()}
}
