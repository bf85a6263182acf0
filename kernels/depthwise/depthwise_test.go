// An outside package: the simulator, on which the tests run too, imports the families.
package depthwise_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/depthwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func cases() []Conv {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	return []Conv{
		{In: shape(1, 1, 1, 1), K: 3, PadH: 1, PadW: 1},
		{In: shape(2, 7, 5, 17), K: 3, PadH: 1, PadW: 1},
		{In: shape(1, 9, 10, 33), K: 5, PadH: 2, PadW: 2},
		{In: shape(1, 7, 7, 70), K: 7, PadH: 3, PadW: 3},
		{In: shape(2, 9, 8, 24), K: 3, Stride: 2, PadH: 1, PadW: 1},
		{In: shape(1, 12, 12, 16), K: 3, Stride: 2, PadH: 0, PadW: 0, OutH: 6, OutW: 6},
		{In: shape(1, 11, 14, 20), K: 5, Stride: 2, PadH: 2, PadW: 2},
		{In: shape(1, 13, 9, 20), K: 7, Stride: 2, PadH: 3, PadW: 3},
		{In: shape(1, 11, 10, 13), K: 3, PadH: 2, PadW: 2, Dilation: 2},
		{In: shape(1, 12, 10, 9), K: 5, PadH: 4, PadW: 4, Dilation: 2, Stride: 2},
		{In: shape(1, 10, 9, 5), K: 3},
		{In: shape(1, 10, 9, 5), K: 4, Stride: 3, PadH: 2, PadW: 1},
		{In: shape(1, 6, 5, 18), K: 1},
		{In: shape(1, 60, 57, 40), K: 3, PadH: 1, PadW: 1},
		{In: shape(1, 57, 60, 40), K: 3, Stride: 2, PadH: 1, PadW: 1},
	}
}

func TestForward(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			for k, kind := range kerneltest.Cases {
				if i > 2 && (i+k)%3 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%+v/%+v", c, kind), func(t *testing.T) {
					ar := d.NewArena()
					defer ar.Free()
					x := kerneltest.NewTensor(ar, c.In, kind, uint32(10*i))
					w, w64 := kerneltest.Random(c.WeightLen(), uint32(10*i+1))
					ld := c.In.C + kind.Pad
					f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w),
						Z: kerneltest.Room(ar, c.Shape().Pixels()*ld), ZStride: ld, Sums: true}
					p := ar.NewProgram("forward")
					stats := f.Record(p)
					p.Run(2)
					z := kerneltest.Dense(t, f.Z, c.Shape(), ld)
					want := kerneltest.Once(fmt.Sprint("forward ", i, k, d.Precision()), func() []float64 {
						return ConvReference(c, x.A, w64)
					})
					kerneltest.Close(t, want, z, kerneltest.Stored(d, 3e-6), "z")
					kerneltest.CheckForwardSums(t, stats, z, c.In.C, 1e-5)
				})
			}
		}
	})
}

func TestBackward(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			for k, kind := range kerneltest.Cases {
				if i > 2 && (i+k)%3 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%+v/%+v", c, kind), func(t *testing.T) {
					ar := d.NewArena()
					defer ar.Free()
					x := kerneltest.NewTensor(ar, c.In, kind, uint32(10*i))
					w, w64 := kerneltest.Random(c.WeightLen(), uint32(10*i+1))
					grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), kind.Norm, kind.Pad, uint32(10*i+2))
					want := kerneltest.Once(fmt.Sprint("backward ", i, k, d.Precision()), func() [2][]float64 {
						din, dweight := ConvBackwardReference(c, x.A, w64, dz64)
						return [2][]float64{din, dweight}
					})
					din, dweight := want[0], slices.Clone(want[1])
					b := Backward{Conv: c, In: x.Input, Grad: grad, Weight: ar.Floats(w),
						DWeight: ar.F32(c.WeightLen())}
					tol := 1e-6 * math.Sqrt(float64(c.Shape().Pixels()+16))
					kerneltest.TestSink(t, d, c.In, kind, 5e-6, din, uint32(10*i+3),
						func(p *exec.Program, sink tensor.Sink) tensor.Stats {
							b.Sink = sink
							return b.Record(p)
						})
					kerneltest.Close(t, dweight, b.DWeight.Values(), tol, "dweight")
					b.Accumulate, b.Sink = true, tensor.Sink{}
					p := ar.NewProgram("accumulate")
					b.Record(p)
					p.Run(1)
					for i := range dweight {
						dweight[i] *= 2
					}
					kerneltest.Close(t, dweight, b.DWeight.Values(), tol, "dweight, twice")
				})
			}
		}
	})
}

