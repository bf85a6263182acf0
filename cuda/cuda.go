// Package cuda runs kernels on NVIDIA GPUs: devices, memory, and sequences of launches that are recorded once, mostly
// as a CUDA graph, and run by one call. It takes compiled kernels (fatbins) and argument structs, and knows nothing of
// what they compute.
//
// The build tag cuda selects the real thing, which `make gpu` builds. Without it the same functions exist and say what
// is missing. A program with GPU support also starts where there is no driver: libcuda.so.1 is looked for by the first
// call (see shim/shim.c).
//
// gorgonia.org/cu gives devices, the primary context, streams, events, memory and modules; driver.c beside this file
// does what cu lacks or does slowly: pinned memory, graphs, shared memory above 48 KiB. cu's Ctx and BatchedContext are
// not used: the first hands every call to another thread, the second leaks.
package cuda

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Info describes a GPU. Where the driver does not tell a number it is 0.
type Info struct {
	Name            string // "cuda:0", of the driver's number
	Model           string // as NVIDIA calls it
	SM              int    // compute capability: 90 is 9.0
	SMs             int    // multiprocessors
	MemoryBytes     int64
	Driver          string // the CUDA version that the driver supports, "13.0"
	ClockMHz        int
	MemoryClockMHz  int
	MemoryBusBits   int
	L2Bytes         int
	SharedPerBlock  int // the most a block can ask for, in bytes
	SharedPerSM     int // bytes
	RegistersPerSM  int // of 32 bits
	ThreadsPerSM    int
	UnifiedWithHost bool // an integrated GPU, which shares the host's memory
}

// Every names the GPUs of a list that have an architecture ("sm_90") as one device: "cuda:0,3". If none has it all
// stand there, and say so when they are opened.
func Every(list []Info, architecture string) string {
	of := slices.DeleteFunc(slices.Clone(list), func(i Info) bool { return fmt.Sprintf("sm_%d", i.SM) != architecture })
	if len(of) == 0 {
		of = list
	}
	names := make([]string, len(of))
	for i, info := range of {
		names[i] = strings.TrimPrefix(info.Name, "cuda:")
	}
	return "cuda:" + strings.Join(names, ",")
}

// Launch is one kernel launch of a Sequence. The entry takes one parameter, a struct passed by value, or none.
type Launch struct {
	File   string         // base name of the .cu file in which the entry stands
	Entry  string         // the extern "C" name
	Grid   [3]int         // blocks
	Block  int            // threads, one-dimensional
	Shared int            // bytes of dynamic shared memory
	Args   unsafe.Pointer // the struct, in C memory, read when the sequence is made
	Size   int            // its bytes, at most 4096
}

// ImageMap describes an NHWC tensor of bfloat16 to kernels for compute capability 9.0, which copy from it: 64 channels
// of Pixels pixels at a time. A copy goes along the rows, and on to the next row and image, within the box from Lower
// to W or H plus Upper; outside of the tensor it finds zeros.
type ImageMap struct {
	Z            unsafe.Pointer // a multiple of 16 bytes
	N, H, W, C   int
	LD           int    // elements from a pixel to the next, a multiple of 8
	Lower, Upper [2]int // along the rows, and down; -128..127
	Pixels       int    // 1..1024
}

// ImageMapBytes is the size of what kernels get for an ImageMap, exec/hopper.h's ctn_image_map.
const ImageMapBytes = 128

// KernelInfo is what one kernel needs and how well it fills a multiprocessor.
type KernelInfo struct {
	Registers    int     // a thread's, of 32 bits
	StaticShared int     // a block's, in bytes
	LocalBytes   int     // a thread's, in bytes: arrays that are indexed at run time, and spilled registers
	MaxBlock     int     // threads, as far as its registers allow
	BlocksPerSM  int     // resident at once with the block and shared memory asked for
	Occupancy    float64 // resident threads over the most that fit
}
