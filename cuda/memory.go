//go:build cuda

package cuda

// #include <stdlib.h>
// #include "driver.h"
import "C"

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"gorgonia.org/cu"
)

// memory keeps freed buffers for the next request of the same size class, because the driver's own functions wait for
// the GPU. A buffer may be handed out while work that used it is still under way: everything is on one stream, so its
// next use comes later.
type memory struct {
	cached map[int][]cu.DevicePtr // by size
	used   []buffer               // by address
	held   int64                  // bytes, cached and used
	wrong  int                    // frees of what was not in use
}

type buffer struct {
	at          cu.DevicePtr
	asked, size int
}

// find returns the buffer that starts at p, or where it would stand among those in use.
func (m *memory) find(p cu.DevicePtr) (int, bool) {
	return slices.BinarySearchFunc(m.used, p, func(b buffer, p cu.DevicePtr) int { return cmp.Compare(b.at, p) })
}

// inside tells whether [p, p+bytes) lies in one buffer in use.
func (m *memory) inside(p unsafe.Pointer, bytes int) bool {
	at := cu.DevicePtr(uintptr(p))
	i, found := m.find(at)
	if !found {
		i--
	}
	return i >= 0 && uint64(at)+uint64(bytes) <= uint64(m.used[i].at)+uint64(m.used[i].asked)
}

// class rounds a size up to an eighth of a power of two and to 256 bytes, so that at most an eighth is lost and sizes
// recur.
func class(bytes int) int {
	step := max(256, 1<<(bits.Len(uint(bytes))-1)/8)
	return (bytes + step - 1) / step * step
}

func pointer(p cu.DevicePtr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// Alloc returns device memory filled with 0xFF (NaN, or -1), aligned to 256 bytes. When there is not enough, the error
// says how much was asked for and how much is free.
func (d *Device) Alloc(bytes int) (unsafe.Pointer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return nil, err
	}
	if bytes < 0 || int64(bytes) > 1<<48 {
		return nil, fmt.Errorf("%s: %d bytes is no size of a buffer", d.info.Name, bytes)
	}
	var p cu.DevicePtr
	size := class(max(bytes, 1))
	err := d.in(func() error {
		var err error
		if p, err = d.memory.take(size); is(known(err), C.CUDA_ERROR_OUT_OF_MEMORY) {
			if err := errors.Join(known(d.stream.Synchronize()), d.memory.freeCached()); err != nil {
				return err
			}
			p, err = d.memory.take(size)
		}
		if err != nil {
			return err
		}
		if err = cu.MemsetD8Async(p, 0xff, int64(size), d.stream); err != nil {
			d.memory.cached[size] = append(d.memory.cached[size], p)
		}
		return err
	})
	if is(err, C.CUDA_ERROR_OUT_OF_MEMORY) {
		return nil, d.outOfMemory(bytes)
	}
	if err != nil {
		return nil, d.failed(fmt.Sprintf("allocate %d bytes", bytes), err)
	}
	i, _ := d.memory.find(p)
	d.memory.used = slices.Insert(d.memory.used, i, buffer{p, bytes, size})
	return pointer(p), nil
}

func (m *memory) take(size int) (cu.DevicePtr, error) {
	if c := m.cached[size]; len(c) > 0 {
		m.cached[size] = c[:len(c)-1]
		return c[len(c)-1], nil
	}
	p, err := cu.MemAlloc(int64(size))
	if err == nil {
		m.held += int64(size)
	}
	return p, err
}

func (d *Device) outOfMemory(bytes int) error {
	var free, total int64
	err := d.in(func() error {
		var err error
		free, total, err = cu.MemInfo()
		return err
	})
	if err != nil {
		return d.failed(fmt.Sprintf("allocate %d bytes", bytes), err)
	}
	const mib = 1 << 20
	return fmt.Errorf("%s: out of memory: %.1f MiB were asked for, %.1f MiB of %.1f MiB are free, %d buffers of this "+
		"program hold %.1f MiB", d.info.Name, float64(bytes)/mib, float64(free)/mib, float64(total)/mib,
		len(d.memory.used), float64(d.memory.held)/mib)
}

// Free returns a buffer. Work that was enqueued before may still use it. Freeing nil does nothing; freeing what is not
// in use is reported by Close.
func (d *Device) Free(p unsafe.Pointer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p == nil || d.closed {
		return
	}
	i, found := d.memory.find(cu.DevicePtr(uintptr(p)))
	if !found {
		d.memory.wrong++
		return
	}
	b := d.memory.used[i]
	d.memory.used = slices.Delete(d.memory.used, i, i+1)
	d.memory.cached[b.size] = append(d.memory.cached[b.size], b.at)
}

// Trim gives the memory of freed buffers back to the driver, after the work that may still use it: for when something
// large has ended and other processes may want it.
func (d *Device) Trim() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.memory.cached) == 0 {
		return
	}
	if d.in(func() error { return d.stream.Synchronize() }) != nil {
		return // a failure of earlier work, which the next Sync or Close reports
	}
	_ = d.in(d.memory.freeCached)
}

