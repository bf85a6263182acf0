// An outside package: the simulator, on which the tests run too, imports the families.
package loss_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

type variant struct {
	kind   Kind
	noisy  bool
	margin float64
	heads  int
	tie    float64
}

var variants = []variant{{Logistic, false, 0, 1, 0.5}, {Logistic, true, 0, 1, 0.5}, {Hinge, false, 0.7, 1, 0},
	{Logistic, false, 0, 2, 1}, {Logistic, true, 0, 2, 0.5}}

// noise is the standard deviation of n labels' errors.
func (v variant) noise(n int) ([]float32, []float64) {
	if !v.noisy {
		return nil, nil
	}
	a, b := make([]float32, n), make([]float64, n)
	for i := range a {
		b[i] = 0.125 * float64(1+i%4)
		a[i] = float32(b[i])
	}
	return a, b
}

// labels draws labels with ties.
func labels(n int, stream uint32) ([]float32, []float64) {
	s := philox.New(3, philox.PurposeTest, stream)
	a, b := make([]float32, n), make([]float64, n)
	for i := range a {
		b[i] = float64(s.Intn(2*n/3+1)) / 8
		a[i] = float32(b[i])
	}
	return a, b
}

func TestAllPairs(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, n := range []int{1, 2, 3, 15, 16, 17, 100, 423} {
			for i, v := range variants {
				ar := d.NewArena()
				s, s64 := kerneltest.Random(n*v.heads, uint32(n*10+i))
				y, y64 := labels(n, uint32(n*10+i))
				l := AllPairs{N: exec.Fixed(n), Score: ar.Floats(s), Label: ar.Floats(y), Kind: v.kind,
					Margin: float32(v.margin), DScore: ar.F32(n * v.heads), Loss: ar.F32(1), Heads: v.heads,
					Tie: float32(v.tie), Bias: ar.Floats([]float32{0.25}), DBias: ar.Zeros(1)}
				noise, noise64 := v.noise(n)
				if v.noisy {
					l.Noise = ar.Floats(noise)
				}
				before, before64 := kerneltest.Random(n*v.heads, uint32(n*10+i+5))
				if l.Accumulate = n%2 == 0; l.Accumulate {
					l.DScore.WriteF32(0, before)
					l.Loss.WriteF32(0, []float32{2})
				}
				p := ar.NewProgram("test")
				l.Record(p)
				p.Run(1)
				want := make([]float64, n*v.heads)
				loss, dbias := AllPairsReference(s64, y64, noise64, want, v.heads, 0.25, v.kind, v.margin, v.tie)
				if n == 1 {
					loss = 0
				}
				if l.Accumulate {
					loss += 2
					for k := range want {
						want[k] += before64[k]
					}
				}
				what := fmt.Sprintf("n=%d %+v", n, v)
				kerneltest.Close(t, []float64{loss}, l.Loss.Values(), 1e-5, what)
				kerneltest.Close(t, want, l.DScore.Values(), 1e-4, what)
				if v.heads == 2 {
					kerneltest.Close(t, []float64{dbias, 1}, append(l.DBias.Values(), 1), 1e-6, what)
				}
				ar.Free()
			}
		}
	})
}

// Scores far apart must neither overflow nor lose the linear part of the loss.
func TestAllPairsExtreme(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		s64 := []float64{-400, 0, 500, 1e-4}
		y64 := []float64{1, 0, -1, 0}
		s, y := make([]float32, 4), make([]float32, 4)
		for i := range s {
			s[i], y[i] = float32(s64[i]), float32(y64[i])
		}
		l := AllPairs{N: exec.Fixed(4), Score: ar.Floats(s), Label: ar.Floats(y), DScore: ar.F32(4),
			Loss: ar.F32(1), Tie: 0.5}
		p := ar.NewProgram("test")
		l.Record(p)
		p.Run(1)
		want := make([]float64, 4)
		loss, _ := AllPairsReference(s64, y64, nil, want, 1, 0, Logistic, 0, 0.5)
		kerneltest.Close(t, []float64{loss}, l.Loss.Values(), 1e-6, "loss")
		kerneltest.Close(t, want, l.DScore.Values(), 1e-5, "gradient")
	})
}

