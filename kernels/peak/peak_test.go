package peak_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/peak"
)

func TestPeakDoesItsOperations(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		p, out := ar.NewProgram("peak"), ar.F32(3)
		flops := peak.Record(p, out, 40)
		p.Run(1)
		width := flops / (2 * 40 * 3) // numbers a task holds
		for task, got := range out.Values() {
			// x -> x/2 + y ends at 2y wherever it began.
			require.InEpsilon(t, width*(1+2*float64(task)), got, 1e-6)
		}
	})
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	require.Panics(t, func() { peak.Record(d.NewArena().NewProgram("none"), nil, 0) })
}
