//go:build !cuda

package fatbin

// Embedded tells whether this program holds compiled kernels.
const Embedded = false

// Image is nil in a program without GPU support.
func Image(string) []byte { return nil }