func (m *memory) freeCached() error {
	var errs []error
	for size, all := range m.cached {
		for _, p := range all {
			errs = append(errs, known(cu.MemFree(p)))
			m.held -= int64(size)
		}
	}
	clear(m.cached)
	return errors.Join(errs...)
}

func (m *memory) freeUsed() error {
	var errs []error
	for _, b := range m.used {
		errs = append(errs, known(cu.MemFree(b.at)))
	}
	m.used = nil
	return errors.Join(errs...)
}

func (m *memory) leaks() error {
	var errs []error
	if n := len(m.used); n > 0 {
		var sizes []string
		for _, b := range slices.SortedFunc(slices.Values(m.used), func(a, b buffer) int {
			return cmp.Compare(b.asked, a.asked)
		}) {
			sizes = append(sizes, fmt.Sprint(b.asked))
		}
		errs = append(errs, fmt.Errorf("%d buffers were not freed, of %s bytes", n, list(sizes, "and")))
	}
	if m.wrong > 0 {
		errs = append(errs, fmt.Errorf("%d times something was freed that was not in use", m.wrong))
	}
	return errors.Join(errs...)
}

// Write copies from the host to device memory, in order with everything else; src may be reused when it returns.
func (d *Device) Write(dst, src unsafe.Pointer, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.copies(dst, bytes, "write"); err != nil || bytes == 0 {
		return err
	}
	return d.failed(fmt.Sprintf("write %d bytes", bytes),
		check(C.ctn_write(d.c(), d.s(), d.staging, C.CUdeviceptr(uintptr(dst)), (*C.char)(src), C.size_t(bytes))))
}

// Upload copies from the host to device memory while what was enqueued before runs, on a stream of its own, and has
// ended when it returns. Nothing that is enqueued may use dst, nor may the filling of a new buffer: wait for that
// first. From memory of Pin the GPU copies by itself.
func (d *Device) Upload(dst, src unsafe.Pointer, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.copies(dst, bytes, "upload"); err != nil || bytes == 0 {
		return err
	}
	doing := fmt.Sprintf("upload %d bytes", bytes)
	if d.uploading == nil {
		var err error
		if d.uploads, err = makeStream(d); err != nil {
			return d.failed(doing, err)
		}
		if d.uploading, err = d.pin(); err != nil {
			return errors.Join(err, d.in(d.uploads.Destroy))
		}
	}
	stream := *(*C.CUstream)(unsafe.Pointer(&d.uploads))
	var code C.CUresult
	if to := C.CUdeviceptr(uintptr(dst)); isPinned(src, bytes) {
		code = C.ctn_upload(d.c(), stream, to, (*C.char)(src), C.size_t(bytes))
	} else {
		code = C.ctn_write(d.c(), stream, d.uploading, to, (*C.char)(src), C.size_t(bytes))
	}
	if err := check(code); err != nil {
		return d.failed(doing, err)
	}
	return d.failed(doing, d.in(d.uploads.Synchronize))
}

func makeStream(d *Device) (s cu.Stream, err error) {
	err = d.in(func() error {
		s, err = cu.MakeStream(cu.NonBlocking)
		return err
	})
	return s, err
}

// Read copies from device memory to the host after all that was enqueued before, and waits for it.
func (d *Device) Read(dst, src unsafe.Pointer, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.copies(src, bytes, "read"); err != nil {
		return err
	}
	if bytes > 0 {
		code := C.ctn_read(d.c(), d.s(), d.staging, (*C.char)(dst), C.CUdeviceptr(uintptr(src)), C.size_t(bytes))
		if err := check(code); err != nil {
			return d.failed(fmt.Sprintf("read %d bytes", bytes), err)
		}
	}
	return d.sync()
}

// copies checks the device's side of a copy and makes the pinned memory.
func (d *Device) copies(at unsafe.Pointer, bytes int, doing string) error {
	if err := d.ready(); err != nil {
		return err
	}
	if bytes < 0 || bytes > 0 && !d.memory.inside(at, bytes) && !d.origin.has(at, bytes) {
		return fmt.Errorf("%s: %s: %d bytes at %p are not inside a buffer of this device", d.info.Name,
			doing, bytes, at)
	}
	if d.staging != nil {
		return nil
	}
	var err error
	d.staging, err = d.pin()
	return err
}

// has tells whether memory is inside a buffer of the device.
func (d *Device) has(at unsafe.Pointer, bytes int) bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.closed && d.memory.inside(at, bytes)
}

// pin makes a ring of pinned memory.
func (d *Device) pin() (*C.ctn_staging, error) {
	s := (*C.ctn_staging)(C.calloc(1, C.sizeof_ctn_staging))
	if s == nil {
		return nil, fmt.Errorf("%s: the host is out of memory", d.info.Name)
	}
	blocking := C.int(0)
	if d.sleeps {
		blocking = 1
	}
	if err := check(C.ctn_staging_make(d.c(), s, blocking)); err != nil {
		C.ctn_staging_free(d.c(), s)
		C.free(unsafe.Pointer(s))
		return nil, d.failed(fmt.Sprintf("pin %d MiB of the host's memory", C.CTN_SLOTS*C.CTN_SLOT_BYTES>>20), err)
	}
	return s, nil
}
