// An outside package: the simulator, on which the tests run too, imports the families.
package optim_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

var sizes = []int{1, 3, 15, 16, 17, 100, 4095, 4096, 4097, 9001}

func TestAdam(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range sizes {
			for _, decoupled := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/%v", n, decoupled), func(t *testing.T) {
					ar := d.NewArena()
					defer ar.Free()
					w, w64 := kerneltest.Random(n, uint32(2*i))
					op := Adam{W: ar.Floats(w), G: ar.F32(n), M: ar.Zeros(n), V: ar.Zeros(n), LR: ar.F32(1),
						Step: ar.Ints([]int32{0}), Scale: ar.F32(1), Beta1: 0.5, Beta2: 0.999, Eps: 1e-8,
						WeightDecay: 0.05, Decoupled: decoupled}
					p := ar.NewProgram("adam")
					RecordAdam(p, op)
					m, v := make([]float64, n), make([]float64, n)
					steps, tolerance := 6, 2e-6
					if n == 100 {
						steps, tolerance = 100, 1e-5
					}
					for step := 1; step <= steps; step++ {
						g, g64 := kerneltest.Random(n, uint32(1000+100*i+step))
						lr, scale := float32(0.01)*float32(step%7), float32(1)/float32(step)
						op.G.WriteF32(0, g)
						op.LR.WriteF32(0, []float32{lr})
						op.Scale.WriteF32(0, []float32{scale})
						p.Run(1)
						AdamReference(op, w64, g64, m, v, float64(lr), float64(scale), step)
						kerneltest.Close(t, w64, op.W.Values(), tolerance, "w")
						kerneltest.Close(t, m, op.M.Values(), tolerance, "m")
						kerneltest.Close(t, v, op.V.Values(), tolerance, "v")
					}
					count := make([]int32, 1)
					op.Step.ReadI32(0, count)
					require.EqualValues(t, steps, count[0])
				})
			}
		}
	})
}

// The numbers were computed by torch.optim's formula by hand: the first update moves every weight by lr against the
// gradient's sign.
func TestAdamFirstStep(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	op := Adam{W: ar.Floats([]float32{1, -2, 3, 0}), G: ar.Floats([]float32{0.5, -4, 1e-3, 0}),
		M: ar.Zeros(4), V: ar.Zeros(4), LR: ar.Floats([]float32{0.1}), Step: ar.Ints([]int32{0}), Beta1: 0.9,
		Beta2: 0.999, Eps: 1e-8}
	p := ar.NewProgram("adam")
	RecordAdam(p, op)
	p.Run(1)
	require.InDeltaSlice(t, []float32{0.9, -1.9, 2.9, 0}, op.W.Values(), 1e-5)
}

// More elements than an accelerator's threads: two updates that each move every weight by lr.
func TestAdamOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("a million elements on every device")
	}
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		const n = 1<<20 + 3
		ar := d.NewArena()
		defer ar.Free()
		g := make([]float32, n)
		for i := range g {
			g[i] = 1
		}
		op := Adam{W: ar.Zeros(n), G: ar.Floats(g), M: ar.Zeros(n), V: ar.Zeros(n), LR: ar.Floats([]float32{0.25}),
			Step: ar.Ints([]int32{0}), Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
		p := ar.NewProgram("adam")
		RecordAdam(p, op)
		p.Run(2)
		for i, w := range op.W.Values() {
			if !(math.Abs(float64(w)+0.5) < 1e-5) {
				t.Fatalf("weight %d is %v", i, w)
			}
		}
	})
}