func TestReferenceGradients(t *testing.T) {
	c := Conv{In: tensor.Shape{N: 2, H: 5, W: 4, C: 3}, K: 3, Stride: 2, PadH: 1, PadW: 1}
	_, x := kerneltest.Random(c.In.Len(), 1)
	_, w := kerneltest.Random(c.WeightLen(), 2)
	_, dz := kerneltest.Random(c.Shape().Len(), 3)
	loss := func([]float64) float64 {
		sum := 0.0
		for i, z := range ConvReference(c, x, w) {
			sum += z * dz[i]
		}
		return sum
	}
	dx, dw := ConvBackwardReference(c, x, w, dz)
	kerneltest.Gradient(t, loss, x, dx, 1e-7, "x")
	kerneltest.Gradient(t, loss, w, dw, 1e-7, "w")
}

// The same bits on one thread and on three.
func TestThreads(t *testing.T) {
	for _, level := range exec.Levels() {
		var want [][]float32
		for _, threads := range []int{1, 3} {
			d, err := exec.Open(exec.Config{Level: level, Threads: threads})
			require.NoError(t, err)
			ar := d.NewArena()
			c := Conv{In: tensor.Shape{N: 3, H: 40, W: 40, C: 100}, K: 5, PadH: 2, PadW: 2}
			x := kerneltest.NewTensor(ar, c.In, kerneltest.Cases[1], 1)
			w, _ := kerneltest.Random(c.WeightLen(), 2)
			grad, _ := kerneltest.NewGradient(ar, c.Shape(), true, 0, 3)
			p := ar.NewProgram("threads")
			f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: ar.F32(c.Shape().Len()), Sums: true}
			stats := f.Record(p)
			sink := tensor.Sink{D: ar.F32(c.In.Len()), Of: &x.Input, Mean: x.Mean, InvStd: x.InvStd}
			b := Backward{Conv: c, In: x.Input, Grad: grad, Weight: f.Weight, Sink: sink,
				DWeight: ar.F32(c.WeightLen())}
			back := b.Record(p)
			p.Run(1)
			got := [][]float32{f.Z.Values(), stats.Rows.Values(), sink.D.Values(), back.Rows.Values(),
				b.DWeight.Values()}
			if want == nil {
				want = got
			}
			require.Equal(t, want, got)
			ar.Free()
			d.Close()
		}
	}
}

// Layers of MobileNetV3-Large, batch 16 of 224x224.
func BenchmarkDepthwise(b *testing.B) {
	for _, level := range exec.Levels() {
		if level == "portable" || level == "avx2x16" {
			continue
		}
		for _, l := range []struct{ size, c, k, stride int }{{112, 16, 3, 1}, {112, 64, 3, 2}, {56, 72, 3, 1},
			{56, 72, 5, 2}, {28, 120, 5, 1}, {14, 480, 3, 1}, {14, 672, 5, 1}, {7, 960, 5, 1}, {7, 960, 7, 1}} {
			for _, way := range []string{"forward", "backward"} {
				b.Run(fmt.Sprintf("%s/%d/%d/k%ds%d/%s", level, l.size, l.c, l.k, l.stride, way), func(b *testing.B) {
					d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
					defer d.Close()
					ar := d.NewArena()
					defer ar.Free()
					c := Conv{In: tensor.Shape{N: 16, H: l.size, W: l.size, C: l.c}, K: l.k, Stride: l.stride,
						PadH: l.k / 2, PadW: l.k / 2}
					x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{Norm: true, Act: tensor.HSwish}, 1)
					w, _ := kerneltest.Random(c.WeightLen(), 2)
					grad, _ := kerneltest.NewGradient(ar, c.Shape(), true, 0, 3)
					p := ar.NewProgram("bench")
					flops, floats := 2*float64(c.MAdds()), float64(c.In.Len()+c.Shape().Len())
					if way == "forward" {
						Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: ar.F32(c.Shape().Len()),
							Sums: true}.Record(p)
					} else {
						of := x.Input
						sink := tensor.Sink{D: ar.F32(c.In.Len()), Of: &of, Mean: x.Mean, InvStd: x.InvStd}
						Backward{Conv: c, In: x.Input, Grad: grad, Weight: ar.Floats(w), Sink: sink,
							DWeight: ar.F32(c.WeightLen())}.Record(p)
						flops, floats = 2*flops, 2*floats
					}
					kerneltest.Bench(b, flops, 4*floats, p)
				})
			}
		}
	}
}
