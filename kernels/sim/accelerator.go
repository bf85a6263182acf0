package sim

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

func init() { exec.Register("sim", openAccelerator) }

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

// Guarded says that every Alloc has guards around it.
func (a accelerator) Guarded() {}
