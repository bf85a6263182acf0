//go:build !cuda

package cuda

import (
	"errors"
	"unsafe"
)

var errNoSupport = errors.New("this program was built without GPU support: build it with `make gpu`")

// Device does not exist in a program without GPU support: Open gives none.
type Device struct{}

// Sequence does not exist in a program without GPU support.
type Sequence struct{}

// Devices lists the GPUs. The error says why there is none.
func Devices() ([]Info, error) { return nil, errNoSupport }

// Roomiest names no GPU. The error says why.
func Roomiest() (string, error) { return "", errNoSupport }

// Open says what is missing.
func Open(int, func(file string) []byte) (*Device, error) { return nil, errNoSupport }

// Info is empty.
func (*Device) Info() Info { return Info{} }

// Alloc says what is missing.
func (*Device) Alloc(int) (unsafe.Pointer, error) { return nil, errNoSupport }

// Free does nothing.
func (*Device) Free(unsafe.Pointer) {}

// Trim does nothing.
func (*Device) Trim() {}

// Write says what is missing.
func (*Device) Write(_, _ unsafe.Pointer, _ int) error { return errNoSupport }

// Upload says what is missing.
func (*Device) Upload(_, _ unsafe.Pointer, _ int) error { return errNoSupport }

// Pin says what is missing.
func (*Device) Pin(int) (unsafe.Pointer, error) { return nil, errNoSupport }

// Follow says what is missing.
func (*Device) Follow(*Device) error { return errNoSupport }

// CopyFrom says what is missing.
func (*Device) CopyFrom(_ *Device, _, _ unsafe.Pointer, _ int) error { return errNoSupport }

// Fork says what is missing.
func (*Device) Fork() (*Device, error) { return nil, errNoSupport }

// Read says what is missing.
func (*Device) Read(_, _ unsafe.Pointer, _ int) error { return errNoSupport }

// Sequence says what is missing.
func (*Device) Sequence([]Launch) (*Sequence, error) { return nil, errNoSupport }

// Loop says what is missing.
func (*Device) Loop([]Launch) (*Sequence, error) { return nil, errNoSupport }

// Sync says what is missing.
func (*Device) Sync() error { return errNoSupport }

// Kernel says what is missing.
func (*Device) Kernel(_, _ string, _, _ int) (KernelInfo, error) { return KernelInfo{}, errNoSupport }

// ImageMap says what is missing.
func (*Device) ImageMap(unsafe.Pointer, ImageMap) error { return errNoSupport }

// Close says what is missing.
func (*Device) Close() error { return errNoSupport }

// Run says what is missing.
func (*Sequence) Run(int) error { return errNoSupport }

// Time says what is missing.
func (*Sequence) Time(int) (float64, error) { return 0, errNoSupport }

// Profile says what is missing.
func (*Sequence) Profile() ([]float64, error) { return nil, errNoSupport }

// Free does nothing.
func (*Sequence) Free() {}
