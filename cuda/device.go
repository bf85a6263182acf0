//go:build cuda

package cuda

/*
#cgo CFLAGS: -O2 -std=gnu11
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"gorgonia.org/cu"
)

// start loads the driver. Its error says why this machine has no GPU that the program can use.
func start() error {
	var why *C.char
	code := C.ctn_driver_start(&why)
	switch {
	case why != nil:
		return fmt.Errorf("no NVIDIA driver on this machine (%s)", C.GoString(why))
	case code == C.CUDA_ERROR_NO_DEVICE:
		return errors.New("no NVIDIA GPU that the driver can use (see nvidia-smi and CUDA_VISIBLE_DEVICES)")
	case code != C.CUDA_SUCCESS:
		return fmt.Errorf("the NVIDIA driver does not start: %w", driverError(code))
	}
	// Within a major version older drivers run newer programs; across major versions they do not.
	if v := cu.Version(); v/1000 < C.CUDA_VERSION/1000 {
		return fmt.Errorf("the NVIDIA driver is too old: it supports CUDA %s, this program needs %d.0 or newer",
			version(v), C.CUDA_VERSION/1000)
	}
	return nil
}

func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// count starts the driver and says how many GPUs it has, at least one.
func count() (int, error) {
	if err := start(); err != nil {
		return 0, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return 0, known(err)
	}
	if n == 0 {
		return 0, errors.New("the NVIDIA driver sees no GPU")
	}
	return n, nil
}

// Devices lists the GPUs that answer. The error says why there is none (no driver, no GPU, or a driver that is too
// old) or, beside the others, which do not answer.
func Devices() ([]Info, error) {
	n, err := count()
	if err != nil {
		return nil, err
	}
	var all []Info
	var bad []error
	for i := range n {
		if info, err := describe(i); err != nil {
			bad = append(bad, err)
		} else {
			all = append(all, info)
		}
	}
	return all, errors.Join(bad...)
}

// Roomiest names the GPU that has the most free memory among those this process may use, the first of equals; the only
// one without a look, which takes a fraction of a second for each. The error says why there is none or, beside one,
// which others cannot be used.
func Roomiest() (string, error) {
	all, err := Devices()
	if len(all) == 1 && err == nil {
		return all[0].Name, nil
	}
	best, most, bad := "", int64(-1), []error{err}
	for _, info := range all {
		free, err := room(info)
		if err != nil {
			bad = append(bad, err)
		} else if free > most {
			best, most = info.Name, free
		}
	}
	return best, errors.Join(bad...)
}

// room is how much memory of a GPU is free. A GPU that other processes have for themselves is an error.
func room(info Info) (int64, error) {
	d := &Device{info: info}
	ordinal, err := strconv.Atoi(strings.TrimPrefix(info.Name, "cuda:"))
	if err != nil {
		return 0, err
	}
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return 0, d.failed("open", known(err))
	}
	if d.context, err = dev.RetainPrimaryCtx(); err != nil {
		return 0, d.failed("open", known(err))
	}
	var free int64
	err = d.in(func() error {
		var err error
		free, _, err = cu.MemInfo()
		return err
	})
	return free, errors.Join(d.failed("look for free memory", err), d.failed("close", known(dev.ReleasePrimaryCtx())))
}

func describe(ordinal int) (Info, error) {
	info := Info{Name: fmt.Sprintf("cuda:%d", ordinal), Driver: version(cu.Version())}
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return info, fmt.Errorf("%s: %w", info.Name, known(err))
	}
	if info.Model, err = dev.Name(); err != nil {
		return info, fmt.Errorf("%s: %w", info.Name, known(err))
	}
	if info.MemoryBytes, err = dev.TotalMem(); err != nil {
		return info, fmt.Errorf("%s: %w", info.Name, known(err))
	}
	get := func(a cu.DeviceAttribute) int {
		v, err := dev.Attribute(a)
		if err != nil {
			return 0
		}
		return v
	}
	info.SM = 10*get(C.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
		get(C.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
	info.SMs = get(C.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
	info.ClockMHz = get(C.CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000
	info.MemoryClockMHz = get(C.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) / 1000
	info.MemoryBusBits = get(C.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)
	info.L2Bytes = get(C.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)
	info.SharedPerBlock = get(C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
	info.SharedPerSM = get(C.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
	info.RegistersPerSM = get(C.CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)
	info.ThreadsPerSM = get(C.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)
	info.UnifiedWithHost = get(C.CU_DEVICE_ATTRIBUTE_INTEGRATED) != 0
	return info, nil
}

// Device is a GPU with a stream of its own, on which everything happens in order. Its methods may be called by any
// goroutine; calls wait for each other. Several Devices may be open on one GPU.
type Device struct {
	info   Info
	images func(file string) []byte
	slowly bool // CTNAS_CUDA_SYNC
	sleeps bool // CTNAS_CUDA_BLOCKING

	mu        sync.Mutex
	closed    bool
	dev       cu.Device
	context   cu.CUContext
	stream    cu.Stream
	start     cu.Event
	stop      cu.Event
	staging   *C.ctn_staging // made by the first copy
	uploads   cu.Stream      // with uploading, made by the first Upload
	uploading *C.ctn_staging
	gate      cu.Event // with gated, made by the first device that follows this one
	gated     bool
	peers     map[*Device]bool // whose memory this one reaches, as well as it can
	origin    *Device          // whose buffers this one may use too; nil: of none
	modules   map[string]cu.Module
	kernels   map[[2]string]*kernel // by file and entry
	memory    memory
	sequences map[*Sequence]bool
	running   []string // sequences enqueued since the device was last known to be idle
}

// Open opens a GPU. images gives the fatbin of a .cu file by its base name, nil where the program has none. With
// CTNAS_CUDA_SYNC=1 in the environment, sequences run one kernel at a time, so that an error names the kernel; with
// CTNAS_CUDA_BLOCKING=1 a thread that waits for the GPU sleeps, where it would otherwise keep a processor busy.
func Open(ordinal int, images func(file string) []byte) (*Device, error) {
	n, err := count()
	if err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= n {
		return nil, fmt.Errorf("no GPU cuda:%d: this machine has %d, from cuda:0 on", ordinal, n)
	}
	info, err := describe(ordinal)
	if err != nil {
		return nil, err
	}
	d := &Device{
		info: info, images: images, slowly: os.Getenv("CTNAS_CUDA_SYNC") == "1",
		sleeps: os.Getenv("CTNAS_CUDA_BLOCKING") == "1", modules: map[string]cu.Module{},
		kernels: map[[2]string]*kernel{}, memory: memory{cached: map[int][]cu.DevicePtr{}},
		sequences: map[*Sequence]bool{}, peers: map[*Device]bool{},
	}
	if d.dev, err = cu.GetDevice(ordinal); err != nil {
		return nil, d.failed("open", known(err))
	}
	if d.sleeps {
		if err := known(d.dev.SetPrimaryCtxFlags(cu.SchedBlockingSync)); err != nil {
			return nil, d.failed("open", err)
		}
	}
	if d.context, err = d.dev.RetainPrimaryCtx(); err != nil {
		return nil, d.failed("open", known(err))
	}
	err = d.in(func() error {
		var err error
		if d.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
			return err
		}
		if d.start, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return err
		}
		d.stop, err = cu.MakeEvent(cu.DefaultEvent)
		return err
	})
	if err != nil {
		return nil, errors.Join(d.failed("open", err), d.dev.ReleasePrimaryCtx())
	}
	return d, nil
}

// Info describes the GPU.
func (d *Device) Info() Info { return d.info }

// in runs calls of cu, which expect the context to be current on the thread.
func (d *Device) in(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cu.SetCurrentContext(d.context); err != nil {
		return known(err)
	}
	return known(f())
}

// Handles are unexported fields of cu's types, and C types belong to a package.
func (d *Device) c() C.CUcontext  { return *(*C.CUcontext)(unsafe.Pointer(&d.context)) }
func (d *Device) s() C.CUstream   { return *(*C.CUstream)(unsafe.Pointer(&d.stream)) }
func event(e *cu.Event) C.CUevent { return *(*C.CUevent)(unsafe.Pointer(e)) }

// failed says what was done when the driver returned an error, and what may have been the cause where that was earlier
// work.
func (d *Device) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	var e driverError
	if !errors.As(err, &e) || !e.asynchronous() || len(d.running) == 0 {
		return fmt.Errorf("%s: %s: %w", d.info.Name, doing, err)
	}
	return fmt.Errorf("%s: %w in %s; with CTNAS_CUDA_SYNC=1 in the environment the error names the kernel",
		d.info.Name, err, list(d.running, "or"))
}

func (d *Device) ready() error {
	if d.closed {
		return fmt.Errorf("%s: the device is closed", d.info.Name)
	}
	return nil
}

// Sync waits for all that was enqueued. A kernel that failed is reported here, or by any other call, with the sequences
// it may have belonged to.
func (d *Device) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ready(); err != nil {
		return err
	}
	return d.sync()
}

func (d *Device) sync() error {
	if err := d.in(func() error { return d.stream.Synchronize() }); err != nil {
		return d.failed("wait", err)
	}
	d.running = d.running[:0]
	return nil
}

// Close waits and frees everything. The error lists buffers and sequences that were not freed.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	errs := []error{d.sync(), d.leaks()}
	for s := range d.sequences {
		errs = append(errs, d.failed("free a sequence", s.free()))
	}
	if d.gated {
		errs = append(errs, d.failed("close", d.in(func() error { return cu.DestroyEvent(&d.gate) })))
	}
	if d.uploading != nil {
		errs = append(errs, d.failed("close", d.in(d.uploads.Destroy)))
	}
	for _, s := range []*C.ctn_staging{d.staging, d.uploading} {
		if s != nil {
			errs = append(errs, d.failed("free pinned memory", check(C.ctn_staging_free(d.c(), s))))
			C.free(unsafe.Pointer(s))
		}
	}
	errs = append(errs, d.failed("free pinned memory", d.unpin()),
		d.failed("free memory", d.in(d.memory.freeCached)),
		d.failed("free memory", d.in(d.memory.freeUsed)))
	for _, m := range d.modules {
		errs = append(errs, d.failed("unload kernels", d.in(m.Unload)))
	}
	errs = append(errs,
		d.failed("close", d.in(func() error { return cu.DestroyEvent(&d.start) })),
		d.failed("close", d.in(func() error { return cu.DestroyEvent(&d.stop) })),
		d.failed("close", d.in(d.stream.Destroy)),
		d.failed("close", known(d.dev.ReleasePrimaryCtx())))
	if errs[0] != nil {
		return errors.Join(errs[:2]...) // the context is dead: nothing could be freed
	}
	return errors.Join(errs...)
}

func (d *Device) leaks() error {
	var errs []error
	if err := d.memory.leaks(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", d.info.Name, err))
	}
	if n := len(d.sequences); n > 0 {
		var names []string
		for s := range d.sequences {
			names = append(names, s.name)
		}
		sort.Strings(names)
		errs = append(errs, fmt.Errorf("%s: %d sequences were not freed: %s", d.info.Name, n, list(names, "and")))
	}
	return errors.Join(errs...)
}

// list joins the first names, and says how many more there are.
func list(names []string, last string) string {
	const most = 8
	if n := len(names); n > most {
		return fmt.Sprintf("%s %s %d more", strings.Join(names[:most], ", "), last, n-most)
	} else if n > 1 {
		return fmt.Sprintf("%s %s %s", strings.Join(names[:n-1], ", "), last, names[n-1])
	}
	return strings.Join(names, "")
}
