// An outside package: the simulator, on which the tests run too, imports the families.
package pool_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func cases() []Pool {
	in := func(n, h, w, c int) tensor.Input { return tensor.Input{Shape: tensor.Shape{N: n, H: h, W: w, C: c}} }
	return []Pool{
		{In: in(1, 1, 1, 1), K: 3, Pad: 1},
		{In: in(2, 7, 5, 17), K: 3, Pad: 1},
		{In: in(2, 8, 9, 33), K: 2, Stride: 2},
		{In: in(3, 9, 8, 20), K: 3, Stride: 2, Pad: 1},
		{In: in(1, 10, 10, 16), K: 3, Stride: 2, OutH: 5, OutW: 5},
		{In: in(1, 70, 60, 40), K: 3, Pad: 1},
		{In: in(2, 9, 9, 5), K: 5, Stride: 3, Pad: 2},
	}
}

func TestPool(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			for k, kind := range kerneltest.Cases {
				if i > 1 && (i+k)%3 != 0 {
					continue
				}
				c.Average, c.CountPad = k%3 > 0, k%3 == 2
				t.Run(fmt.Sprintf("%+v/%d/%v/%+v", c.In.Shape, c.K, c.Average, kind), func(t *testing.T) {
					ar := d.NewArena()
					defer ar.Free()
					x := kerneltest.NewTensor(ar, c.In.Shape, kind, uint32(10*i))
					op := c
					op.In = x.Input
					op.Out = kerneltest.Room(ar, 1<<18)
					pool := New(ar, op)
					size := pool.Shape().Len()
					g, g64 := kerneltest.Random(size, uint32(10*i+1))
					grad := kerneltest.Store(ar, g, g64)
					both := kerneltest.Once(fmt.Sprint("pool ", i, k, d.Precision()), func() [2][]float64 {
						want, din := PoolReference(pool, x.A, g64)
						return [2][]float64{want, din}
					})
					want, din := both[0], both[1]
					p := ar.NewProgram("pool")
					pool.Record(p)
					p.Run(1)
					kerneltest.Close(t, want, op.Out.Values()[:size], kerneltest.Stored(d, 2e-6), "out")
					kerneltest.TestSink(t, d, c.In.Shape, kind, 2e-6, din, uint32(10*i+2),
						func(p *exec.Program, sink tensor.Sink) tensor.Stats {
							return pool.RecordBackward(p, grad, sink)
						})
				})
			}
		}
	})
}

func TestGlobal(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range []tensor.Shape{{N: 1, H: 1, W: 1, C: 3}, {N: 3, H: 7, W: 5, C: 33},
			{N: 2, H: 40, W: 30, C: 16}} {
			for _, kind := range kerneltest.Cases {
				ar := d.NewArena()
				x := kerneltest.NewTensor(ar, s, kind, uint32(10*i))
				op := Global{In: x.Input, Out: kerneltest.Room(ar, s.N*s.C)}
				g, g64 := kerneltest.Random(s.N*s.C, uint32(10*i+1))
				grad := kerneltest.Store(ar, g, g64)
				want, din := make([]float64, s.N*s.C), make([]float64, s.Len())
				for j, a := range x.A {
					k := j/(s.H*s.W*s.C)*s.C + j%s.C
					want[k] += a / float64(s.H*s.W)
					din[j] = g64[k] / float64(s.H*s.W)
				}
				p := ar.NewProgram("global")
				op.Record(p)
				p.Run(1)
				kerneltest.Close(t, want, op.Out.Values(), kerneltest.Stored(d, 2e-6), "out")
				kerneltest.TestSink(t, d, s, kind, 2e-6, din, uint32(10*i+2),
					func(p *exec.Program, sink tensor.Sink) tensor.Stats {
						return op.RecordBackward(p, grad, sink)
					})
				ar.Free()
			}
		}
	})
}

func TestReferenceGradient(t *testing.T) {
	for _, average := range []bool{false, true} {
		op := Pool{In: tensor.Input{Shape: tensor.Shape{N: 1, H: 5, W: 4, C: 2}}, K: 3, Stride: 2, Pad: 1, OutH: 3,
			OutW: 2, Average: average}
		_, x := kerneltest.Random(op.In.Len(), 1)
		_, g := kerneltest.Random(op.Shape().Len(), 2)
		_, dx := PoolReference(&op, x, g)
		kerneltest.Gradient(t, func(x []float64) float64 {
			out, _ := PoolReference(&op, x, g)
			sum := 0.0
			for i := range out {
				sum += out[i] * g[i]
			}
			return sum
		}, x, dx, 1e-7, "x")
	}
}

func TestMaximumPassesNaNOn(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		s := tensor.Shape{N: 1, H: 3, W: 3, C: 4}
		op := New(ar, Pool{In: tensor.Input{Shape: s, Z: kerneltest.Room(ar, s.Len()), Act: tensor.ReLU}, K: 3,
			Out: kerneltest.Room(ar, 4)})
		p := ar.NewProgram("nan")
		op.Record(p)
		p.Run(1)
		for _, v := range op.Out.Values() {
			require.True(t, v != v)
		}
	})
}
