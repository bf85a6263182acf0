// An outside package: the simulator, on which the tests run too, imports the families.
package elementwise_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

var shapes = []tensor.Shape{{N: 1, H: 1, W: 1, C: 1}, {N: 3, H: 5, W: 7, C: 17}, {N: 2, H: 26, W: 25, C: 33},
	{N: 2, H: 4, W: 4, C: 300}}

func image(s tensor.Shape, i int) int { return i / (s.H * s.W * s.C) }

func TestSum(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			for terms := 1; terms <= 3; terms++ {
				ar := d.NewArena()
				pad := 3 * (terms % 2)
				op := Sum{Out: kerneltest.Room(ar, s.Pixels()*(s.C+pad)), OutStride: s.C + pad, Sums: true}
				want := make([]float64, s.Len())
				for k := range terms {
					x := kerneltest.NewTensor(ar, s, kerneltest.Cases[(i+2*k+terms)%len(kerneltest.Cases)],
						uint32(10*i+k))
					term := Term{In: x.Input}
					weight, w64 := kerneltest.Random(s.N, uint32(10*i+k+5))
					if k != 1 {
						term.Weight = ar.Floats(weight)
					}
					for j, a := range x.A {
						if k != 1 {
							a *= w64[image(s, j)]
						}
						want[j] += a
					}
					op.Terms = append(op.Terms, term)
				}
				p := ar.NewProgram("sum")
				stats := op.Record(p)
				p.Run(1)
				got := kerneltest.Dense(t, op.Out, s, s.C+pad)
				kerneltest.Close(t, want, got, kerneltest.Stored(d, 2e-6), "sum")
				kerneltest.CheckForwardSums(t, stats, got, s.C, 1e-5)
				ar.Free()
			}
		}
	})
}

// Every activation as kernels read it, and its derivative as they multiply by it, at ordinary and at large numbers.
func TestActivations(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		s := tensor.Shape{N: 2, H: 3, W: 5, C: 19}
		for act := tensor.None; act < tensor.Acts; act++ {
			t.Run(fmt.Sprintf("activation %d", act), func(t *testing.T) {
				ar := d.NewArena()
				defer ar.Free()
				z, z64 := kerneltest.Random(s.Len(), 1)
				for i := range z {
					if i%3 == 0 {
						z[i] *= 8
					}
					z64[i] = float64(z[i])
				}
				grad, grad64 := kerneltest.Random(s.Len(), 2)
				x := tensor.Input{Shape: s, Z: kerneltest.Store(ar, z, z64), Act: act}
				out, dx := kerneltest.Room(ar, s.Len()), kerneltest.Room(ar, s.Len())
				p := ar.NewProgram("activation")
				Sum{Terms: []Term{{In: x}}, Out: out}.Record(p)
				SumGradient{Shape: s, G: kerneltest.Store(ar, grad, grad64),
					Terms: []TermGradient{{Sink: tensor.Sink{D: dx, Of: &x}}}}.Record(p)
				p.Run(1)
				want, wantDx := make([]float64, s.Len()), make([]float64, s.Len())
				for i, u := range z64 {
					value, slope := tensor.ActReference(act, u)
					want[i], wantDx[i] = value, grad64[i]*slope
				}
				kerneltest.Close(t, want, out.Values(), kerneltest.Stored(d, 2e-6), "value")
				kerneltest.Close(t, wantDx, dx.Values(), kerneltest.Stored(d, 2e-6), "derivative")
			})
		}
	})
}

// The reference's derivative of every activation is that of central differences, away from corners.
func TestActivationReferences(t *testing.T) {
	_, u := kerneltest.Random(200, 3)
	for i := range u {
		u[i] *= 2
	}
	for act := tensor.None; act < tensor.Acts; act++ {
		analytic := make([]float64, len(u))
		for i := range u {
			_, analytic[i] = tensor.ActReference(act, u[i])
		}
		kerneltest.Gradient(t, func(x []float64) float64 {
			sum := 0.0
			for _, v := range x {
				value, _ := tensor.ActReference(act, v)
				sum += value
			}
			return sum
		}, u, analytic, 1e-6, fmt.Sprintf("activation %d", act))
	}
}