func TestDescent(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range sizes {
			for k := range 8 {
				ar := d.NewArena()
				decoupled, nesterov, masked := k&1 > 0, k&2 > 0, k&4 > 0
				w, w64 := kerneltest.Random(n, uint32(2*i))
				lr := float32(0.0625)
				sgd := SGD{W: ar.Floats(w), G: ar.F32(n), V: ar.Zeros(n), LR: ar.Floats([]float32{lr}), Momentum: 0.75,
					Nesterov: nesterov, WeightDecay: 0.0625, Decoupled: decoupled}
				rms := RMSProp{W: ar.Floats(w), G: sgd.G, V: ar.Zeros(n), Square: ar.Zeros(n), LR: sgd.LR, Rho: 0.75,
					Momentum: 0.5, Eps: 0.01, WeightDecay: 0.0625, Decoupled: decoupled}
				mask, v, rw, rv, square := make([]float64, n), make([]float64, n), append([]float64(nil), w64...),
					make([]float64, n), make([]float64, n)
				factor := make([]float32, n)
				for j := range mask {
					mask[j] = 1
					if masked && j%3 == 0 {
						mask[j] = 0
					}
					factor[j] = float32(mask[j])
				}
				scale := 1.0
				if masked {
					scale = 0.5
					sgd.Decayed = ar.Floats(factor)
					sgd.Scale = ar.Floats([]float32{0.5})
					rms.Decayed, rms.Scale = sgd.Decayed, sgd.Scale
				}
				p := ar.NewProgram("descent")
				RecordSGD(p, sgd)
				RecordRMSProp(p, rms)
				for step := range 4 {
					g, g64 := kerneltest.Random(n, uint32(1000+10*i+step))
					sgd.G.WriteF32(0, g)
					p.Run(1)
					SGDReference(sgd, w64, g64, v, mask, float64(lr), scale)
					RMSPropReference(rms, rw, g64, rv, square, mask, float64(lr), scale)
				}
				kerneltest.Close(t, w64, sgd.W.Values(), 3e-6, "w")
				kerneltest.Close(t, v, sgd.V.Values(), 3e-6, "v")
				kerneltest.Close(t, rw, rms.W.Values(), 3e-6, "rmsprop w")
				kerneltest.Close(t, square, rms.Square.Values(), 3e-6, "square")
				ar.Free()
			}
		}
	})
}

// What an update does not change stays to the bit, moments too, and the rest is as it is without a subset.
func TestDescentOfSome(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range sizes {
			ar := d.NewArena()
			w, _ := kerneltest.Random(n, uint32(i))
			v, _ := kerneltest.Random(n, uint32(100+i))
			g, _ := kerneltest.Random(n, uint32(200+i))
			tensors := make([]int32, exec.Blocks(n, Group)) // some of several groups
			for j := range tensors {
				tensors[j] = int32(j / 3 % 5)
			}
			only := &Subset{Tensor: ar.Ints(tensors), Changed: ar.Ints([]int32{0, 1, 7, 0, 1})}
			all := ar.NewProgram("all")
			some := ar.NewProgram("some")
			lr, square := ar.Floats([]float32{0.25}), make([]float32, n)
			for j := range square {
				square[j] = 1
			}
			record := func(p *exec.Program, only *Subset) []*exec.Buffer {
				s := SGD{W: ar.Floats(w), G: ar.Floats(g), V: ar.Floats(v), LR: lr, Momentum: 0.75, Nesterov: true,
					WeightDecay: 0.0625, Only: only}
				r := RMSProp{W: ar.Floats(w), G: s.G, V: ar.Floats(v), Square: ar.Floats(square), LR: lr, Rho: 0.75,
					Momentum: 0.5, Eps: 0.01, WeightDecay: 0.0625, Decoupled: true, Only: only}
				RecordSGD(p, s)
				RecordRMSProp(p, r)
				return []*exec.Buffer{s.W, s.V, r.W, r.V, r.Square}
			}
			want, got := record(all, nil), record(some, only)
			before := [][]float32{w, v, w, v, square}
			all.Run(1)
			some.Run(1)
			for k := range want {
				changed, now := want[k].Values(), got[k].Values()
				for j := range now {
					expected := changed[j]
					if t := tensors[j/Group]; t == 0 || t == 3 {
						expected = before[k][j]
					}
					require.Equal(t, expected, now[j], "element %d of %d, buffer %d", j, n, k)
				}
				require.NotEqual(t, before[k], changed)
			}
			ar.Free()
		}
	})
}

