// Package exec runs recorded programs. Go records the operations of a step once, over buffers of fixed size, and one
// cgo call runs them: on the CPU a C executor walks the list with a fixed pool of threads, on an accelerator the
// recorded kernels are one graph.
//
// What a program computes does not depend on the number of threads: operations are split into tasks by their shapes
// alone, tasks do not share what they write, and reductions have a fixed order.
package exec

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#cgo LDFLAGS: -lm -lpthread
#include <stdlib.h>
#include "pool.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"math"
	"os"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
)

// Headers are the C and CUDA headers that the kernel families include. They are embedded so that the go command, which
// does not hash files of other folders, rebuilds the families when a header changes.
//
//go:embed *.h *.cuh
var Headers embed.FS

// The instruction sets that kernels are compiled for, lowest first. "avx2x16" is the 16-lane code lowered to AVX2: it
// exists for tests, is compiled for them alone (see exec.h), and is never chosen by itself.
var levelNames = [C.CTN_LEVELS]string{"portable", "avx2", "avx2x16", "avx512"}

// Memory of a test is full of NaN (see Buffer), whatever package the test is of.
func init() {
	if testing.Testing() {
		C.ctn_poison = 1
	}
}

// Config chooses where programs run: on the CPU, with an instruction set ("" = CTNAS_ISA from the environment,
// otherwise the best this processor has) and a number of threads (0 = all processors), or on an accelerator.
type Config struct {
	Device    string // "" or "cpu", Auto, All, or an accelerator: "cuda:0" (of several the first: see Each)
	Level     string // what results depend on: an instruction set, or an accelerator's Level; "": whatever there is
	Threads   int    // of the CPU
	Precision Precision
}

// Precision is how an accelerator multiplies matrices; the CPU has fp32 only. Everything else is computed in float32
// throughout.
type Precision string

const (
	FP32 Precision = "fp32" // float32, the default
	BF16 Precision = "bf16" // tensor cores: factors rounded to bfloat16, sums in float32
)

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

// acceleratorLevel is what Device.Level is of accelerators.
var acceleratorLevel = regexp.MustCompile(`^sm_[1-9][0-9]{1,2}/(` + string(FP32) + "|" + string(BF16) + ")$")

// CheckLevel tells whether a text is one that Device.Level returns on some machine.
func CheckLevel(level string) error {
	if slices.Contains(levelNames[:], level) || acceleratorLevel.MatchString(level) {
		return nil
	}
	return fmt.Errorf("level %q: want one of %v, or an accelerator's with its precision, such as sm_90/%s", level,
		levelNames, BF16)
}

// Device is an executor: threads of the CPU, or an accelerator. Its programs run one at a time.
type Device struct {
	level     int // of the CPU
	threads   int
	mu        sync.Mutex
	pool      *C.ctn_pool
	acc       Accelerator // nil: the CPU
	precision Precision
}

