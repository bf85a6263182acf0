// Package sim runs the CUDA kernels on the CPU, for tests: the families' .cu files compiled as C++, each CUDA thread a
// fiber. It checks what a GPU would not say: a kernel's mistake is an error that names the entry.
//
// Found in every run: a barrier or a warp function that not all threads reach; writes beside buffers and shared memory;
// launches that a GPU refuses. Found by their results: memory that was not written, shared memory included, holds NaN;
// a missing barrier in one of the orders; a missing cp_async_wait. Not found: races between blocks, reads beside a
// buffer (AddressSanitizer finds them), and a thread that spins until another one writes, which never ends.
//
// A family's X.cu becomes part of the simulator by a file X.cpp here that includes it; each CTN_ENTRY in it then makes
// itself known.
//
// The family embeds its .cu files and this package imports it, so that the go command compiles the simulator again when
// one changes. Its tests run their cases on devices of the simulator (kerneltest.EachDevice says in which orders), and
// their TestMain is Main, which requires that every entry was launched.
package sim

/*
#cgo CXXFLAGS: -g1 -std=c++17 -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi -fno-strict-aliasing
#cgo LDFLAGS: -lpthread
#include <stdlib.h>
#include "sim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

// Headers that the kernels include: importing them makes the go command compile the simulator again when one changes.
var _ = exec.Headers

// Order is the order in which threads and blocks get their turn.
type Order int

// A thread runs until it waits for others, so a missing barrier shows in at least one of the first two orders where
// neighbours exchange data, and in the third where the pattern is less plain.
const (
	Ascending  Order = C.CTN_SIM_ASCENDING
	Descending Order = C.CTN_SIM_DESCENDING
	Random     Order = C.CTN_SIM_RANDOM
)

// Orders lists all orders. Tests of kernels run in one each, or, with every case of theirs, in all.
var Orders = []Order{Ascending, Descending, Random}

func (o Order) String() string { return [...]string{"ascending", "descending", "random"}[o] }

// Config chooses the order, the seed of the random one, and the number of the host's threads that run blocks (0 = all
// processors).
type Config struct {
	Order   Order
	Seed    uint32
	Threads int
}

// Launch is one kernel launch.
type Launch = cuda.Launch

// Device is a simulated GPU. After a failed launch it answers everything but Free and Close with that error, as a GPU
// does.
type Device struct {
	config  Config
	buffers map[unsafe.Pointer]int // bytes
	err     error
}

// Open returns a device.
func Open(c Config) *Device { return &Device{config: c, buffers: map[unsafe.Pointer]int{}} }

// Level names the executor: "sim/descending".
func (d *Device) Level() string { return "sim/" + d.config.Order.String() }

// Alloc returns memory of so many bytes, each 0xFF.
func (d *Device) Alloc(bytes int) (unsafe.Pointer, error) {
	if bytes < 0 {
		return nil, fmt.Errorf("a buffer of %d bytes", bytes)
	}
	p := C.ctn_sim_alloc(C.size_t(bytes))
	if p == nil {
		return nil, fmt.Errorf("out of memory: a buffer of %d bytes", bytes)
	}
	d.buffers[p] = bytes
	return p, nil
}

// Free returns the memory of an Alloc.
func (d *Device) Free(p unsafe.Pointer) {
	if p == nil {
		return
	}
	if _, ok := d.buffers[p]; !ok {
		panic("sim: Free of an address that is not a buffer's")
	}
	delete(d.buffers, p)
	C.ctn_sim_free(p)
}

// Write copies n bytes of the host at src into a buffer.
func (d *Device) Write(dst, src unsafe.Pointer, n int) error {
	if err := d.check(dst, n); err != nil {
		return err
	}
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
	return nil
}

// Read copies n bytes of a buffer to the host at dst.
func (d *Device) Read(dst, src unsafe.Pointer, n int) error {
	if err := d.check(src, n); err != nil {
		return err
	}
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
	return nil
}

// check requires the n bytes at p to lie within a buffer.
func (d *Device) check(p unsafe.Pointer, n int) error {
	if d.err != nil {
		return d.err
	}
	for base, size := range d.buffers {
		if off := int(uintptr(p) - uintptr(base)); off >= 0 && n >= 0 && off <= size && n <= size-off {
			return nil
		}
	}
	return fmt.Errorf("a copy of %d bytes that are not within a buffer", n)
}

// Sequence is a list of launches that runs as one.
type Sequence struct {
	dev      *Device
	launches []Launch
	entries  []*C.char
}

// Sequence prepares launches, whose arguments it copies.
func (d *Device) Sequence(launches []Launch) (*Sequence, error) {
	s := &Sequence{dev: d}
	for _, l := range launches {
		entry := C.CString(l.Entry)
		s.entries = append(s.entries, entry)
		size := int(C.ctn_sim_size(entry))
		if size < 0 {
			s.Free()
			return nil, fmt.Errorf("%s: no such entry", l.Entry)
		}
		if size != l.Size {
			s.Free()
			return nil, fmt.Errorf("%s: arguments of %d bytes, it takes %d", l.Entry, l.Size, size)
		}
		args := C.malloc(C.size_t(size))
		copy(unsafe.Slice((*byte)(args), size), unsafe.Slice((*byte)(l.Args), size))
		l.Args = args
		s.launches = append(s.launches, l)
	}
	return s, nil
}

// Run runs the sequence n times.
func (s *Sequence) Run(n int) error {
	d := s.dev
	how := C.ctn_sim_schedule{order: C.int(d.config.Order), seed: C.uint(d.config.Seed),
		threads: C.int(d.config.Threads)}
	for ; n > 0 && d.err == nil; n-- {
		for i, l := range s.launches {
			grid := [3]C.uint{C.uint(l.Grid[0]), C.uint(l.Grid[1]), C.uint(l.Grid[2])}
			block := [3]C.uint{C.uint(l.Block), 1, 1}
			if text := launch(&how, s.entries[i], &grid, &block, C.size_t(l.Shared), l.Args); text != "" {
				d.err = errors.New(text)
				break
			}
		}
	}
	return d.err
}

// launch returns an error's text, or nothing. The text belongs to the thread, so the goroutine keeps its thread until
// it has read it.
func launch(how *C.ctn_sim_schedule, entry *C.char, grid, block *[3]C.uint, shared C.size_t,
	args unsafe.Pointer) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return C.GoString(C.ctn_sim_launch_as(how, entry, &grid[0], &block[0], shared, args))
}

// HasHopper tells whether a device runs the instructions of compute capability 9.0. Where tests run on a GPU instead
// (scripts/dist/gpucheck.go), not every one does.
func HasHopper() bool { return true }

// ImageMap writes the cuda.ImageMapBytes that a kernel gets for m.
func ImageMap(dst unsafe.Pointer, m cuda.ImageMap) error {
	image := C.ctn_sim_image{z: m.Z, n: C.int(m.N), h: C.int(m.H), w: C.int(m.W), c: C.int(m.C), ld: C.longlong(m.LD),
		pixels: C.int(m.Pixels)}
	for i := range 2 {
		image.lower[i], image.upper[i] = C.int(m.Lower[i]), C.int(m.Upper[i])
	}
	if text := C.ctn_sim_image_map(&image, dst); text != nil {
		return errors.New(C.GoString(text))
	}
	return nil
}

// Free returns the sequence's memory.
func (s *Sequence) Free() {
	for i := range s.launches {
		C.free(s.launches[i].Args)
	}
	for _, e := range s.entries {
		C.free(unsafe.Pointer(e))
	}
	s.launches, s.entries = nil, nil
}

// Sync waits for what was started.
func (d *Device) Sync() error { return d.err }

// Close frees the buffers that are left, and says so.
func (d *Device) Close() error {
	n, bytes := len(d.buffers), 0
	for p, size := range d.buffers {
		bytes += size
		d.Free(p)
	}
	if n > 0 {
		return fmt.Errorf("%d buffers of %d bytes were not freed", n, bytes)
	}
	return nil
}
