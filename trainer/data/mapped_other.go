//go:build !unix

package data

// mapped is memory.
func mapped(n int) ([]byte, error) { return make([]byte, n), nil }

// unmap leaves it to Go.
func unmap([]byte) {}
