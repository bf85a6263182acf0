// Package cuda is NVIDIA GPUs: devices, memory, streams, and recorded sequences of kernel launches that run in one call.
package cuda

import "unsafe"

// Launch is one kernel launch of a Sequence. An entry takes one parameter, a struct passed by value.
type Launch struct {
	File   string // base name of the .cu file in which the entry stands
	Entry  string // its extern "C" name
	Grid   [3]int
	Block  int            // threads
	Shared int            // bytes of dynamic shared memory
	Args   unsafe.Pointer // the struct, in C memory, read when the sequence is made
	Size   int            // its bytes, at most 4096
}
