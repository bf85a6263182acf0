//go:build cuda

package cuda

// #include <stdlib.h>
// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"gorgonia.org/cu"
)

// kernel is an entry that was looked up.
type kernel struct {
	function cu.Function
	params   int // bytes, -1 where the driver cannot tell
	shared   int // dynamic shared memory it has been allowed, in bytes; -1 before that
}

func (k *kernel) c() C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(&k.function)) }

// Sequence is a list of launches: a CUDA graph, or a loop in C that launches one after the other.
type Sequence struct {
	dev      *Device
	name     string
	launches []Launch
	keep     *C.ctn_launch  // the launches in C memory
	args     unsafe.Pointer // copies of their arguments
	loop     bool
	graph    C.CUgraphExec // nil without launches, in a loop, or if launches run one at a time
}

const (
	maxArgs  = 4096
	argAlign = 64
)

// Sequence records launches, which will run one after the other. It looks the entries up in their files' fatbins,
// checks sizes against them, and reads the arguments, which may then be freed.
func (d *Device) Sequence(launches []Launch) (*Sequence, error) { return d.sequence(launches, false) }

// Loop is Sequence without a graph, for launches that run few times: it is made in less time than a graph, and the host
// launches every kernel of every run.
func (d *Device) Loop(launches []Launch) (*Sequence, error) { return d.sequence(launches, true) }

func (d *Device) sequence(launches []Launch, loop bool) (*Sequence, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return nil, err
	}
	s := &Sequence{dev: d, launches: slices.Clone(launches), loop: loop}
	switch n := len(launches); n {
	case 0:
		s.name = "an empty sequence"
	case 1:
		s.name = launches[0].Entry
	default:
		s.name = fmt.Sprintf("%s..%s (%d launches)", launches[0].Entry, launches[n-1].Entry, n)
	}
	if err := s.record(); err != nil {
		return nil, errors.Join(err, s.free())
	}
	d.sequences[s] = true
	return s, nil
}

func (s *Sequence) record() error {
	d, n := s.dev, len(s.launches)
	if n == 0 {
		return nil
	}
	bytes := 0
	for i, l := range s.launches {
		if err := d.valid(l); err != nil {
			return fmt.Errorf("%s: %s: %w", d.info.Name, s.launch(i), err)
		}
		bytes += (l.Size + argAlign - 1) / argAlign * argAlign
	}
	s.keep = (*C.ctn_launch)(C.calloc(C.size_t(n), C.sizeof_ctn_launch))
	s.args = C.aligned_alloc(argAlign, C.size_t(max(bytes, argAlign)))
	if s.keep == nil || s.args == nil {
		return fmt.Errorf("%s: the host is out of memory", d.info.Name)
	}
	args := s.args
	for i, c := range unsafe.Slice(s.keep, n) {
		l := s.launches[i]
		k, err := d.kernel(l.File, l.Entry, l.Shared)
		if err != nil {
			return err
		}
		if k.params >= 0 && k.params != l.Size {
			return fmt.Errorf("%s: kernel %s of %s takes %d bytes of arguments, the launch gives %d", d.info.Name,
				l.Entry, l.File, k.params, l.Size)
		}
		c.function, c.block, c.shared = k.c(), C.uint(l.Block), C.uint(l.Shared)
		for j, g := range l.Grid {
			c.grid[j] = C.uint(g)
		}
		if l.Size > 0 {
			copy(unsafe.Slice((*byte)(args), l.Size), unsafe.Slice((*byte)(l.Args), l.Size))
			c.args = args
			args = unsafe.Add(args, (l.Size+argAlign-1)/argAlign*argAlign)
		}
		unsafe.Slice(s.keep, n)[i] = c
	}
	if d.slowly || s.loop {
		return nil
	}
	var at C.int
	if err := check(C.ctn_record(d.c(), d.s(), s.keep, C.int(n), &s.graph, &at)); err != nil {
		return d.failed("record "+s.launch(int(at)), err)
	}
	return nil
}

// launch names one launch, or the whole sequence.
func (s *Sequence) launch(i int) string {
	if i >= len(s.launches) {
		return s.name
	}
	l := s.launches[i]
	return fmt.Sprintf("kernel %s of %s (launch %d of %d, grid %d x %d x %d, block %d, %d bytes shared)",
		l.Entry, l.File, i+1, len(s.launches), l.Grid[0], l.Grid[1], l.Grid[2], l.Block, l.Shared)
}

