//go:build unix

package data

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// stampOf is the stamp of a named file or, where it is open, of an open one: the whole of it is the image.
func stampOf(name, path string, open *os.File) stamp {
	var st unix.Stat_t
	for {
		var err error
		if open != nil {
			err = unix.Fstat(int(open.Fd()), &st)
		} else {
			err = unix.Stat(path, &st)
		}
		if errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return stamp{file: name, unavailable: true}
		}
		return stamp{file: name, inode: st.Ino, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
			length: st.Size}
	}
}
