package gcn

import (
	"context"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
)

// definite draws a symmetric positive definite matrix.
func definite(n int, s *philox.Stream) []float64 {
	b, a := make([]float64, n*n), make([]float64, n*n)
	for i := range b {
		b[i] = s.NormFloat64()
	}
	for i := range n {
		for j := range n {
			a[i*n+j] = dot(b[i*n:(i+1)*n], b[j*n:(j+1)*n])
		}
		a[i*n+i]++
	}
	return a
}

func TestCholesky(t *testing.T) {
	s := philox.New(1, philox.PurposeTest, 0)
	for _, n := range []int{1, 2, 63, 64, 65, 130} {
		a := definite(n, s)
		b := make([]float64, n)
		for i := range b {
			b[i] = s.NormFloat64()
		}
		var first []float64
		for _, threads := range []int{1, 3} {
			before := runtime.GOMAXPROCS(threads)
			l, err := newCholesky(t.Context(), append([]float64(nil), a...), n)
			require.NoError(t, err)
			x := l.solve(b)
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			diagonal, err := l.inverseDiagonal(t.Context(), all)
			runtime.GOMAXPROCS(before)
			require.NoError(t, err)
			for i := range n {
				require.InDelta(t, b[i], dot(a[i*n:(i+1)*n], x), 1e-7, n)
				unit := make([]float64, n)
				unit[i] = 1
				require.InEpsilon(t, l.solve(unit)[i], diagonal[i], 1e-7)
			}
			if first == nil {
				first = append(x, diagonal...)
			}
			require.Equal(t, first, append(x, diagonal...), "the number of threads changed the result")
		}
	}
	_, err := newCholesky(t.Context(), []float64{1, 0, 2, 1}, 2)
	require.ErrorContains(t, err, "not positive definite (pivot 1 is -3)")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newCholesky(ended, definite(70, s), 70)
	require.ErrorIs(t, err, context.Canceled)
}

// gauss solves a·x = b by elimination.
func gauss(a, b []float64) []float64 {
	n := len(b)
	a, x := append([]float64(nil), a...), append([]float64(nil), b...)
	for k := range n {
		for i := k + 1; i < n; i++ {
			f := a[i*n+k] / a[k*n+k]
			for j := k; j < n; j++ {
				a[i*n+j] -= f * a[k*n+j]
			}
			x[i] -= f * x[k]
		}
	}
	for i := n - 1; i >= 0; i-- {
		for j := i + 1; j < n; j++ {
			x[i] -= a[i*n+j] * x[j]
		}
		x[i] /= a[i*n+i]
	}
	return x
}

