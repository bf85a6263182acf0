//go:build cuda

package cuda

// #include "driver.h"
import "C"

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"gorgonia.org/cu"
)

// Follow has all that is enqueued on the device from now on wait for what is enqueued on another one so far. The host
// does not wait.
func (d *Device) Follow(other *Device) error {
	if d == other {
		return nil
	}
	doing := "wait for " + other.info.Name
	context, stream, gate, err := other.followed()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return err
	}
	if err := d.reach(other, context); err != nil {
		return d.failed(doing, err)
	}
	return d.failed(doing, check(C.ctn_follow(d.c(), d.s(), context, stream, gate)))
}

// followed is what somebody needs who follows the device.
func (d *Device) followed() (context C.CUcontext, stream C.CUstream, gate C.CUevent, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return nil, nil, nil, err
	}
	if !d.gated {
		err := d.in(func() error {
			var err error
			d.gate, err = cu.MakeEvent(cu.DisableTiming)
			return err
		})
		if err != nil {
			return nil, nil, nil, d.failed("make an event", err)
		}
		d.gated = true
	}
	return d.c(), d.s(), event(&d.gate), nil
}

// reach makes the other's memory accessible, once.
func (d *Device) reach(other *Device, context C.CUcontext) error {
	if d.peers[other] {
		return nil
	}
	err := check(C.ctn_peer(d.c(), C.CUdevice(d.dev), context, C.CUdevice(other.dev)))
	d.peers[other] = err == nil
	return err
}

// CopyFrom copies from another device's memory to this one's, after what was enqueued here before; Follow says after
// what of the other one's. The other must not change src before it follows this device.
func (d *Device) CopyFrom(other *Device, dst, src unsafe.Pointer, bytes int) error {
	if err := other.holds(src, bytes); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.copies(dst, bytes, "copy"); err != nil || bytes == 0 {
		return err
	}
	code := C.ctn_copy_from(d.c(), d.s(), C.CUdeviceptr(uintptr(dst)), *(*C.CUcontext)(unsafe.Pointer(&other.context)),
		C.CUdeviceptr(uintptr(src)), C.size_t(bytes))
	return d.failed(fmt.Sprintf("copy %d bytes from %s", bytes, other.info.Name), check(code))
}

// Fork opens the GPU once more: what is enqueued there runs beside what is enqueued here, unless one follows the other.
// It may copy to and from d's buffers, and run kernels over them. It is closed before d.
func (d *Device) Fork() (*Device, error) {
	ordinal, err := strconv.Atoi(strings.TrimPrefix(d.info.Name, "cuda:"))
	if err != nil {
		return nil, d.failed("open", err)
	}
	f, err := Open(ordinal, d.images)
	if err == nil {
		f.origin = d
	}
	return f, err
}

// holds tells whether memory is inside a buffer of the device.
func (d *Device) holds(at unsafe.Pointer, bytes int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.copies(at, bytes, "copy")
}