// Open starts an executor.
func Open(c Config) (*Device, error) {
	if c.Precision == "" {
		c.Precision = FP32
	}
	if c.Precision != FP32 && c.Precision != BF16 {
		return nil, fmt.Errorf("precision %q: want %s or %s", c.Precision, FP32, BF16)
	}
	if c = c.Each()[0]; c.Device != "" && c.Device != "cpu" {
		return openAccelerator(c)
	}
	if c.Precision != FP32 {
		return nil, fmt.Errorf("precision %s: the CPU computes in %s", c.Precision, FP32)
	}
	if c.Level == "" {
		c.Level = os.Getenv("CTNAS_ISA")
	}
	d := &Device{level: -1, threads: c.Threads, precision: FP32}
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

// Kind is what a result says of where it was computed: "cpu", or an accelerator's architecture and precision.
func (d *Device) Kind() string {
	if d.acc != nil {
		return d.Level()
	}
	return "cpu"
}

// Level names what results depend on beside the program: the CPU's instruction set, or an accelerator's architecture
// and precision.
func (d *Device) Level() string {
	if d.acc != nil {
		return d.acc.Level() + "/" + string(d.precision)
	}
	return levelNames[d.level]
}

// Threads is the size of the CPU's pool; 1 on an accelerator.
func (d *Device) Threads() int { return d.threads }

// Accelerated tells whether programs run on an accelerator, by the launches of their operations.
func (d *Device) Accelerated() bool { return d.acc != nil }

// Sync waits until everything that was enqueued has ended. On the CPU nothing is ever left.
func (d *Device) Sync() {
	if d.acc != nil {
		Fail(d.acc.Sync())
	}
}

// Trim gives memory that was freed back to the system: for when something large has ended, and other processes may want
// it.
func (d *Device) Trim() {
	if t, ok := d.acc.(Trimmer); ok {
		t.Trim()
	}
}

// Inspect says what a kernel needs of an accelerator; false where that is not known.
func (d *Device) Inspect(l cuda.Launch) (cuda.KernelInfo, bool) {
	i, ok := d.acc.(Inspector)
	if !ok {
		return cuda.KernelInfo{}, false
	}
	info, err := i.Kernel(l.File, l.Entry, l.Block, l.Shared)
	Fail(err)
	return info, true
}

// Hopper tells whether kernels of compute capability 9.0, and of it alone, run here.
func (d *Device) Hopper() bool {
	_, ok := d.acc.(Hopper)
	return ok
}

// ImageMap writes what a Hopper device's kernels get for m to the cuda.ImageMapBytes at dst.
func (d *Device) ImageMap(dst unsafe.Pointer, m cuda.ImageMap) { Fail(d.acc.(Hopper).ImageMap(dst, m)) }

// Precision is how matrices are multiplied.
func (d *Device) Precision() Precision { return d.precision }

// Close stops the threads, or gives the accelerator back. Arenas of the device must be freed before.
func (d *Device) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.acc != nil {
		Fail(d.acc.Close())
		return
	}
	C.ctn_pool_free(d.pool)
	d.pool = nil
}

// Buffer is a fixed piece of an arena's memory: floats of 32 or, on an accelerator, 16 bits (bfloat16), or 32-bit
// integers. A new one holds zeros; in tests, and on an accelerator, NaN or -1, so that a read before a write shows. In
// an arena that was reset it may hold anything. So whatever is recorded writes before it reads.
type Buffer struct {
	dev    *Device
	ptr    unsafe.Pointer
	n      int
	kind   kind
	reused bool // of a reusable arena: what was there before may still be at work
}

// kind is what a buffer's elements are.
type kind int

const (
	floats kind = iota
	halves      // bfloat16
	integers
)

func (k kind) bytes() int {
	if k == halves {
		return 2
	}
	return 4
}

func (a *Arena) buffer(n int, k kind) *Buffer {
	return &Buffer{a.dev, a.memory.alloc(k.bytes() * n), n, k, a.reusable}
}

// F32 returns a buffer of n floats.
func (a *Arena) F32(n int) *Buffer { return a.buffer(n, floats) }

// BF16 returns a buffer of n floats that are stored as bfloat16. The CPU has no kernels that read them.
func (a *Arena) BF16(n int) *Buffer {
	if a.dev.acc == nil {
		panic("exec: a buffer of bfloat16 on the CPU")
	}
	return a.buffer(n, halves)
}

// I32 returns a buffer of n integers.
func (a *Arena) I32(n int) *Buffer { return a.buffer(n, integers) }

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

// Device is where the buffer is.
func (b *Buffer) Device() *Device { return b.dev }

// Bytes is how many n elements of the buffer take, 0 of no buffer.
func (b *Buffer) Bytes(n int) float64 {
	if b == nil {
		return 0
	}
	return float64(b.kind.bytes()) * float64(n)
}

// Half tells whether the elements are bfloat16.
func (b *Buffer) Half() bool { return b != nil && b.kind == halves }

// Slice is the part [off, off+n) of a buffer, sharing its memory.
func (b *Buffer) Slice(off, n int) *Buffer {
	b.check(off, n, b.kind)
	return &Buffer{b.dev, unsafe.Add(b.ptr, b.kind.bytes()*off), n, b.kind, b.reused}
}

// AsBF16 is the memory of a buffer of floats, twice as many elements of bfloat16.
func (b *Buffer) AsBF16() *Buffer {
	if b.check(0, 0, floats); b.dev.acc == nil {
		panic("exec: a buffer of bfloat16 on the CPU")
	}
	return &Buffer{b.dev, b.ptr, 2 * b.n, halves, b.reused}
}