// valid checks what the driver would refuse with less of a reason.
func (d *Device) valid(l Launch) error {
	for i, most := range [3]int{1<<31 - 1, 1<<16 - 1, 1<<16 - 1} { // of every GPU since compute capability 3.0
		if l.Grid[i] < 1 || l.Grid[i] > most {
			return fmt.Errorf("dimension %d of the grid must be 1..%d", i, most)
		}
	}
	if l.Block < 1 || l.Block > 1024 {
		return errors.New("the block must be 1..1024 threads")
	}
	if l.Shared < 0 || l.Shared > d.info.SharedPerBlock {
		return fmt.Errorf("a block of this GPU has 0..%d bytes of shared memory", d.info.SharedPerBlock)
	}
	if l.Size < 0 || l.Size > maxArgs || (l.Args == nil) != (l.Size == 0) {
		return fmt.Errorf("%d bytes of arguments at %p: want 0..%d", l.Size, l.Args, maxArgs)
	}
	return nil
}

// lookup finds an entry in its file's fatbin.
func (d *Device) lookup(file, entry string) (*kernel, error) {
	if k := d.kernels[[2]string{file, entry}]; k != nil {
		return k, nil
	}
	m, ok := d.modules[file]
	if !ok {
		image := d.images(file)
		if len(image) == 0 {
			return nil,
				fmt.Errorf("%s: this program holds no GPU code of %s, nor does a folder CTNAS_FATBINS (see `make gpu`)",
					d.info.Name, file)
		}
		err := d.in(func() error {
			var err error
			m, err = cu.LoadData(string(image))
			return err
		})
		switch {
		case is(err, C.CUDA_ERROR_NO_BINARY_FOR_GPU), is(err, C.CUDA_ERROR_UNSUPPORTED_PTX_VERSION):
			return nil, fmt.Errorf("%s: %s was not compiled for %s (sm_%d): build with it in CTNAS_CUDA_ARCHS (%w)",
				d.info.Name, file, d.info.Model, d.info.SM, err)
		case err != nil:
			return nil, d.failed("load the GPU code of "+file, err)
		}
		d.modules[file] = m
	}
	k := &kernel{shared: -1}
	err := d.in(func() error {
		var err error
		k.function, err = m.Function(entry)
		return err
	})
	if is(err, C.CUDA_ERROR_NOT_FOUND) {
		return nil, fmt.Errorf("%s: %s has no kernel %s", d.info.Name, file, entry)
	}
	if err != nil {
		return nil, d.failed("look up kernel "+entry+" of "+file, err)
	}
	d.kernels[[2]string{file, entry}] = k
	return k, nil
}

// kernel looks an entry up and allows it that many bytes of dynamic shared memory.
func (d *Device) kernel(file, entry string, shared int) (*kernel, error) {
	k, err := d.lookup(file, entry)
	if err != nil {
		return nil, err
	}
	if shared <= k.shared {
		return k, nil
	}
	var params C.long
	if err := check(C.ctn_prepare(d.c(), k.c(), C.uint(shared), &params)); err != nil {
		return nil, d.failed(fmt.Sprintf("prepare kernel %s of %s with %d bytes of shared memory", entry, file, shared),
			err)
	}
	k.params, k.shared = int(params), shared
	return k, nil
}

// Run enqueues the sequence n times and does not wait.
func (s *Sequence) Run(n int) error {
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	return s.run(n, nil, nil)
}

// Time runs the sequence n times, waits, and returns the milliseconds that the GPU took from the first start to the
// last end.
func (s *Sequence) Time(n int) (float64, error) {
	d := s.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := s.run(n, event(&d.start), event(&d.stop)); err != nil {
		return 0, err
	}
	if err := d.sync(); err != nil {
		return 0, err
	}
	var ms float64
	err := d.in(func() error {
		var err error
		ms, err = d.start.Elapsed(d.stop)
		return err
	})
	return ms, d.failed("time "+s.name, err)
}