func TestSumGradient(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			for k, kind := range kerneltest.Cases {
				ar := d.NewArena()
				grad, g64 := kerneltest.NewGradient(ar, s, false, k%2, uint32(10*i))
				op := SumGradient{Shape: s, G: grad.G, GStride: grad.Stride}
				if k%2 == 1 {
					gate, gate64 := kerneltest.Random(s.N*s.C, uint32(10*i+1))
					mean, mean64 := kerneltest.Random(s.N*s.C, uint32(10*i+2))
					op.Gate, op.Mean = ar.Floats(gate), kerneltest.Store(ar, mean, mean64)
					for j := range g64 {
						c := image(s, j)*s.C + j%s.C
						g64[j] = gate64[c]*g64[j] + mean64[c]/float64(s.H*s.W)
					}
				}
				weight, w64 := kerneltest.Random(s.N, uint32(10*i+3))
				factor := ar.Floats(weight)
				weighted := make([]float64, len(g64))
				for j := range g64 {
					weighted[j] = g64[j] * w64[image(s, j)]
				}
				other := kerneltest.Room(ar, s.Len())
				kerneltest.TestSink(t, d, s, kind, 3e-6, weighted, uint32(10*i+4),
					func(p *exec.Program, sink tensor.Sink) tensor.Stats {
						op.Terms = []TermGradient{{Sink: tensor.Sink{D: other}}, {}, {Sink: sink, Weight: factor}}
						return op.Record(p)[2]
					})
				kerneltest.Close(t, g64, other.Values(), kerneltest.Stored(d, 2e-6), "first term")
				ar.Free()
			}
		}
	})
}

// The gradient's buffer may be the last sink's: nothing is copied.
func TestSumGradientInPlace(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		s := shapes[1]
		x := kerneltest.NewTensor(ar, s, kerneltest.Case{Act: tensor.ReLU}, 1)
		grad, g64 := kerneltest.NewGradient(ar, s, false, 0, 2)
		other := kerneltest.Room(ar, s.Len())
		p := ar.NewProgram("in place")
		SumGradient{Shape: s, G: grad.G, Terms: []TermGradient{{Sink: tensor.Sink{D: other}},
			{Sink: tensor.Sink{D: grad.G, Of: &x.Input}}}}.Record(p)
		p.Run(1)
		kerneltest.Close(t, g64, other.Values(), 1e-6, "first")
		for i := range g64 {
			if x.U[i] <= 0 {
				g64[i] = 0
			}
		}
		kerneltest.Close(t, g64, grad.G.Values(), 1e-6, "second")
	})
}

// Gates are float32 whatever the tensors are, and so are images that come in.
func TestSumToAnotherStorage(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			ar := d.NewArena()
			x := kerneltest.NewTensor(ar, s, kerneltest.Case{Act: tensor.HSigmoid}, uint32(10*i))
			out := ar.F32(s.Len())
			p := ar.NewProgram("gates")
			Sum{Terms: []Term{{In: x.Input}}, Out: out}.Record(p)
			p.Run(1)
			kerneltest.Close(t, x.A, out.Values(), 1e-6, "gates")
			half := ar.BF16(s.Len())
			p = ar.NewProgram("images")
			Sum{Terms: []Term{{In: tensor.Input{Shape: s, Z: out}}}, Out: half}.Record(p)
			p.Run(1)
			kerneltest.Close(t, x.A, half.Values(), kerneltest.Stored(d, 1e-6), "images")
			ar.Free()
		}
	})
}