// AsF32 is the memory of a buffer of an even number of bfloat16, half as many elements of float32: for copying.
func (b *Buffer) AsF32() *Buffer {
	if b.check(0, 0, halves); b.n%2 != 0 {
		panic(fmt.Sprintf("exec: %d elements of bfloat16 as float32", b.n))
	}
	return &Buffer{b.dev, b.ptr, b.n / 2, floats, b.reused}
}

// Pointer is the address that kernels get. A nil buffer has none.
func (b *Buffer) Pointer() unsafe.Pointer {
	if b == nil {
		return nil
	}
	return b.ptr
}

func (b *Buffer) check(off, n int, k kind) {
	if b.kind != k {
		panic("exec: a buffer of the other type")
	}
	if off < 0 || n < 0 || off+n > b.n {
		panic(fmt.Sprintf("exec: elements %d..%d of a buffer of %d", off, off+n, b.n))
	}
}

// WriteF32 copies src into the buffer from element off on, rounded where the buffer is of bfloat16.
func (b *Buffer) WriteF32(off int, src []float32) {
	if b.Half() {
		b.check(off, len(src), halves)
		rounded := make([]uint16, len(src))
		for i, v := range src {
			rounded[i] = roundBF16(v)
		}
		write(b, off, rounded)
		return
	}
	b.check(off, len(src), floats)
	write(b, off, src)
}

// WriteBytes copies src to the begin of a buffer of 32-bit elements.
func (b *Buffer) WriteBytes(src []byte) {
	b.checkBytes(src)
	switch {
	case len(src) == 0:
	case b.dev.acc == nil:
		copy(unsafe.Slice((*byte)(b.ptr), 4*b.n), src)
	default:
		Fail(b.dev.acc.Write(b.ptr, unsafe.Pointer(&src[0]), len(src)))
	}
}

// UploadBytes is WriteBytes into a buffer that no program in work uses, while programs run where the device can do
// that; into a buffer of a reusable arena after them.
func (b *Buffer) UploadBytes(src []byte) {
	b.checkBytes(src)
	if u, ok := b.dev.acc.(Uploader); ok && len(src) > 0 && !b.reused {
		Fail(u.Upload(b.ptr, unsafe.Pointer(&src[0]), len(src)))
		return
	}
	b.WriteBytes(src)
}

func (b *Buffer) checkBytes(src []byte) {
	if b.Half() || len(src) > 4*b.n {
		panic(fmt.Sprintf("exec: %d bytes into a buffer of %d elements", len(src), b.n))
	}
}

// HostBytes returns memory of the host from which UploadBytes is fastest, of this device and others of its kind. It
// is not cleared, and must not be used when the device is closed.
func (d *Device) HostBytes(n int) []byte {
	if p, ok := d.acc.(Pinner); ok && n > 0 {
		if at, err := p.Pin(n); err == nil { // more than may be pinned serves as well, if slower
			return unsafe.Slice((*byte)(at), n)
		}
	}
	return make([]byte, n)
}

// ReadF32 copies elements from off on into dst, after everything that runs has ended.
func (b *Buffer) ReadF32(off int, dst []float32) {
	if b.Half() {
		b.check(off, len(dst), halves)
		stored := make([]uint16, len(dst))
		read(b, off, stored)
		for i, v := range stored {
			dst[i] = math.Float32frombits(uint32(v) << 16)
		}
		return
	}
	b.check(off, len(dst), floats)
	read(b, off, dst)
}

// WriteI32 copies src into the buffer from element off on.
func (b *Buffer) WriteI32(off int, src []int32) {
	b.check(off, len(src), integers)
	write(b, off, src)
}

// ReadI32 copies elements from off on into dst, after everything that runs has ended.
func (b *Buffer) ReadI32(off int, dst []int32) {
	b.check(off, len(dst), integers)
	read(b, off, dst)
}

