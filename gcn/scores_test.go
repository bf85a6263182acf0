package gcn

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// The best graphs are those of all scores.
func TestTop(t *testing.T) {
	data := problem(60, 40)
	for _, preset := range []string{"default", "released"} {
		c := quick(t, preset)
		c.Members, c.Steps = 2, 5
		if preset == "released" {
			c.Members = 1
		}
		trained, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 3, nil)
		require.NoError(t, err)
		e, err := trained.Prepare(data)
		require.NoError(t, err)
		s, err := trained.Scorer(exec.Config{Device: "sim:random"}, e)
		require.NoError(t, err)
		all, top := s.Score(), s.Top(7)
		for m := range c.Members {
			index, standing := top.Of(m)
			score := all.Member(m)
			order := make([]int, len(score))
			for i := range order {
				order[i] = i
			}
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
			for k, i := range order[:7] {
				require.EqualValues(t, i, index[k])
				require.InEpsilon(t, all.raw(m, i), standing[k], 1e-5)
			}
		}
		s.Close()
	}
}

// The top of a ranking whose first are in order, but for two, and whose second half is upside down.
func TestEvaluateTheTop(t *testing.T) {
	const n = 2000 // the best 1 % are 20, the best 0.1 % are 2
	score, label := make([]float64, n), make([]float64, n)
	for i := range n {
		score[i], label[i] = float64(n-i), float64(n-i)
		if i >= n/2 {
			label[i] = float64(i - n)
		}
	}
	label[1], label[2] = label[2], label[1]
	r := Evaluate(&Scores{Rank: score, members: [][]float64{score}, spread: []Spread{{0, 1}}}, label, 1)
	require.InDelta(t, 1, r.PAt1, 1e-12)
	require.Equal(t, 0.5, r.PAtTenth)
	require.InDelta(t, 1-4.0/(20*19), r.TauTop, 1e-12)
}

// Of too few labels nothing is said but tau-b: an error of 0 would be the best there is.
func TestEvaluateOfTooFew(t *testing.T) {
	s := []float64{1, 2}
	r := Evaluate(&Scores{Rank: s, members: [][]float64{s}, spread: []Spread{{0, 1}}}, []float64{0.1, 0.2}, 1)
	require.Equal(t, 1.0, r.TauB)
	for _, v := range []float64{r.PAt1, r.PAtTenth, r.TauTop, r.Transitivity, r.Calibration, r.Antisymmetry} {
		require.True(t, math.IsNaN(v))
	}
	same := []float64{1, 1, 1} // no comparison is above one half: there is no triple to be transitive
	r = Evaluate(&Scores{Rank: same, members: [][]float64{same}, spread: []Spread{{0, 1}}}, []float64{0.1, 0.2, 0.3}, 1)
	require.Zero(t, r.Triples)
	require.True(t, math.IsNaN(r.Transitivity))
}

// Equal scores prefer nothing: they are worth what chance is, in whatever order the labels stand.
func TestEvaluateOfEqualScores(t *testing.T) {
	evaluate := func(scores, labels []float64) Report {
		return Evaluate(&Scores{Rank: scores, members: [][]float64{scores}, spread: []Spread{{0, 1}}}, labels, 1)
	}
	const n = 600
	descending, ascending, constant := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range n {
		descending[i], ascending[i] = float64(n-i), float64(i)
	}
	for _, labels := range [][]float64{descending, ascending} {
		r := evaluate(constant, labels)
		require.InDelta(t, 0.01, r.PAt1, 1e-12)
		require.Equal(t, n, r.TopRank)
	}
	// Two share the highest score; the lower of them counts. Six are predicted best, of which the last place goes to
	// one of two.
	scores := slices.Clone(descending)
	scores[1], scores[6] = scores[0], scores[5]
	r := evaluate(scores, descending)
	require.Equal(t, 2, r.TopRank)
	require.InDelta(t, 5.5/6, r.PAt1, 1e-12)
	// Labels of which the sixth and the seventh are equal: either is the sixth best.
	labels := slices.Clone(descending)
	labels[6] = labels[5]
	require.InDelta(t, 5.5/6, evaluate(descending, labels).PAt1, 1e-12)
	// Nothing is equal: counted by hand.
	require.InDelta(t, 1, evaluate(descending, descending).PAt1, 1e-12)
	require.InDelta(t, 0, evaluate(ascending, descending).PAt1, 1e-12)
}

// Training and scoring on tensor cores rank like float32, and say the same again.
func TestTrainOnTensorCores(t *testing.T) {
	train, test := problem(24, 50), problem(60, 51)
	for _, preset := range []string{"default", "paper"} {
		c := quick(t, preset)
		c.Members, c.Steps, c.Width = 1, 30, 16
		ranks := func(device exec.Config) []float64 {
			cmp, err := Train(t.Context(), device, c, train, 5, nil)
			require.NoError(t, err)
			e, err := cmp.Prepare(test)
			require.NoError(t, err)
			scores, err := cmp.Score(device, e)
			require.NoError(t, err)
			return scores.Rank
		}
		full := ranks(exec.Config{Threads: 1})
		for _, name := range kerneltest.Accelerators() {
			device := exec.Config{Device: name, Precision: exec.BF16}
			rounded := ranks(device)
			require.Greater(t, stat.KendallB(full, rounded), 0.9, preset)
			require.NotEqual(t, full, rounded)
			require.Equal(t, rounded, ranks(device))
		}
	}
}
