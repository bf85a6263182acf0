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
					scalar, s64 := kerneltest.Random(1, uint32(10*i+k+8))
					if k != 1 {
						term.Weight = ar.Floats(weight)
					}
					if (k+terms)%2 == 0 {
						term.Scalar = ar.Floats(scalar)
					}
					for j, a := range x.A {
						if term.Weight != nil {
							a *= w64[image(s, j)]
						}
						if term.Scalar != nil {
							a *= s64[0]
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

// Out may be where one term's numbers lie, or several terms': all are read before it is written.
func TestSumInPlace(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			for _, aliases := range [][]bool{{true}, {true, false}, {false, true}, {true, true}, {false, true, true}} {
				ar := d.NewArena()
				pad := i % 2
				out := kerneltest.NewTensor(ar, s, kerneltest.Case{Act: tensor.HSwish, Norm: true, Pad: pad}, 1)
				op := Sum{Out: out.Input.Z, OutStride: out.Input.Stride}
				want := make([]float64, s.Len())
				for k, alias := range aliases {
					x := out
					if !alias {
						x = kerneltest.NewTensor(ar, s, kerneltest.Case{Act: tensor.ReLU}, uint32(k+2))
					}
					scalar, s64 := kerneltest.Random(1, uint32(k+3))
					for j, a := range x.A {
						want[j] += s64[0] * a
					}
					op.Terms = append(op.Terms, Term{In: x.Input, Scalar: ar.Floats(scalar)})
				}
				p := ar.NewProgram("in place")
				op.Record(p)
				p.Run(1)
				kerneltest.Close(t, want, kerneltest.Dense(t, op.Out, s, s.C+pad), kerneltest.Stored(d, 2e-6),
					fmt.Sprint(aliases))
				ar.Free()
			}
		}
	})
}

func TestAxpy(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range []int{1, 61, 256, 300, 40_000, 65_536} {
			ar := d.NewArena()
			x, x64 := kerneltest.Random(n, 1)
			y, want := kerneltest.Random(n, 2)
			for i := range want {
				want[i] = x64[i] - 0.25*want[i]
			}
			all := ar.F32(n + 2)
			buffers := []*exec.Buffer{all.Slice(1, n), ar.Floats(x), ar.Floats(y)}
			out := buffers[i%3] // X or Y
			p := ar.NewProgram("axpy")
			RecordAxpy(p, out, buffers[1], buffers[2], ar.Floats([]float32{-0.25}))
			p.Run(1)
			kerneltest.Close(t, want, out.Values(), 1e-6, "y")
			got := all.Values()
			require.True(t, got[0] != got[0] && got[n+1] != got[n+1], "beside Out was written")
			ar.Free()
		}
		ar := d.NewArena()
		defer ar.Free()
		require.Panics(t, func() { RecordAxpy(ar.NewProgram("bad"), ar.F32(3), ar.Zeros(3), ar.Zeros(4), ar.Zeros(1)) })
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
				scalar, s64 := kerneltest.Random(2, uint32(10*i+5))
				weighted, scaled := make([]float64, len(g64)), make([]float64, len(g64))
				for j := range g64 {
					weighted[j] = g64[j] * w64[image(s, j)]
					if k%3 > 0 {
						weighted[j] *= s64[0]
					}
					scaled[j] = g64[j] * s64[1]
				}
				other, third := kerneltest.Room(ar, s.Len()), kerneltest.Room(ar, s.Len())
				scalars := ar.Floats(scalar)
				kerneltest.TestSink(t, d, s, kind, 3e-6, weighted, uint32(10*i+4),
					func(p *exec.Program, sink tensor.Sink) tensor.Stats {
						op.Terms = []TermGradient{{Sink: tensor.Sink{D: other}}, {}, {Sink: sink, Weight: factor},
							{Sink: tensor.Sink{D: third}, Scalar: scalars.Slice(1, 1)}}
						if k%3 > 0 {
							op.Terms[2].Scalar = scalars.Slice(0, 1)
						}
						return op.Record(p)[2]
					})
				kerneltest.Close(t, g64, other.Values(), kerneltest.Stored(d, 2e-6), "first term")
				kerneltest.Close(t, scaled, third.Values(), kerneltest.Stored(d, 3e-6), "a term with a scalar alone")
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

// mixed is a mixture's terms in float64: their sum times the gradient in it is added up term by term.
func mixed(terms []*kerneltest.Tensor, g64 []float64) []float64 {
	out := make([]float64, len(terms))
	for k, x := range terms {
		for j, a := range x.A {
			out[k] += a * g64[j]
		}
	}
	return out
}

func TestMixGradient(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			for _, count := range []int{1, 3, 8} {
				ar := d.NewArena()
				grad, g64 := kerneltest.NewGradient(ar, s, false, count%2, uint32(100*i))
				op := MixGradient{Shape: s, G: grad.G, GStride: grad.Stride}
				var terms []*kerneltest.Tensor
				for k := range count {
					x := kerneltest.NewTensor(ar, s, kerneltest.Cases[(i+k)%len(kerneltest.Cases)], uint32(100*i+k+1))
					terms, op.Terms = append(terms, x), append(op.Terms, x.Input)
				}
				old, want := kerneltest.Random(count, uint32(100*i+20))
				all := ar.Floats(append(append([]float32{float32(math.NaN())}, old...), float32(math.NaN())))
				op.Out = all.Slice(1, count)
				for k, v := range mixed(terms, g64) {
					want[k] += v
				}
				p := ar.NewProgram("mix")
				op.Record(p)
				p.Run(1)
				got := all.Values()
				require.True(t, got[0] != got[0] && got[count+1] != got[count+1], "beside Out was written")
				kerneltest.Close(t, want, got[1:count+1], 1e-5, fmt.Sprintf("%+v of %d terms", s, count))
				ar.Free()
			}
		}
	})
}

