//go:build !cuda

package fatbin

// Image returns nil: this program was built without GPU support.
func Image(string) []byte { return nil }
