package trainer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// BenchmarkRecording says which share of an update's time goes into recording paths that were not seen before, on one
// thread: of once-for-all's supernet at 128 pixels, and of a small one. An update trains the largest path, the smallest
// and two random ones.
func BenchmarkRecording(b *testing.B) {
	for _, c := range []struct {
		space   string
		batch   int
		classes int
	}{{"mobilenetv3@w1.0,r128", 8, 1000}, {"mobilenetv3@w0.35,r32,s16", 32, 10}} {
		b.Run(fmt.Sprintf("%s/batch%d", c.space, c.batch), func(b *testing.B) {
			sp, err := space.Open(c.space)
			require.NoError(b, err)
			e := elasticSpace{sp.(space.Shrinking)}
			_, side := e.Sides()
			shared, err := e.Supernet(c.classes)
			require.NoError(b, err)
			d, err := exec.Open(exec.Config{Threads: 1})
			require.NoError(b, err)
			defer d.Close()
			s, err := NewSupernet(d, shared, SupernetOptions{Batch: c.batch, Image: nn.Shape{H: side, W: side, C: 3},
				Classes: c.classes})
			require.NoError(b, err)
			defer s.Close()
			s.SetValues(shared.Initialize(nn.HeFanOut, 1))
			images, _ := kerneltest.Random(s.Images.Len(), 1)
			s.Images.WriteF32(0, images)
			s.Labels.WriteI32(0, make([]int32, c.batch))
			updates, recording, all := uint32(0), 0.0, 0.0
			update := func() {
				keys := []string{e.Largest(side), e.Smallest(side)}
				for k := range 2 {
					key, err := e.Sample(pathDraw(1, updates, k), zoo.Choices{}, side)
					require.NoError(b, err)
					keys = append(keys, key)
				}
				begin := kerneltest.CPUSeconds()
				s.ZeroGradient()
				for _, key := range keys {
					wanted := kerneltest.CPUSeconds()
					m, err := s.Path(key, PathOptions{}, func() (nn.Path, error) { return e.Path(key, c.classes) })
					require.NoError(b, err)
					recording += kerneltest.CPUSeconds() - wanted
					m.Step(updates, 0)
				}
				s.FinishGradient()
				all += kerneltest.CPUSeconds() - begin
				updates++
			}
			for range 12 { // until paths are recorded where others were
				update()
			}
			recording, all = 0, 0
			for b.Loop() {
				update()
			}
			b.ReportMetric(100*recording/all, "%recording(cpu)")
			b.ReportMetric(all/float64(b.N), "s(cpu)/update")
			b.ReportMetric(0, "ns/op")
		})
	}
}
