package graph

import (
	"fmt"
	"math"
	"testing"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

func randomLabels(rows int) []int32 {
	s := philox.New(5, philox.PurposeTest, uint32(rows))
	out := make([]int32, rows)
	for i := range out {
		out[i] = int32(s.Intn(5))
	}
	return out
}

func TestGated(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {3, 5}, {65, 16}, {130, 33}, {200, 64}} {
			for _, hears := range []bool{true, false} {
				rows, width := s[0], s[1]
				ar := d.NewArena()
				label := randomLabels(rows)
				table, table64 := kerneltest.Random(5*2*width, uint32(i))
				gates, gates64 := kerneltest.Random(rows*2*width, uint32(i+10))
				heard, heard64 := kerneltest.Random(rows*width, uint32(i+20))
				grad, grad64 := kerneltest.Random(rows*width, uint32(i+30))
				g := Gated{Rows: exec.Fixed(rows), Width: width, Label: ar.Ints(label), Table: ar.Floats(table), Gates: ar.F32(len(gates)), Out: ar.F32(rows * width)}
				var dheard *exec.Buffer
				var dheard64 []float64
				if hears {
					g.Gates.WriteF32(0, gates)
					g.Heard, dheard, dheard64 = ar.Floats(heard), ar.F32(rows*width), make([]float64, rows*width)
				} else {
					heard64 = nil
				}
				p, q := ar.NewProgram("forward"), ar.NewProgram("backward")
				g.Record(p)
				g.RecordBackward(q, ar.Floats(grad), dheard)
				out64 := make([]float64, rows*width)
				p.Run(1)
				GatedReference(out64, gates64, heard64, table64, label, width)
				kerneltest.Close(t, out64, g.Out.Values(), 3e-6, "out")
				kerneltest.Close(t, gates64, g.Gates.Values(), 3e-6, "gates")
				q.Run(1)
				GatedBackwardReference(gates64, dheard64, heard64, grad64, rows, width)
				kerneltest.Close(t, gates64, g.Gates.Values(), 3e-6, "gate gradients")
				if hears {
					kerneltest.Close(t, dheard64, dheard.Values(), 3e-6, "dheard")
				}
				ar.Free()
			}
		}
	})
}

func TestGatedGradient(t *testing.T) {
	const rows, width = 3, 4
	label := []int32{0, 2, 1}
	_, table := kerneltest.Random(3*2*width, 1)
	_, gates := kerneltest.Random(rows*2*width, 2)
	_, heard := kerneltest.Random(rows*width, 3)
	_, grad := kerneltest.Random(rows*width, 4)
	f := func(gates, heard []float64) float64 {
		out := make([]float64, rows*width)
		GatedReference(out, append([]float64(nil), gates...), heard, table, label, width)
		s := 0.0
		for i := range out {
			s += out[i] * grad[i]
		}
		return s
	}
	dgates, dheard, out := append([]float64(nil), gates...), make([]float64, rows*width), make([]float64, rows*width)
	GatedReference(out, dgates, heard, table, label, width)
	GatedBackwardReference(dgates, dheard, heard, grad, rows, width)
	kerneltest.Gradient(t, func(x []float64) float64 { return f(x, heard) }, gates, dgates, 1e-6, "gates")
	kerneltest.Gradient(t, func(x []float64) float64 { return f(gates, x) }, heard, dheard, 1e-6, "heard")
}

func TestDense(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {5, 3}, {70, 33}, {129, 64}} {
			for _, keep := range []float32{0, 0.8} {
				for _, relu := range []bool{true, false} {
					t.Run(fmt.Sprint(s, keep, relu), func(t *testing.T) {
						rows, width := s[0], s[1]
						ar := d.NewArena()
						defer ar.Free()
						in, in64 := kerneltest.Random(rows*width, uint32(i))
						bias, bias64 := kerneltest.Random(width, uint32(i+10))
						grad, grad64 := kerneltest.Random(rows*width, uint32(i+20))
						l := Dense{Rows: exec.Fixed(rows), Width: width, Out: ar.F32(rows * width), In: ar.Floats(in), Bias: ar.Floats(bias), Relu: relu, Keep: keep,
							Seed: 77, Stream: philox.PurposeTrain, Step: ar.Ints([]int32{9})}
						din := ar.F32(rows * width)
						p := ar.NewProgram("test")
						l.Record(p)
						l.RecordBackward(p, din, ar.Floats(grad))
						p.Run(1)
						want, wantIn := make([]float64, rows*width), make([]float64, rows*width)
						for k := range want {
							factor := 1.0
							if keep > 0 {
								factor = DropoutReference(keep, 77, philox.PurposeTrain, 9, k)
							}
							x := in64[k] + bias64[k%width]
							wantIn[k] = grad64[k] * factor
							if relu && x <= 0 {
								x, wantIn[k] = 0, 0
							}
							want[k] = x * factor
						}
						kerneltest.Close(t, want, l.Out.Values(), 1e-6, "out")
						kerneltest.Close(t, wantIn, din.Values(), 1e-6, "gradient")
					})
				}
			}
		}
	})
}

func TestDropoutRate(t *testing.T) {
	kept := 0
	for i := range 100000 {
		if DropoutReference(0.7, 1, philox.PurposeTrain, 2, i) > 0 {
			kept++
		}
	}
	require.InDelta(t, 70000, kept, 4*math.Sqrt(100000*0.21))
}