// A mixture's gradients in its weights and in its terms are those of central differences through the sum.
func TestMixtureDifferences(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		s := tensor.Shape{N: 2, H: 3, W: 3, C: 5}
		ar := d.NewArena()
		defer ar.Free()
		grad, g64 := kerneltest.NewGradient(ar, s, false, 0, 1)
		scalars, s64 := kerneltest.Random(3, 2)
		weights := ar.Floats(scalars)
		mix := MixGradient{Shape: s, G: grad.G, Out: ar.Zeros(3)}
		terms := SumGradient{Shape: s, G: grad.G}
		acts := []tensor.Act{tensor.None, tensor.Swish, tensor.Sigmoid}
		var z64 [][]float64
		for k, act := range acts {
			x := kerneltest.NewTensor(ar, s, kerneltest.Case{Act: act}, uint32(k+3))
			z64, mix.Terms = append(z64, x.Z), append(mix.Terms, x.Input)
			terms.Terms = append(terms.Terms, TermGradient{Sink: tensor.Sink{D: ar.F32(s.Len()), Of: &x.Input},
				Scalar: weights.Slice(k, 1)})
		}
		p := ar.NewProgram("mixture")
		mix.Record(p)
		terms.Record(p)
		p.Run(1)
		loss := func([]float64) (sum float64) {
			for k, z := range z64 {
				for j, u := range z {
					value, _ := tensor.ActReference(acts[k], u)
					sum += g64[j] * s64[k] * value
				}
			}
			return sum
		}
		kerneltest.Gradient(t, loss, s64, floats64(mix.Out.Values()), 5e-6, "weights")
		for k, z := range z64 {
			kerneltest.Gradient(t, loss, z, floats64(terms.Terms[k].Sink.D.Values()), 5e-6, fmt.Sprintf("term %d", k))
		}
	})
}

func floats64(a []float32) (out []float64) {
	for _, v := range a {
		out = append(out, float64(v))
	}
	return out
}

// The same bits on one thread and on three, and in every order of the simulator.
func TestMixtureBits(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		ar := d.NewArena()
		defer ar.Free()
		s := tensor.Shape{N: 2, H: 31, W: 29, C: 33}
		grad, _ := kerneltest.NewGradient(ar, s, false, 0, 1)
		mix := MixGradient{Shape: s, G: grad.G, Out: ar.Zeros(2)}
		sum := Sum{Out: ar.F32(s.Len())}
		scalars, _ := kerneltest.Random(2, 2)
		for k := range scalars {
			x := kerneltest.NewTensor(ar, s, kerneltest.Cases[k+1], uint32(k+3))
			mix.Terms = append(mix.Terms, x.Input)
			sum.Terms = append(sum.Terms, Term{In: x.Input, Scalar: ar.Floats(scalars[k : k+1])})
		}
		p := ar.NewProgram("bits")
		sum.Record(p)
		mix.Record(p)
		p.Run(2)
		return append(sum.Out.Values(), mix.Out.Values()...)
	})
}

func TestBadMixturesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	s := tensor.Shape{N: 1, H: 2, W: 2, C: 3}
	in := tensor.Input{Shape: s, Z: ar.Zeros(20)}
	wider := in
	wider.Stride = 5
	good := MixGradient{Shape: s, G: ar.Zeros(12), Terms: []tensor.Input{in, wider}, Out: ar.Zeros(2)}
	good.Record(ar.NewProgram("good"))
	for name, bad := range map[string]func(m *MixGradient){
		"no term":       func(m *MixGradient) { m.Terms = nil },
		"nine terms":    func(m *MixGradient) { m.Terms = make([]tensor.Input, 9) },
		"a short Out":   func(m *MixGradient) { m.Out = ar.Zeros(1) },
		"a short G":     func(m *MixGradient) { m.GStride = 4 },
		"another shape": func(m *MixGradient) { m.Shape.C = 2 },
	} {
		wrong := good
		bad(&wrong)
		require.Panics(t, func() { wrong.Record(ar.NewProgram("bad")) }, name)
	}
	require.Panics(t, func() {
		Sum{Terms: []Term{{In: wider}}, Out: in.Z}.Record(ar.NewProgram("bad"))
	}, "pixels that move under those that are read")
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
				if d.Accelerated() {
					of := kerneltest.NewTensor(ar, tensor.Shape{N: s.N, H: 1, W: 1, C: s.C},
						kerneltest.Case{Act: kind.Act, Pad: k % 2}, uint32(10*i+2))
					old, old64 := kerneltest.Random(s.N*s.C, uint32(10*i+3))
					op.DGate = nil
					op.Sink = tensor.Sink{D: kerneltest.Store(ar, old, old64), Accumulate: true, Of: &of.Input}
					for j := range want {
						_, slope := tensor.ActReference(kind.Act, of.U[j])
						want[j] = (want[j] + old64[j]) * slope
					}
					p := ar.NewProgram("gate into a sink")
					op.Record(p)
					p.Run(1)
					kerneltest.Close(t, want, op.Sink.D.Values(), kerneltest.Stored(d, 5e-6), "sink")
				}
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
