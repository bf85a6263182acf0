//go:build !cuda

package serve

import "io"

type noGPUs struct{}

func (noGPUs) Close() error { return nil }

// watchGPUs watches none: the program is built without GPUs.
func watchGPUs() io.Closer { return noGPUs{} }