func TestGateGradient(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			for k, kind := range kerneltest.Cases {
				kind.Gate = false
				ar := d.NewArena()
				x := kerneltest.NewTensor(ar, s, kind, uint32(10*i))
				grad, g64 := kerneltest.NewGradient(ar, s, false, k%2, uint32(10*i+1))
				op := GateGradient{In: x.Input, G: grad.G, GStride: grad.Stride, DGate: kerneltest.Room(ar, s.N*s.C)}
				want := make([]float64, s.N*s.C)
				for j, a := range x.A {
					want[image(s, j)*s.C+j%s.C] += a * g64[j]
				}
				p := ar.NewProgram("gate")
				op.Record(p)
				p.Run(1)
				kerneltest.Close(t, want, op.DGate.Values(), kerneltest.Stored(d, 5e-6), "dgate")
				ar.Free()
			}
		}
	})
}

func TestShuffle(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range []struct {
			s      tensor.Shape
			groups int
		}{{tensor.Shape{N: 1, H: 1, W: 1, C: 6}, 2}, {tensor.Shape{N: 2, H: 5, W: 3, C: 40}, 4},
			{tensor.Shape{N: 1, H: 30, W: 30, C: 34}, 2}} {
			for _, kind := range kerneltest.Cases {
				ar := d.NewArena()
				x := kerneltest.NewTensor(ar, c.s, kind, uint32(10*i))
				op := Shuffle{In: x.Input, Groups: c.groups, Out: kerneltest.Room(ar, c.s.Len())}
				g, g64 := kerneltest.Random(c.s.Len(), uint32(10*i+1))
				grad := kerneltest.Store(ar, g, g64)
				want, din := make([]float64, c.s.Len()), make([]float64, c.s.Len())
				for j := range want {
					ch := j % c.s.C
					from := j - ch + ch%c.groups*(c.s.C/c.groups) + ch/c.groups
					want[j] = x.A[from]
					din[from] = g64[j]
				}
				p := ar.NewProgram("shuffle")
				op.Record(p)
				p.Run(1)
				kerneltest.Close(t, want, op.Out.Values(), kerneltest.Stored(d, 1e-6), "out")
				kerneltest.TestSink(t, d, c.s, kind, 2e-6, din, uint32(10*i+2),
					func(p *exec.Program, sink tensor.Sink) tensor.Stats {
						return op.RecordBackward(p, grad, sink)
					})
				ar.Free()
			}
		}
	})
}

func TestDropPath(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		for _, rate := range []float32{1, 0.5, 0} {
			op := DropPath{Out: ar.F32(1001), Keep: 0.75, Seed: 9, Stream: philox.PurposeTrain | 3<<16,
				Step: ar.Ints([]int32{5})}
			if rate < 1 {
				op.Rate = ar.Floats([]float32{rate})
			}
			p := ar.NewProgram("droppath")
			op.Record(p)
			p.Run(1)
			kept, keep := 0, 1-0.25*rate
			for i, v := range op.Out.Values() {
				bits := philox.Key{Seed: 9, Purpose: op.Stream}.At(5, uint64(i)/4)[i%4]
				if float32(bits>>8)*0x1p-24 < keep {
					kept++
					require.Equal(t, 1/keep, v)
				} else {
					require.Zero(t, v)
				}
			}
			require.InDelta(t, 1001*keep, kept, 60*float64(rate))
		}
	})
}

// What is not a number becomes zero too, and what lies beside stays.
func TestZero(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		for _, n := range []int{1, 15, 1 << 16, 1<<16 + 7} {
			all := make([]float32, n+2)
			for i := range all {
				all[i] = float32(math.NaN())
			}
			b := ar.Floats(all)
			p := ar.NewProgram("zero")
			RecordZero(p, b.Slice(1, n))
			p.Run(1)
			got := b.Values()
			require.True(t, got[0] != got[0] && got[n+1] != got[n+1])
			require.Equal(t, make([]float32, n), got[1:n+1])
		}
	})
}