func TestNormRepeats(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		ar := d.NewArena()
		defer ar.Free()
		g, _ := kerneltest.Random(70001, 1)
		op := Norm{G: ar.Floats(g), Max: 1, Out: ar.F32(2)}
		p := ar.NewProgram("norm")
		RecordNorm(p, op)
		p.Run(2) // the second run finds the first one's state
		return op.Out.Values()
	})
}

// A weight whose factor is zero does not decay.
func TestAdamDecayed(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, decoupled := range []bool{false, true} {
			ar := d.NewArena()
			op := Adam{W: ar.Floats([]float32{2, 2}), G: ar.Zeros(2), M: ar.Zeros(2), V: ar.Zeros(2),
				LR: ar.Floats([]float32{0.5}), Step: ar.Ints([]int32{0}), Beta1: 0.9, Beta2: 0.999, Eps: 1e-8,
				WeightDecay: 0.25, Decayed: ar.Floats([]float32{0, 1}), Decoupled: decoupled}
			p := ar.NewProgram("adam")
			RecordAdam(p, op)
			p.Run(1)
			w := op.W.Values()
			require.EqualValues(t, 2, w[0])
			want := 1.5 // a step of lr against the sign of the decay
			if decoupled {
				want = 1.75
			}
			require.InDelta(t, want, w[1], 1e-5)
			ar.Free()
		}
	})
}

func TestNorm(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range append(sizes, 70001) {
			for _, limit := range []float64{0, 0.5, 1e6} {
				ar := d.NewArena()
				g, g64 := kerneltest.Random(n, uint32(i))
				op := Norm{G: ar.Floats(g), Max: limit, Out: ar.F32(2)}
				p := ar.NewProgram("norm")
				RecordNorm(p, op)
				p.Run(1)
				norm, factor := NormReference(g64, limit)
				kerneltest.Close(t, []float64{norm, factor}, op.Out.Values(), 2e-6, "norm, factor")
				ar.Free()
			}
		}
	})
}

func TestNormOfNaNClipsToNaN(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	op := Norm{G: ar.F32(10), Max: 1, Out: ar.F32(2)}
	p := ar.NewProgram("norm")
	RecordNorm(p, op)
	p.Run(1)
	out := op.Out.Values()
	require.True(t, math.IsNaN(float64(out[0])) && math.IsNaN(float64(out[1])), "%v", out)
}

func TestClamp(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range sizes {
			ar := d.NewArena()
			g, g64 := kerneltest.Random(n, uint32(i))
			const limit = 0.75
			all := ar.Floats(append(g, nan, inf, -inf, limit, -limit, 0, 5))
			op := Clamp{G: all.Slice(0, n+6), Max: limit}
			p := ar.NewProgram("clamp")
			RecordClamp(p, op)
			p.Run(1)
			ClampReference(g64, limit)
			got := op.G.Values()
			for j, want := range g64 {
				require.Equal(t, float32(want), got[j], "element %d of %d", j, n)
			}
			require.True(t, math.IsNaN(float64(got[n])), "a NaN stays, so that it is seen")
			require.Equal(t, []float32{limit, -limit, limit, -limit, 0}, got[n+1:])
			require.EqualValues(t, 5, all.Values()[n+6], "beside the buffer")
			ar.Free()
		}
	})
}

func TestEMA(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, n := range sizes {
			ar := d.NewArena()
			mean, mean64 := kerneltest.Random(n, uint32(2*i))
			w, w64 := kerneltest.Random(n, uint32(2*i+1))
			op := EMA{Mean: ar.Floats(mean), W: ar.Floats(w), Decay: 0.75}
			p := ar.NewProgram("ema")
			RecordEMA(p, op)
			p.Run(2)
			for j := range mean64 {
				mean64[j] = 0.75*(0.75*mean64[j]+0.25*w64[j]) + 0.25*w64[j]
			}
			kerneltest.Close(t, mean64, op.Mean.Values(), 1e-6, "mean")
			ar.Free()
		}
	})
}

