// Package exec runs recorded programs. Go records the operations of a step once, over buffers of fixed size, and one cgo call runs
// them: on the CPU a C executor walks the list with a fixed pool of threads.
//
// What a program computes does not depend on the number of threads: operations are split into tasks by their shapes alone, tasks do
// not share what they write, and reductions have a fixed order.
package exec

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wno-psabi
#cgo LDFLAGS: -lm -lpthread
#include <stdlib.h>
#include "pool.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"
)

// Headers are the C and CUDA headers that the kernel families include. They are embedded so that the go command, which does not hash files of
// other folders, rebuilds the families when a header changes.
//
//go:embed *.h *.cuh
var Headers embed.FS

// The instruction sets that kernels are compiled for, lowest first. "avx2x16" is the 16-lane code lowered to AVX2: it exists for tests
// and is never chosen by itself.
var levelNames = [C.CTN_LEVELS]string{"portable", "avx2", "avx2x16", "avx512"}

// Config chooses the instruction set ("" = CTNAS_ISA from the environment, otherwise the best this processor has) and the number of
// threads (0 = all processors).
type Config struct {
	Level   string
	Threads int
}

// Levels lists the instruction sets this processor can run.
func Levels() []string {
	var out []string
	for i, name := range levelNames {
		if C.ctn_level_supported(C.int(i)) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// Device is an executor with its threads. Its programs run one at a time.
type Device struct {
	level   int
	threads int
	mu      sync.Mutex
	pool    *C.ctn_pool
}

// Open starts an executor on the CPU.
func Open(c Config) (*Device, error) {
	if c.Level == "" {
		c.Level = os.Getenv("CTNAS_ISA")
	}
	d := &Device{level: -1, threads: c.Threads}
	for i, name := range levelNames {
		if C.ctn_level_supported(C.int(i)) == 0 {
			continue
		}
		if name == c.Level || c.Level == "" && name != "avx2x16" {
			d.level = i
		}
	}
	if d.level < 0 {
		return nil, fmt.Errorf("instruction set %q is not one this processor runs: %v", c.Level, Levels())
	}
	if d.threads < 0 || d.threads > 1024 {
		return nil, fmt.Errorf("%d threads: want 1..1024, or 0 for all processors", d.threads)
	}
	if d.threads == 0 {
		d.threads = runtime.GOMAXPROCS(0)
	}
	if d.pool = C.ctn_pool_new(C.int(d.threads)); d.pool == nil {
		return nil, fmt.Errorf("cannot start %d threads", d.threads)
	}
	return d, nil
}

// Level is the instruction set in use.
func (d *Device) Level() string { return levelNames[d.level] }

// Threads is the size of the pool.
func (d *Device) Threads() int { return d.threads }

// Close stops the threads. Arenas of the device must not run programs afterwards.
func (d *Device) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	C.ctn_pool_free(d.pool)
	d.pool = nil
}

// Arena owns the buffers and programs of one model and frees them together.
type Arena struct {
	dev    *Device
	blocks []unsafe.Pointer
	bytes  int64
}

// NewArena returns an empty arena.
func (d *Device) NewArena() *Arena { return &Arena{dev: d} }

// Device is where the arena's programs run.
func (a *Arena) Device() *Device { return a.dev }

// Bytes is how much memory the arena holds.
func (a *Arena) Bytes() int64 { return a.bytes }

// Free returns all memory. Buffers and programs of the arena are dead afterwards.
func (a *Arena) Free() {
	for _, p := range a.blocks {
		C.free(p)
	}
	a.blocks, a.bytes = nil, 0
}

func (a *Arena) alloc(bytes int) unsafe.Pointer {
	p := C.ctn_alloc(C.int64_t(bytes))
	if p == nil {
		panic(fmt.Errorf("out of memory: %d bytes more than %d", bytes, a.bytes))
	}
	a.blocks = append(a.blocks, p)
	a.bytes += int64(bytes)
	return p
}

// Buffer is a fixed piece of an arena's memory: 32-bit floats or integers. A new one holds NaN, or -1.
type Buffer struct {
	ptr     unsafe.Pointer
	n       int
	integer bool
}

// F32 returns a buffer of n floats.
func (a *Arena) F32(n int) *Buffer { return &Buffer{a.alloc(4 * n), n, false} }

// I32 returns a buffer of n integers.
func (a *Arena) I32(n int) *Buffer { return &Buffer{a.alloc(4 * n), n, true} }

// Floats returns a buffer that holds v.
func (a *Arena) Floats(v []float32) *Buffer {
	b := a.F32(len(v))
	b.WriteF32(0, v)
	return b
}

// Ints returns a buffer that holds v.
func (a *Arena) Ints(v []int32) *Buffer {
	b := a.I32(len(v))
	b.WriteI32(0, v)
	return b
}

// Zeros returns a buffer of n zero floats.
func (a *Arena) Zeros(n int) *Buffer { return a.Floats(make([]float32, n)) }

// Len is the number of elements.
func (b *Buffer) Len() int { return b.n }

// Slice is the part [off, off+n) of a buffer, sharing its memory.
func (b *Buffer) Slice(off, n int) *Buffer {
	b.check(off, n, b.integer)
	return &Buffer{unsafe.Add(b.ptr, 4*off), n, b.integer}
}

// Pointer is the address that kernels get. A nil buffer has none.
func (b *Buffer) Pointer() unsafe.Pointer {
	if b == nil {
		return nil
	}
	return b.ptr
}

func (b *Buffer) check(off, n int, integer bool) {
	if b.integer != integer {
		panic("exec: a buffer of the other type")
	}
	if off < 0 || n < 0 || off+n > b.n {
		panic(fmt.Sprintf("exec: elements %d..%d of a buffer of %d", off, off+n, b.n))
	}
}

// WriteF32 copies src into the buffer from element off on.
func (b *Buffer) WriteF32(off int, src []float32) {
	b.check(off, len(src), false)
	copy(unsafe.Slice((*float32)(b.ptr), b.n)[off:], src)
}

// ReadF32 copies elements from off on into dst.
func (b *Buffer) ReadF32(off int, dst []float32) {
	b.check(off, len(dst), false)
	copy(dst, unsafe.Slice((*float32)(b.ptr), b.n)[off:])
}

// WriteI32 copies src into the buffer from element off on.
func (b *Buffer) WriteI32(off int, src []int32) {
	b.check(off, len(src), true)
	copy(unsafe.Slice((*int32)(b.ptr), b.n)[off:], src)
}

// ReadI32 copies elements from off on into dst.
func (b *Buffer) ReadI32(off int, dst []int32) {
	b.check(off, len(dst), true)
	copy(dst, unsafe.Slice((*int32)(b.ptr), b.n)[off:])
}

// Values returns a copy of all floats.
func (b *Buffer) Values() []float32 {
	out := make([]float32, b.n)
	b.ReadF32(0, out)
	return out
}

// Dim is a size that is fixed, or that a program reads from a one-element integer buffer each time it runs.
type Dim struct {
	At  *Buffer
	Max int
}

// Fixed is a size known when the program is recorded.
func Fixed(n int) Dim { return Dim{Max: n} }

// Dynamic is a size read from buf[0] when the operation runs, at most max.
func Dynamic(buf *Buffer, max int) Dim {
	buf.check(0, 1, true)
	return Dim{buf, max}
}

// Put stores the size into a kernel's argument, a ctn_dim.
func (d Dim) Put(dst unsafe.Pointer) {
	c := (*C.ctn_dim)(dst)
	c.at = (*C.int32_t)(d.At.Pointer())
	c.max = C.int64_t(d.Max)
}

// Program is a list of operations over an arena's buffers.
type Program struct {
	Name  string
	arena *Arena
	names []string
	ops   []C.ctn_op
	keep  unsafe.Pointer // the operations in C memory, made at the first run
}

// NewProgram returns an empty program.
func (a *Arena) NewProgram(name string) *Program { return &Program{Name: name, arena: a} }

// Arena is where the program's buffers live.
func (p *Program) Arena() *Arena { return p.arena }

// Record appends an operation. table is the family's ctn_kernel[CTN_LEVELS]; args is copied (size bytes, no Go pointers in it); scratch
// is how many floats each thread needs. Only the kernels' packages call it.
func (p *Program) Record(name string, table, args unsafe.Pointer, size uintptr, scratch int) {
	if p.keep != nil {
		panic("exec: recording into program " + p.Name + ", which has run")
	}
	kept := p.arena.alloc(int(size))
	copy(unsafe.Slice((*byte)(kept), size), unsafe.Slice((*byte)(args), size))
	kernel := unsafe.Add(table, uintptr(p.arena.dev.level)*unsafe.Sizeof(C.ctn_kernel{}))
	p.ops = append(p.ops, C.ctn_op{kernel: (*C.ctn_kernel)(kernel), args: kept})
	p.names = append(p.names, name)
	p.arena.dev.mu.Lock()
	defer p.arena.dev.mu.Unlock()
	if C.ctn_pool_scratch(p.arena.dev.pool, C.int64_t(scratch)) != 0 {
		panic(fmt.Errorf("out of memory: scratch of %d floats", scratch))
	}
}

// Ops names the recorded operations.
func (p *Program) Ops() []string { return p.names }

// Run runs the program n times in one call.
func (p *Program) Run(n int) {
	if len(p.ops) == 0 || n <= 0 {
		return
	}
	d := p.arena.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool == nil {
		panic("exec: program " + p.Name + " on a closed device")
	}
	if p.keep == nil {
		p.keep = p.arena.alloc(len(p.ops) * int(unsafe.Sizeof(C.ctn_op{})))
		copy(unsafe.Slice((*C.ctn_op)(p.keep), len(p.ops)), p.ops)
	}
	C.ctn_pool_run(d.pool, (*C.ctn_op)(p.keep), C.int64_t(len(p.ops)), C.int64_t(n))
}
