package exec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	if d.Info().SM == hopperSM {
		return hopper{gpu{d}}, nil
	}
	return gpu{d}, nil
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
