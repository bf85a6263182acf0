package sim

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

func init() {
	exec.Register("sim", openAccelerator)
	exec.Register("sim90", func(name string, p exec.Precision) (exec.Accelerator, error) {
		a, err := openAccelerator("sim:"+strings.TrimPrefix(name, "sim90:"), p)
		if err != nil {
			return nil, err
		}
		return hopper{a.(accelerator)}, nil
	})
}

// accelerator is a Device as package exec knows it: "sim:ascending", "sim:descending", "sim:random".
type accelerator struct{ *Device }

func openAccelerator(name string, _ exec.Precision) (exec.Accelerator, error) {
	for _, order := range Orders {
		if strings.TrimPrefix(name, "sim:") == order.String() {
			return accelerator{Open(Config{Order: order})}, nil
		}
	}
	return nil, fmt.Errorf("want one of the orders sim:%v", Orders)
}

func (a accelerator) Sequence(launches []cuda.Launch) (exec.Sequence, error) {
	s, err := a.Device.Sequence(launches)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Loop is Sequence, which launches one by one.
func (a accelerator) Loop(launches []cuda.Launch) (exec.Sequence, error) { return a.Sequence(launches) }

// hopper is a simulated GPU of compute capability 9.0: "sim90:ascending" and so on. The others stand for those that
// have no wgmma.
type hopper struct{ accelerator }

// Level is not that of the other simulated GPUs, whose results differ.
func (h hopper) Level() string { return "sim90/" + strings.TrimPrefix(h.accelerator.Level(), "sim/") }

// Hopper says that the kernels of sm_90a run.
func (hopper) Hopper() {}

// ImageMap writes what a kernel gets for m.
func (hopper) ImageMap(dst unsafe.Pointer, m cuda.ImageMap) error { return ImageMap(dst, m) }

// Guarded says that every Alloc has guards around it.
func (a accelerator) Guarded() {}
