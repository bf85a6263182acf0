// An outside package: the simulator, on which the tests run too, imports the families.
package peak_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/peak"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func TestPeakDoesItsOperations(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		p, out := ar.NewProgram("peak"), ar.F32(3)
		flops := Record(p, out, 40)
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
	ar := d.NewArena()
	defer ar.Free()
	require.Panics(t, func() { Record(ar.NewProgram("none"), ar.F32(1), 0) })
	require.Panics(t, func() { RecordBF16(ar.NewProgram("none"), ar.F32(1), 5) })
	require.Panics(t, func() { RecordCopy(ar.NewProgram("none"), ar.F32(1), ar.F32(2)) })
}

func TestTensorCoresDoTheirOperations(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		p, out := ar.NewProgram("tensor cores"), ar.F32(3)
		width := RecordBF16(p, out, 5) / (2 * 16 * 5 * 3) // a number is the sum of 16 products
		p.Run(1)
		for task, got := range out.Values() {
			require.InEpsilon(t, width*float64(task+5), got, 1e-6)
		}
	})
}

func TestCopy(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range []int{1, 4, 7, 4099, 1 << 15} {
			ar := d.NewArena()
			src, _ := kerneltest.Random(n, uint32(i))
			p, dst := ar.NewProgram("copy"), ar.F32(n)
			require.EqualValues(t, 8*n, RecordCopy(p, dst, ar.Floats(src)))
			p.Run(1)
			require.Equal(t, src, dst.Values())
			ar.Free()
		}
	})
}
