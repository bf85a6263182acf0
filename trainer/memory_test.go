package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// What is foreseen is what a simulated GPU of the same kind allocates, to the byte, and the processor about as much.
func TestMemory(t *testing.T) {
	mobile, err := zoo.MobileNetV3Large(32, 10)
	require.NoError(t, err)
	for _, c := range []struct {
		net    *nn.Network
		recipe string
	}{{cellNetwork(t, testCell, 16, 16), "nasbench101"}, {mobile, "mobilenetv3"}} {
		r, err := OpenRecipe(c.recipe)
		require.NoError(t, err)
		r.Batch = 12
		bytes := func(d *exec.Device) int64 {
			m, err := NewModel(d, c.net, (&Job{Recipe: r}).options())
			require.NoError(t, err)
			defer m.Close()
			_, err = newOptimizer(m.Parameters, r.Optimization)
			require.NoError(t, err)
			a := d.NewArena()
			defer a.Free()
			for range 2 {
				newSection(a, image.Regions{Images: r.Batch, Size: c.net.Input().H}, m.Images)
			}
			return m.Bytes() + a.Bytes()
		}
		for _, precision := range []exec.Precision{exec.FP32, exec.BF16} {
			got, err := Memory(c.net, r, precision)
			require.NoError(t, err)
			require.Equal(t, bytes(openOn(t, "sim90:ascending", precision)), got, "%s %s", c.net.Name, precision)
			t.Logf("%s %s: %d bytes, %.3f of the processor's", c.net.Name, precision, got,
				float64(got)/float64(bytes(openTest(t))))
			if precision == exec.FP32 {
				require.InEpsilon(t, bytes(openTest(t)), got, 0.3)
			}
		}
		twice := r
		twice.Batch *= 2
		one, err := Memory(c.net, r, exec.FP32)
		require.NoError(t, err)
		two, err := Memory(c.net, twice, exec.FP32)
		require.NoError(t, err)
		require.Greater(t, two, one)
	}
	r, err := OpenRecipe("mobilenetv3")
	require.NoError(t, err)
	r.Optimizer = "none"
	_, err = Memory(mobile, r, exec.FP32)
	require.ErrorContains(t, err, `optimizer "none"`)
}

func BenchmarkMemory(b *testing.B) {
	net, err := zoo.MobileNetV3Large(224, 1000)
	require.NoError(b, err)
	r, err := OpenRecipe("mobilenetv3")
	require.NoError(b, err)
	for b.Loop() {
		bytes, err := Memory(net, r, exec.BF16)
		require.NoError(b, err)
		b.ReportMetric(float64(bytes)/(1<<20), "MiB")
	}
}
