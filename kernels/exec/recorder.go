package exec

import (
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
)

// OpenRecorder opens an accelerator that executes nothing and has no memory: programs are recorded on it as on an H100
// or H200, so that their launches can be listed and counted on any machine. What is read from it is zero.
func OpenRecorder(precision Precision) *Device {
	return &Device{threads: 1, acc: &recorder{next: 1 << 44}, precision: precision}
}

// recorder is an Accelerator. Its addresses point nowhere: those of Linux's processes are below, Go's heap among them.
type recorder struct{ next uintptr }

func (r *recorder) Level() string { return "sm_90" }
func (r *recorder) Hopper()       {}

func (r *recorder) ImageMap(unsafe.Pointer, cuda.ImageMap) error { return nil }

func (r *recorder) Alloc(bytes int) (unsafe.Pointer, error) {
	const align = 256
	at := r.next
	r.next += uintptr(Blocks(max(bytes, 1), align) * align)
	return *(*unsafe.Pointer)(unsafe.Pointer(&at)), nil
}

func (r *recorder) Free(unsafe.Pointer) {}

func (r *recorder) Write(_, _ unsafe.Pointer, _ int) error { return nil }

func (r *recorder) Read(dst, _ unsafe.Pointer, bytes int) error {
	clear(unsafe.Slice((*byte)(dst), bytes))
	return nil
}

func (r *recorder) Sequence([]cuda.Launch) (Sequence, error) { return nothing{}, nil }
func (r *recorder) Loop([]cuda.Launch) (Sequence, error)     { return nothing{}, nil }
func (r *recorder) Sync() error                              { return nil }
func (r *recorder) Close() error                             { return nil }

// nothing is a Sequence that does not run.
type nothing struct{}

func (nothing) Run(int) error { return nil }
func (nothing) Free()         {}