func TestGradients(t *testing.T) {
	for i, v := range variants {
		_, s := kerneltest.Random(9*v.heads, uint32(i))
		_, y := labels(9, uint32(i))
		_, noise := v.noise(9)
		value := func(x []float64, bias float64) float64 {
			l, _ := AllPairsReference(x, y, noise, make([]float64, len(x)), v.heads, bias, v.kind, v.margin, v.tie)
			return l
		}
		analytic := make([]float64, len(s))
		_, dbias := AllPairsReference(s, y, noise, analytic, v.heads, 0.3, v.kind, v.margin, v.tie)
		what := fmt.Sprintf("%+v", v)
		kerneltest.Gradient(t, func(x []float64) float64 { return value(x, 0.3) }, s, analytic, 1e-5, what)
		if v.heads == 2 {
			kerneltest.Gradient(t, func(x []float64) float64 {
				return value(s, x[0])
			}, []float64{0.3}, []float64{dbias}, 1e-5, what)
		}
	}
	a, b := []int32{0, 1, 2, 2, 4}, []int32{1, 2, 0, 2, 3}
	targets, weight := []float64{1, 0, 0.5, 1, 0}, []float64{1, 2, 0.5, 1, 0}
	for heads := 1; heads <= 2; heads++ {
		_, s := kerneltest.Random(5*heads, 40)
		analytic := make([]float64, len(s))
		_, dbias := PairListReference(s, 0.3, a, b, targets, weight, analytic, heads, 1.5)
		loss := func(x []float64, bias float64) float64 {
			l, _ := PairListReference(x, bias, a, b, targets, weight, make([]float64, len(x)), heads, 1.5)
			return l
		}
		kerneltest.Gradient(t, func(x []float64) float64 { return loss(x, 0.3) }, s, analytic, 1e-6, "pair list")
		if heads == 2 {
			kerneltest.Gradient(t, func(x []float64) float64 {
				return loss(s, x[0])
			}, []float64{0.3}, []float64{dbias}, 1e-6, "bias")
		}
	}
}

func TestPairList(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, n := range []int{1, 7, 16, 33, 512, 1500} {
			for heads := 1; heads <= 2; heads++ {
				const examples = 30
				ar := d.NewArena()
				r := philox.New(9, philox.PurposeTest, uint32(n))
				a, b := make([]int32, n), make([]int32, n)
				target, weight := make([]float32, n), make([]float32, n)
				target64, weight64 := make([]float64, n), make([]float64, n)
				for i := range a {
					a[i], b[i] = int32(r.Intn(examples)), int32(r.Intn(examples))
					target64[i], weight64[i] = float64(r.Intn(3))/2, float64(1+r.Intn(4))/4
					target[i], weight[i] = float32(target64[i]), float32(weight64[i])
				}
				s, s64 := kerneltest.Random(examples*heads, uint32(n))
				before, want := kerneltest.Random(examples*heads, uint32(n+1))
				l := PairList{Pairs: exec.Fixed(n), Examples: exec.Fixed(examples), Heads: heads, Score: ar.Floats(s),
					Bias: ar.Floats([]float32{0.25}), A: ar.Ints(a), B: ar.Ints(b), Target: ar.Floats(target),
					Weight: ar.Floats(weight), DScore: ar.Floats(before), DBias: ar.F32(1), Loss: ar.F32(1), Scale: 2,
					Accumulate: n%2 == 0}
				if n == 33 {
					l.Weight, weight64 = nil, nil
				}
				loss0, dbias0 := 0.0, 0.0
				if l.Accumulate {
					l.DBias.WriteF32(0, []float32{3})
					l.Loss.WriteF32(0, []float32{5})
					loss0, dbias0 = 5, 3
				} else {
					clear(want)
				}
				p := ar.NewProgram("test")
				l.Record(p)
				p.Run(1)
				loss, dbias := PairListReference(s64, 0.25, a, b, target64, weight64, want, heads, 2)
				kerneltest.Close(t, []float64{loss + loss0}, l.Loss.Values(), 1e-5, "loss")
				kerneltest.Close(t, want, l.DScore.Values(), 1e-4, "gradient")
				if heads == 2 {
					kerneltest.Close(t, []float64{dbias + dbias0}, l.DBias.Values(), 1e-5, "bias")
				}
				ar.Free()
			}
		}
	})
}

