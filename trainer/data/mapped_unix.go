//go:build unix

package data

import "golang.org/x/sys/unix"

// mapped is memory of the system that Go's collector does not know of.
func mapped(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmap gives it back, which cannot fail for what mapped has returned.
func unmap(memory []byte) { _ = unix.Munmap(memory) }
