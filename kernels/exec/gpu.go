package exec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/fatbin"
)

func init() { Register("cuda", openGPU) }

// HasGPUSupport tells whether this program was built with kernels for GPUs.
const HasGPUSupport = fatbin.Embedded

// gpu is a device of package cuda as an Accelerator.
type gpu struct{ *cuda.Device }

func openGPU(name string, precision Precision) (Accelerator, error) {
	ordinal, err := strconv.Atoi(strings.TrimPrefix(name, "cuda:"))
	if err != nil || ordinal < 0 {
		return nil, fmt.Errorf("want cuda:N")
	}
	images, err := fatbin.Load()
	if err != nil {
		return nil, err
	}
	d, err := cuda.Open(ordinal, images)
	if err != nil {
		return nil, err
	}
	const bf16SM = 80 // the first architecture with bfloat16 tensor cores
	if sm := d.Info().SM; precision == BF16 && sm < bf16SM {
		return nil, errors.Join(fmt.Errorf("precision %s needs compute capability 8.0, this is sm_%d", BF16, sm),
			d.Close())
	}
	return ofGPU(d), nil
}

func ofGPU(d *cuda.Device) Accelerator {
	if d.Info().SM == hopperSM {
		return hopper{gpu{d}}
	}
	return gpu{d}
}

// onGPU is a gpu, or what is made of one.
type onGPU interface{ device() *cuda.Device }

func (g gpu) device() *cuda.Device { return g.Device }

// Follow has what is enqueued from now on wait for what is enqueued on another GPU.
func (g gpu) Follow(other Accelerator) error { return g.Device.Follow(other.(onGPU).device()) }

// CopyFrom copies from another GPU.
func (g gpu) CopyFrom(other Accelerator, dst, src unsafe.Pointer, bytes int) error {
	return g.Device.CopyFrom(other.(onGPU).device(), dst, src, bytes)
}

// Fork opens the GPU once more, for work that runs beside this one's.
func (g gpu) Fork() (Accelerator, error) {
	d, err := g.Device.Fork()
	if err != nil {
		return nil, err
	}
	return ofGPU(d), nil
}

// hopper is a GPU that runs kernels compiled for sm_90a.
type hopper struct{ gpu }

const hopperSM = 90

// Hopper says so.
func (hopper) Hopper() {}

func (g gpu) Level() string { return fmt.Sprintf("sm_%d", g.Info().SM) }

func (g gpu) Sequence(launches []cuda.Launch) (Sequence, error) {
	return sequence(g.Device.Sequence(launches))
}
func (g gpu) Loop(launches []cuda.Launch) (Sequence, error) { return sequence(g.Device.Loop(launches)) }

// sequence keeps a nil pointer from becoming an interface that is not nil.
func sequence(s *cuda.Sequence, err error) (Sequence, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