// Counts that are known only when the program runs: what lies past them takes no part.
func TestDynamicCounts(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		const most, n, pairs = 600, 20, 7
		ar := d.NewArena()
		defer ar.Free()
		s, s64 := kerneltest.Random(most, 1)
		y, y64 := labels(most, 1)
		a, b := []int32{0, 5, 19, 3, 3, 7, 11}, []int32{1, 6, 0, 3, 9, 5, 19}
		pad := make([]int32, most-pairs)
		target := make([]float32, most)
		count, listed := exec.Dynamic(ar.Ints([]int32{n}), most), exec.Dynamic(ar.Ints([]int32{pairs}), most)
		all := AllPairs{N: count, Score: ar.Floats(s), Label: ar.Floats(y), DScore: ar.F32(most),
			Loss: ar.F32(1), Tie: 0.5}
		list := PairList{Pairs: listed, Examples: count, Heads: 1, Score: all.Score, A: ar.Ints(append(a, pad...)),
			B: ar.Ints(append(b, pad...)), Target: ar.Floats(target), DScore: ar.F32(most), Loss: ar.F32(1), Scale: 1}
		squared := Squared{N: count, Score: all.Score, Label: all.Label, DScore: ar.F32(most), Loss: ar.F32(1)}
		p := ar.NewProgram("test")
		all.Record(p)
		list.Record(p)
		squared.Record(p)
		p.Run(1)
		want := make([]float64, n)
		loss, _ := AllPairsReference(s64[:n], y64[:n], nil, want, 1, 0, Logistic, 0, 0.5)
		kerneltest.Close(t, []float64{loss}, all.Loss.Values(), 1e-5, "all pairs")
		kerneltest.Close(t, want, all.DScore.Values()[:n], 1e-4, "all pairs, gradient")
		clear(want)
		loss, _ = PairListReference(s64, 0, a, b, make([]float64, pairs), nil, want, 1, 1)
		kerneltest.Close(t, []float64{loss}, list.Loss.Values(), 1e-5, "list")
		kerneltest.Close(t, want, list.DScore.Values()[:n], 1e-4, "list, gradient")
		for _, b := range []*exec.Buffer{all.DScore, list.DScore, squared.DScore} {
			require.False(t, math.IsNaN(float64(b.Values()[n-1])))
			require.True(t, math.IsNaN(float64(b.Values()[n])))
		}
	})
}

func TestSumsRepeat(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		const n, pairs = 300, 700
		ar := d.NewArena()
		defer ar.Free()
		s, _ := kerneltest.Random(n, 1)
		y, _ := labels(n, 1)
		r := philox.New(4, philox.PurposeTest, 1)
		a, b, target := make([]int32, pairs), make([]int32, pairs), make([]float32, pairs)
		for i := range a {
			a[i], b[i], target[i] = int32(r.Intn(n)), int32(r.Intn(n)), float32(r.Intn(2))
		}
		all := AllPairs{N: exec.Fixed(n), Score: ar.Floats(s), Label: ar.Floats(y), DScore: ar.F32(n), Loss: ar.F32(1)}
		list := PairList{Pairs: exec.Fixed(pairs), Examples: exec.Fixed(n), Heads: 1, Score: all.Score, A: ar.Ints(a),
			B: ar.Ints(b), Target: ar.Floats(target), DScore: ar.F32(n), Loss: ar.F32(1), Scale: 1}
		p := ar.NewProgram("test")
		all.Record(p)
		list.Record(p)
		p.Run(1)
		return slices.Concat(all.DScore.Values(), all.Loss.Values(), list.DScore.Values(), list.Loss.Values())
	})
}

func TestSquared(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		s, s64 := kerneltest.Random(37, 1)
		y, y64 := kerneltest.Random(37, 2)
		l := Squared{N: exec.Fixed(37), Score: ar.Floats(s), Label: ar.Floats(y), DScore: ar.F32(37), Loss: ar.F32(1)}
		p := ar.NewProgram("test")
		l.Record(p)
		p.Run(1)
		loss, grad := 0.0, make([]float64, 37)
		for i := range grad {
			e := s64[i] - y64[i]
			loss += e * e / 37
			grad[i] = 2 * e / 37
		}
		kerneltest.Close(t, []float64{loss}, l.Loss.Values(), 1e-6, "loss")
		kerneltest.Close(t, grad, l.DScore.Values(), 1e-6, "gradient")
	})
}

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	require.Panics(t, func() {
		AllPairs{N: exec.Fixed(3), Score: ar.F32(2), Label: ar.F32(3), DScore: ar.F32(3), Loss: ar.F32(1)}.Record(p)
	})
	require.Panics(t, func() { PairList{Heads: 3, Loss: ar.F32(1)}.Record(p) })
}

func BenchmarkAllPairs(b *testing.B) {
	d, _ := exec.Open(exec.Config{Threads: 1})
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	const n = 423
	s, _ := kerneltest.Random(n, 1)
	y, _ := kerneltest.Random(n, 2)
	noise, _ := variant{noisy: true}.noise(n)
	p := ar.NewProgram("bench")
	AllPairs{N: exec.Fixed(n), Score: ar.Floats(s), Label: ar.Floats(y), Noise: ar.Floats(noise), DScore: ar.F32(n),
		Loss: ar.F32(1)}.Record(p)
	for b.Loop() {
		p.Run(1)
	}
}