// roundBF16 is x as bfloat16: to nearest, ties to even; a NaN becomes 0x7fff, as on a GPU.
func roundBF16(x float32) uint16 {
	if x != x {
		return 0x7fff
	}
	u := math.Float32bits(x)
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func write[T int32 | float32 | uint16](b *Buffer, off int, src []T) {
	size := b.kind.bytes()
	switch {
	case b.dev.acc == nil:
		copy(unsafe.Slice((*T)(b.ptr), b.n)[off:], src)
	case len(src) > 0:
		Fail(b.dev.acc.Write(unsafe.Add(b.ptr, size*off), unsafe.Pointer(&src[0]), size*len(src)))
	}
}

func read[T int32 | float32 | uint16](b *Buffer, off int, dst []T) {
	size := b.kind.bytes()
	switch {
	case b.dev.acc == nil:
		copy(dst, unsafe.Slice((*T)(b.ptr), b.n)[off:])
	case len(dst) > 0:
		Fail(b.dev.acc.Read(unsafe.Pointer(&dst[0]), unsafe.Add(b.ptr, size*off), size*len(dst)))
	}
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
	buf.check(0, 1, integers)
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
	Name     string
	arena    *Arena
	life     int // of the arena: see Arena.Reset
	names    []string
	ops      []C.ctn_op
	launches []cuda.Launch
	work     []Work         // of the launches
	keep     unsafe.Pointer // the operations in C memory, made at the first run
	sequence Sequence       // the launches, likewise
	once     bool
}

// NewProgram returns an empty program.
func (a *Arena) NewProgram(name string) *Program { return &Program{Name: name, arena: a, life: a.life} }

// Once says that the program will run few times, before its first run, and returns it. A GPU then gets its kernels one
// by one, because making a graph of them costs more than some runs of it save. The results are the same.
func (p *Program) Once() *Program {
	if p.keep != nil || p.sequence != nil {
		panic("exec: Once of program " + p.Name + ", which has run")
	}
	p.once = true
	return p
}

// alive panics if the program's buffers are gone.
func (p *Program) alive() {
	if p.life != p.arena.life {
		panic("exec: program " + p.Name + ", whose arena was reset or freed")
	}
}

// Arena is where the program's buffers live.
func (p *Program) Arena() *Arena { return p.arena }

// Launch is a kernel of an operation on an accelerator. Its one parameter is the operation's arguments, by value.
type Launch struct {
	File   string // base name of the .cu file
	Entry  string
	Grid   [3]int // blocks; a dimension left 0 is 1
	Block  int    // threads a block
	Shared int    // bytes of dynamic shared memory
	Work   Work
}

// Work is what a launch has to do at the least, for measuring; 0 where it is not known.
type Work struct {
	Bytes float64 // read from and written to memory, each tensor once
	FLOPs float64 // of products of matrices and convolutions
	// Issued is FLOPs with those of the tiles' padding.
	Issued float64
}

// Add adds what another launch has to do.
func (w *Work) Add(o Work) {
	w.Bytes, w.FLOPs, w.Issued = w.Bytes+o.Bytes, w.FLOPs+o.FLOPs, w.Issued+o.Issued
}

// Blocks is how many blocks of `per` elements cover n.
func Blocks(n, per int) int { return (n + per - 1) / per }

// Call appends an operation to a program; only the kernels' packages do. args is what all of its kernels get, a C
// struct without Go pointers, of which the program keeps a copy. On the CPU they are cpu, the family's
// ctn_kernel[CTN_LEVELS], with so many floats of scratch for each thread; on an accelerator they are the launches, in
// order. cpu is nil, or there are no launches, where the operation runs on the other kind only.
func Call[A any](p *Program, name string, cpu unsafe.Pointer, args *A, scratch int, gpu ...Launch) {
	p.record(name, cpu, unsafe.Slice((*byte)(unsafe.Pointer(args)), unsafe.Sizeof(*args)), scratch, gpu)
}

func (p *Program) record(name string, cpu unsafe.Pointer, args []byte, scratch int, gpu []Launch) {
	if p.keep != nil || p.sequence != nil {
		panic("exec: recording into program " + p.Name + ", which has run")
	}
	p.alive()
	kept := p.arena.host.alloc(len(args))
	copy(unsafe.Slice((*byte)(kept), len(args)), args)
	p.names = append(p.names, name)
	dev := p.arena.dev
	if dev.acc != nil {
		if len(gpu) == 0 {
			panic("exec: operation " + name + " has no kernel for accelerators")
		}
		for _, l := range gpu {
			grid := [3]int{max(1, l.Grid[0]), max(1, l.Grid[1]), max(1, l.Grid[2])}
			p.launches = append(p.launches, cuda.Launch{File: l.File, Entry: l.Entry, Grid: grid, Block: l.Block,
				Shared: l.Shared, Args: kept, Size: len(args)})
			p.work = append(p.work, l.Work)
		}
		return
	}
	if cpu == nil {
		panic("exec: operation " + name + " has no kernel for the CPU")
	}
	kernel := unsafe.Add(cpu, uintptr(dev.level)*unsafe.Sizeof(C.ctn_kernel{}))
	p.ops = append(p.ops, C.ctn_op{kernel: (*C.ctn_kernel)(kernel), args: kept})
	dev.mu.Lock()
	defer dev.mu.Unlock()
	if C.ctn_pool_scratch(dev.pool, C.int64_t(scratch)) != 0 {
		Fail(fmt.Errorf("out of memory: scratch of %d floats", scratch))
	}
}

// First lets record append what comes before everything that was recorded so far: work for all of it at once, known
// only now.
func (p *Program) First(record func()) {
	names, ops, launches, work := p.names, p.ops, p.launches, p.work
	p.names, p.ops, p.launches, p.work = nil, nil, nil, nil
	record()
	p.names, p.ops = append(p.names, names...), append(p.ops, ops...)
	p.launches, p.work = append(p.launches, launches...), append(p.work, work...)
}

// Ops names the recorded operations.
func (p *Program) Ops() []string { return p.names }

// Launches lists what the program launches on an accelerator.
func (p *Program) Launches() []cuda.Launch { return p.launches }

// Work is what each of the Launches has to do.
func (p *Program) Work() []Work { return p.work }

// Run runs the program n times in one call. On an accelerator it does not wait for the end; reading a buffer does.
func (p *Program) Run(n int) {
	if len(p.names) == 0 || n <= 0 {
		return
	}
	p.alive()
	d := p.arena.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.acc != nil {
		p.prepare()
		Fail(p.sequence.Run(n))
		return
	}
	if d.pool == nil {
		panic("exec: program " + p.Name + " on a closed device")
	}
	if p.keep == nil {
		p.keep = p.arena.host.alloc(len(p.ops) * int(unsafe.Sizeof(C.ctn_op{})))
		copy(unsafe.Slice((*C.ctn_op)(p.keep), len(p.ops)), p.ops)
	}
	C.ctn_pool_run(d.pool, (*C.ctn_op)(p.keep), C.int64_t(len(p.ops)), C.int64_t(n))
}

// Time runs the program n times and returns how long that took from begin to end, in milliseconds: by the device's own
// clock where it has one. It is for measuring.
func (p *Program) Time(n int) float64 {
	p.alive()
	d := p.arena.dev
	if d.acc == nil {
		begin := time.Now()
		p.Run(n)
		return float64(time.Since(begin).Nanoseconds()) / 1e6
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.prepare()
	if t, ok := p.sequence.(Timer); ok {
		ms, err := t.Time(n)
		Fail(err)
		return ms
	}
	begin := time.Now()
	Fail(p.sequence.Run(n))
	Fail(d.acc.Sync())
	return float64(time.Since(begin).Nanoseconds()) / 1e6
}

// Profile runs the program and measures its parts one by one: the milliseconds of each launch on an accelerator, by its
// own clock, and of each operation on the CPU. It is for measuring.
func (p *Program) Profile() []float64 {
	p.alive()
	d := p.arena.dev
	if d.acc == nil {
		p.Run(1) // makes keep, and caches as warm as in a run among others
		ops := unsafe.Slice((*C.ctn_op)(p.keep), len(p.ops))
		ms := make([]float64, len(ops))
		d.mu.Lock()
		defer d.mu.Unlock()
		for i := range ops {
			begin := time.Now()
			C.ctn_pool_run(d.pool, &ops[i], 1, 1)
			ms[i] = float64(time.Since(begin).Nanoseconds()) / 1e6
		}
		return ms
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.prepare()
	s, ok := p.sequence.(Profiler)
	if !ok {
		Fail(fmt.Errorf("%s: %s does not measure launches one by one", p.Name, d.Level()))
	}
	ms, err := s.Profile()
	Fail(err)
	return ms
}

// prepare makes the sequence at the first run.
func (p *Program) prepare() {
	if p.sequence != nil {
		return
	}
	sequence := p.arena.dev.acc.Sequence
	if p.once {
		sequence = p.arena.dev.acc.Loop
	}
	s, err := sequence(p.launches)
	if err != nil {
		Fail(fmt.Errorf("%s: %w", p.Name, err))
	}
	p.sequence = s
	p.arena.sequences = append(p.arena.sequences, s)
}