// A process's scores are those of the textbook, the slope from scores that never saw their own label.
func TestProcess(t *testing.T) {
	data := problem(60, 5)
	_, noise := Config{Loss: Comparison, NoiseFloor: 0.0025, NoiseSlope: 0.1}.targets(data.Labels)
	p, err := newProcess(t.Context(), data.Features, data.Labels, noise)
	require.NoError(t, err)
	n, width := len(data.Labels), len(data.Features[0])
	covariance := func(a, b []float32) float64 {
		d := 0.0
		for j := range a {
			d += math.Pow(float64(a[j])-float64(b[j]), 2)
		}
		return math.Exp(-math.Pow(p.Length*d, 0.75))
	}
	center := func(i int) []float32 { return p.Center[i*width : (i+1)*width] }
	target := normalScores(data.Labels)
	ridge := ridges(data.Labels, target, noise)
	require.InDelta(t, ridgeLabels/float64(n), stat.Mean(ridge), 1e-9)
	k := make([]float64, n*n)
	for i := range n {
		for j := range n {
			k[i*n+j] = covariance(center(i), center(j))
		}
		k[i*n+i] += ridge[i]
	}
	weight := gauss(k, target)
	// Without a label: the same of all others.
	of, alone := some(n), []float64(nil)
	require.Len(t, of, n)
	for out := range n {
		var less, rest []float64
		for i := range n {
			for j := range n {
				if i != out && j != out {
					less = append(less, k[i*n+j])
				}
			}
			if i != out {
				rest = append(rest, target[i])
			}
		}
		w, s := gauss(less, rest), 0.0
		for i := range n {
			if i != out {
				s += w[0] * k[out*n+i]
				w = w[1:]
			}
		}
		alone = append(alone, s)
	}
	slope := logitSlope(alone, of, data.Labels, noise)
	require.Greater(t, slope, 0.5)
	other := problem(30, 6)
	c := &Comparator{Config: Config{Network: Network{Kind: Gated, Features: true}}, Alphabet: 5, Scale: p.Scale}
	e, err := c.Prepare(other)
	require.NoError(t, err)
	dev, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	for g, got := range p.score(dev, e) {
		x, want := p.Scale.apply(other.Features[g]), 0.0
		for i, w := range weight {
			want += slope * w * covariance(x, center(i))
		}
		require.InDelta(t, want, got, 2e-3*math.Max(1, math.Abs(want)))
	}
	e, err = c.Prepare(data)
	require.NoError(t, err)
	own := p.score(dev, e)
	require.InDelta(t, stat.Mean(own), p.Spread.Mean, 2e-3)
	require.InEpsilon(t, stat.SD(own), p.Spread.SD, 1e-3)
}

// Next to nothing to learn from makes a process that says next to nothing, not one that fails.
func TestProcessOfNextToNothing(t *testing.T) {
	few := problem(40, 7)
	dev, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer dev.Close()
	alike := slices.Repeat([][]float32{few.Features[0]}, 40)
	half := slices.Concat(alike[:20], few.Features[20:])
	equal := slices.Repeat([]float64{0.9}, 40)
	for name, x := range map[string]struct {
		features [][]float32
		labels   []float64
		constant bool
	}{
		"two labels":            {few.Features[:2], few.Labels[:2], false},
		"equal labels":          {few.Features, equal, true},
		"two equal labels":      {few.Features[:2], equal[:2], true},
		"equal features":        {alike, few.Labels, true},
		"everything is equal":   {alike, equal, true},
		"half the rows equal":   {half, few.Labels, false},
		"two labels of a graph": {alike[:2], few.Labels[:2], true},
	} {
		for _, exact := range []bool{false, true} {
			var noise []float32
			if !exact {
				_, noise = Config{Loss: Comparison, NoiseFloor: 0.0025, NoiseSlope: 0.1}.targets(x.labels)
			}
			p, err := newProcess(t.Context(), x.features, x.labels, noise)
			require.NoError(t, err, name)
			require.NoError(t, p.check(len(x.features[0])), name)
			c := &Comparator{Config: Config{Network: Network{Kind: Gated, Features: true}}, Alphabet: 5, Scale: p.Scale}
			e, err := c.Prepare(few)
			require.NoError(t, err)
			scores := p.score(dev, e)
			for _, v := range scores {
				require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "%s: %v", name, v)
			}
			low, high := slices.Min(scores), slices.Max(scores)
			if x.constant {
				require.InDelta(t, low, high, 1e-6, name)
			} else {
				require.Greater(t, high, low+1e-6, name)
			}
		}
	}
}

// The slope is that at which the loss's derivative is zero, and 1 where scores are logits already.
func TestLogitSlope(t *testing.T) {
	s := philox.New(3, philox.PurposeTest, 0)
	const n = 400
	score, labels, noise := make([]float64, n), make([]float64, n), make([]float32, n)
	of := make([]int, n)
	for i := range n {
		score[i], of[i], noise[i] = 2*s.NormFloat64(), i, 0.01
		labels[i] = 0.5 + 0.01*math.Sqrt2/1.702*score[i] // whose targets' logits are differences of scores
	}
	require.InDelta(t, 1, logitSlope(score, of, labels, noise), 1e-4)
	for i := range score {
		score[i] *= 4
	}
	require.InDelta(t, 0.25, logitSlope(score, of, labels, noise), 1e-4)
	require.Equal(t, 1e2, logitSlope(score, of, score, nil), "nothing is ever wrong: the bound")
}

