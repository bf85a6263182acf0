//go:build !cuda

package fatbin

// Embedded tells whether this program runs kernels on GPUs.
const Embedded = false

func embedded(string) []byte { return nil }
