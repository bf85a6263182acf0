//go:build unix

package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// SyncDir flushes the names in a folder to the disk: without it a file that was renamed or made is lost by a loss of
// power, though its content is on the disk.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) { // file systems that have no such thing
		err = nil
	}
	return errors.Join(err, f.Close())
}