// Profile runs the sequence twice, waits, and returns the milliseconds of each launch of the second run, from the end
// of the launch before it to its own. Meanwhile the first keeps the GPU busy, so that the host's launches are not
// measured.
func (s *Sequence) Profile() ([]float64, error) {
	d := s.dev
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := s.run(1, nil, nil); err != nil || len(s.launches) == 0 {
		return nil, err
	}
	of := make([]C.float, len(s.launches))
	var at C.int
	if err := check(C.ctn_profile(d.c(), d.s(), s.keep, C.int(len(of)), &of[0], &at)); err != nil {
		return nil, d.failed("profile "+s.launch(int(at)), err)
	}
	ms := make([]float64, len(of))
	for i, t := range of {
		ms[i] = float64(t)
	}
	return ms, nil
}

func (s *Sequence) run(n int, start, stop C.CUevent) error {
	d := s.dev
	if err := d.ready(); err != nil {
		return err
	}
	if !d.sequences[s] {
		return fmt.Errorf("%s: %s was freed", d.info.Name, s.name)
	}
	if n < 0 || n > 1<<30 {
		return fmt.Errorf("%s: %s cannot run %d times", d.info.Name, s.name, n)
	}
	if len(s.launches) > 0 && !d.slowly && !slices.Contains(d.running, s.name) {
		d.running = append(d.running, s.name)
	}
	if s.loop || d.slowly {
		return s.runLoop(n, start, stop)
	}
	if s.graph == nil {
		n = 0 // nothing to launch
	}
	if code := C.ctn_run(d.c(), d.s(), s.graph, C.int(n), start, stop); code != C.CUDA_SUCCESS {
		return d.failed("run "+s.name, driverError(code))
	}
	return nil
}

func (s *Sequence) runLoop(n int, start, stop C.CUevent) error {
	d := s.dev
	wait := C.int(0)
	if d.slowly {
		wait = 1
	}
	var at C.int
	code := C.ctn_loop(d.c(), d.s(), s.keep, C.int(len(s.launches)), C.int(n), wait, start, stop, &at)
	if err := check(code); err != nil {
		if d.slowly {
			return fmt.Errorf("%s: %s: %w", d.info.Name, s.launch(int(at)), err)
		}
		return d.failed("launch "+s.launch(int(at)), err)
	}
	return nil
}

// Free returns the sequence's memory. Freeing twice, or after the device was closed, does nothing.
func (s *Sequence) Free() {
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	if s.dev.sequences[s] {
		// A failure here is that of a kernel, which the next Sync or Close reports.
		_ = s.free()
	}
}

func (s *Sequence) free() error {
	delete(s.dev.sequences, s)
	C.free(unsafe.Pointer(s.keep))
	C.free(s.args)
	s.keep, s.args = nil, nil
	if s.graph == nil {
		return nil
	}
	err := check(C.ctn_graph_free(s.dev.c(), s.graph))
	s.graph = nil
	return err
}

// Kernel tells what an entry needs, and how well it fills the GPU with blocks of that many threads and bytes of dynamic
// shared memory.
func (d *Device) Kernel(file, entry string, block, shared int) (KernelInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return KernelInfo{}, err
	}
	what := fmt.Sprintf("kernel %s of %s", entry, file)
	if err := d.valid(Launch{Grid: [3]int{1, 1, 1}, Block: block, Shared: shared}); err != nil {
		return KernelInfo{}, fmt.Errorf("%s: %s: %w", d.info.Name, what, err)
	}
	k, err := d.kernel(file, entry, shared)
	if err != nil {
		return KernelInfo{}, err
	}
	var info KernelInfo
	err = d.in(func() error {
		for _, a := range []struct {
			to   *int
			from cu.FunctionAttribute
		}{
			{&info.Registers, C.CU_FUNC_ATTRIBUTE_NUM_REGS},
			{&info.StaticShared, C.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES},
			{&info.LocalBytes, C.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES},
			{&info.MaxBlock, C.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
		} {
			if *a.to, err = k.function.Attribute(a.from); err != nil {
				return err
			}
		}
		info.BlocksPerSM, err = k.function.MaxActiveBlocksPerMultiProcessor(block, int64(shared))
		return err
	})
	if d.info.ThreadsPerSM > 0 {
		info.Occupancy = float64(info.BlocksPerSM*block) / float64(d.info.ThreadsPerSM)
	}
	return info, d.failed("describe "+what, err)
}