func TestNormalScores(t *testing.T) {
	got := normalScores([]float64{0.9, 0.1, 0.9, 0.5})
	require.Equal(t, got[0], got[2])
	require.InDelta(t, 0, stat.Mean(got), 1e-12)
	require.InDelta(t, math.Sqrt2*math.Erfinv(0.5)-math.Sqrt2*math.Erfinv(-0.25), got[0]-got[3], 1e-12)
	require.True(t, got[1] < got[3] && got[3] < got[0])
}

// With a process in the ensemble the result depends neither on threads nor on pieces, survives being written, and ranks
// and compares by the process in its weight.
func TestTrainWithProcess(t *testing.T) {
	train, test := problem(80, 20), problem(150, 21)
	c := quick(t, "default")
	c.Steps, c.Process = 40, 0.5
	var first *Scores
	for _, threads := range []int{1, 3} {
		device := exec.Config{Threads: threads}
		cmp, err := Train(t.Context(), device, c, train, 5, nil)
		require.NoError(t, err)
		data, err := cmp.MarshalBinary()
		require.NoError(t, err)
		read := &Comparator{}
		require.NoError(t, read.UnmarshalBinary(data))
		require.Equal(t, cmp, read)
		e, err := cmp.Prepare(test)
		require.NoError(t, err)
		scores, err := read.Score(device, e)
		require.NoError(t, err)
		if first == nil {
			first = scores
		}
		require.Equal(t, first, scores, "the number of threads changed the result")
		sp := NewSpace(5, Slice(test.Graphs), func(i int) []float32 { return test.Features[i] })
		sp.whole, sp.piece = 50, 40
		pieces, err := sp.Score(t.Context(), cmp, device)
		require.NoError(t, err)
		require.Equal(t, first.process, pieces.process)
		some, err := sp.ScoreSome(t.Context(), cmp, device, []int{149, 3})
		require.NoError(t, err)
		require.Equal(t, []float64{first.process[149], first.process[3]}, some.process)
		require.Equal(t, first.Prob(149, 3), some.Prob(0, 1))
		cmp.Slope = 0.3 // as folds say it
		pieces, err = sp.Score(t.Context(), cmp, device)
		require.NoError(t, err)
		some, err = sp.ScoreSome(t.Context(), cmp, device, []int{149, 3})
		require.NoError(t, err)
		require.NotEqual(t, first.Prob(149, 3), pieces.Prob(149, 3))
		require.Equal(t, pieces.Prob(149, 3), some.Prob(0, 1))

		read.Process.Center = read.Process.Center[1:]
		data, err = read.MarshalBinary()
		require.NoError(t, err)
		require.ErrorContains(t, read.UnmarshalBinary(data), "a process of")
	}
	require.Greater(t, stat.KendallB(first.Rank, test.Labels), 0.6)
	require.Equal(t, c.Members+1, first.Members())
	require.InDelta(t, first.process[7]-first.process[8], // a member is divided by its deviation, and so rounded
		(first.Member(c.Members)[7]-first.Member(c.Members)[8])*first.spread[c.Members].SD, 1e-12)
	without := *first
	without.process = nil
	p := without.Prob(3, 9)
	require.InDelta(t, 1.2*(math.Log(p/(1-p))+first.process[3]-first.process[9])/2,
		math.Log(first.Prob(3, 9)/first.Prob(9, 3)), 1e-9)

	c.Pair = true
	_, err := Train(t.Context(), exec.Config{Threads: 1}, c, train, 5, nil)
	require.ErrorContains(t, err, "a process of weight 0.5")
}
