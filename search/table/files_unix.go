//go:build unix

package table

import (
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// mapFile maps a file for reading, so that only what is used takes memory. The file must not be cut short while it is open, which
// WriteCTT never does: it writes another file and renames it.
func mapFile(file *os.File) ([]byte, func() error, error) {
	stat, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	size := stat.Size()
	if int64(int(size)) != size {
		return nil, nil, fmt.Errorf("%d bytes are too many for this machine", size)
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map: %w", err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// createAtomic opens a file that takes its name only when it is whole.
func createAtomic(path string) (atomicFile, error) {
	return renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
}
