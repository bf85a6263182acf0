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

// benchmarked are the networks that are compared with PyTorch, see internal/bench, and one of few channels.
var benchmarked = []struct {
	name  string
	batch int
	build func() (*nn.Network, error)
}{
	{"nasbench101_best", 8, benchmarkedCell("nasbench101:best", 128, 3)},
	{"nasbench101_inception", 8, benchmarkedCell("nasbench101:inception", 128, 3)},
	{"nasbench101_small", 32, benchmarkedCell("nasbench101:best", 8, 1)},
	{"mobilenetv3_large", 16, func() (*nn.Network, error) { return zoo.MobileNetV3Large(224, 1000) }},
	{"mobilenetv2_1.4", 16, func() (*nn.Network, error) { return zoo.MobileNetV2(1.4, 224, 1000) }},
}

func benchmarkedCell(text string, channels, modules int) func() (*nn.Network, error) {
	return func() (*nn.Network, error) {
		arch, err := space.NASBench101{}.Parse(text)
		if err != nil {
			return nil, err
		}
		return zoo.CellNetwork{Cell: arch.(space.Cell), Image: nn.Shape{H: 32, W: 32, C: 3}, Channels: channels, Stacks: 3, Modules: modules, Classes: 10}.Build()
	}
}

// BenchmarkStep is a training step on one thread, timed by the processor's clock, which other programs on the machine do not disturb.
func BenchmarkStep(b *testing.B) {
	for _, c := range benchmarked {
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
