package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// BenchmarkStep is a training step on one thread, timed by the processor's clock, which other programs on the machine do not disturb.
func BenchmarkStep(b *testing.B) {
	cell := func(text string) func() (*nn.Network, error) {
		return func() (*nn.Network, error) {
			arch, err := space.NASBench101{}.Parse(text)
			if err != nil {
				return nil, err
			}
			return zoo.NASBench101(arch.(space.Cell), 128, 10)
		}
	}
	for _, c := range []struct {
		name  string
		batch int
		build func() (*nn.Network, error)
	}{
		{"nasbench101_best", 8, cell("nasbench101:best")},
		{"mobilenetv3_large", 16, func() (*nn.Network, error) { return zoo.MobileNetV3Large(224, 1000) }},
		{"mobilenetv2_1.4", 16, func() (*nn.Network, error) { return zoo.MobileNetV2(1.4, 224, 1000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			net, err := c.build()
			require.NoError(b, err)
			d, err := exec.Open(exec.Config{Threads: 1})
			require.NoError(b, err)
			defer d.Close()
			m, err := NewModel(d, net, Options{Batch: c.batch})
			require.NoError(b, err)
			defer m.Close()
			m.Initialize(nn.HeFanOut, 1)
			o, err := newOptimizer(m, RecipeDefaults())
			require.NoError(b, err)
			images, _ := kerneltest.Random(m.Images.Len(), 1)
			m.Images.WriteF32(0, images)
			m.Labels.WriteI32(0, make([]int32, c.batch))
			m.Step(0, 0)
			begin, steps := kerneltest.CPUSeconds(), 0
			for b.Loop() {
				m.Step(0, 0)
				o.update(0.01)
				steps++
			}
			seconds := (kerneltest.CPUSeconds() - begin) / float64(steps)
			b.ReportMetric(float64(c.batch)/seconds, "img/s(cpu)")
			b.ReportMetric(6*float64(net.Cost().MAdds)*float64(c.batch)/seconds/1e9, "GFLOP/s")
			b.ReportMetric(float64(m.Bytes())/1e6, "MB")
			b.ReportMetric(float64(m.peak)*4/1e6, "MB(placed)")
			b.ReportMetric(0, "ns/op")
		})
	}
}