// A schedule before an optimizer that counts: many updates in one call see the right rates.
func TestSchedule(t *testing.T) {
	require.InDelta(t, 0.25, Schedule{Kind: Cosine, Peak: 1, Warmup: 4, Total: 10}.At(0), 1e-12)
	require.InDelta(t, 1, Schedule{Kind: Cosine, Peak: 1, Warmup: 4, Total: 10}.At(4), 1e-12)
	require.InDelta(t, 0.5, Schedule{Kind: Cosine, Peak: 1, Warmup: 4, Total: 10}.At(7), 1e-12)
	require.InDelta(t, 0.3, Schedule{Kind: Linear, Peak: 0.5, Total: 10, Final: 0.1}.At(5), 1e-12)
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, s := range []Schedule{
			{Constant, 0.1, 0, 0, 0}, {Constant, 0.1, 3, 0, 0}, {Linear, 0.2, 5, 17, 0.01}, {Cosine, 0.3, 5, 17, 0.02},
			{Cosine, 0.3, 0, 9, 0},
			{Linear, 0.3, 5, 5, 0.1}, {Cosine, 0.3, 5, 2, 0.1},
		} {
			ar := d.NewArena()
			step, lr := ar.Ints([]int32{0}), ar.F32(1)
			op := Adam{W: ar.Zeros(1), G: ar.Floats([]float32{1}), M: ar.Zeros(1), V: ar.Zeros(1), LR: lr, Step: step,
				Beta1: 0, Beta2: 0}
			p := ar.NewProgram("schedule")
			RecordSchedule(p, s, step, lr)
			RecordAdam(p, op)
			var moved float64 // with beta = 0 and eps = 0 an update moves the weight by exactly lr
			for i := range 20 {
				p.Run(1)
				require.InDelta(t, s.At(i), lr.Values()[0], 1e-7, "%+v at %d", s, i)
				moved -= s.At(i)
			}
			require.InDelta(t, moved, op.W.Values()[0], 1e-5)
			require.NotZero(t, moved)
			step.WriteI32(0, []int32{0})
			op.W.WriteF32(0, []float32{0})
			p.Run(20)
			require.InDelta(t, moved, op.W.Values()[0], 1e-5)
			ar.Free()
		}
	})
}

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	f, i := ar.F32(4), ar.I32(1)
	require.Panics(t, func() { RecordAdam(p, Adam{W: f, G: ar.F32(3), M: f, V: f, LR: f, Step: i}) })
	require.Panics(t, func() {
		RecordSGD(p, SGD{W: f, G: f, V: f, LR: f, Only: &Subset{Tensor: ar.I32(2), Changed: i}})
	})
	require.Panics(t, func() { RecordNorm(p, Norm{G: f, Out: ar.F32(1)}) })
	require.Panics(t, func() { RecordClamp(p, Clamp{G: f}) })
	require.Panics(t, func() { RecordEMA(p, EMA{Mean: f, W: ar.F32(5)}) })
	require.Panics(t, func() { RecordSchedule(p, Schedule{Kind: 7}, i, f) })
}

func BenchmarkAdam(b *testing.B) {
	for _, level := range exec.Levels() {
		b.Run(level, func(b *testing.B) {
			d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
			defer d.Close()
			ar := d.NewArena()
			defer ar.Free()
			const n = 1 << 16
			g, _ := kerneltest.Random(n, 1)
			op := Adam{W: ar.Zeros(n), G: ar.Floats(g), M: ar.Zeros(n), V: ar.Zeros(n), LR: ar.Floats([]float32{1e-3}),
				Step: ar.Ints([]int32{0}), Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
			p := ar.NewProgram("adam")
			RecordAdam(p, op)
			for b.Loop() {
				p.Run(1)
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gelements/s")
		})
	}
}
