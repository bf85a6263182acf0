//go:build cuda

package cuda

// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"
)

// pinned is all memory of Pin, of every device: one that did not make it copies from it too.
var pinned struct {
	mu  sync.Mutex
	all []pinnedMemory
}

type pinnedMemory struct {
	at    unsafe.Pointer
	bytes int
	of    *Device
}

// Pin returns memory of the host, aligned to 256 bytes, that GPUs copy from by themselves: Upload from it leaves the
// processor free. It is not cleared, and freed by Close.
func (d *Device) Pin(bytes int) (unsafe.Pointer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return nil, err
	}
	var at unsafe.Pointer
	if err := check(C.ctn_pin(d.c(), C.size_t(max(1, bytes)), &at)); err != nil {
		return nil, d.failed(fmt.Sprintf("pin %d bytes of the host's memory", bytes), err)
	}
	pinned.mu.Lock()
	defer pinned.mu.Unlock()
	pinned.all = append(pinned.all, pinnedMemory{at, bytes, d})
	return at, nil
}

// isPinned tells whether memory lies in what Pin has returned.
func isPinned(p unsafe.Pointer, bytes int) bool {
	at := uintptr(p)
	pinned.mu.Lock()
	defer pinned.mu.Unlock()
	return slices.ContainsFunc(pinned.all, func(m pinnedMemory) bool {
		return at >= uintptr(m.at) && at+uintptr(bytes) <= uintptr(m.at)+uintptr(m.bytes)
	})
}

// unpin frees all that the device has pinned.
func (d *Device) unpin() error {
	pinned.mu.Lock()
	defer pinned.mu.Unlock()
	var errs []error
	pinned.all = slices.DeleteFunc(pinned.all, func(m pinnedMemory) bool {
		if m.of != d {
			return false
		}
		errs = append(errs, check(C.ctn_unpin(d.c(), m.at)))
		return true
	})
	return errors.Join(errs...)
}
