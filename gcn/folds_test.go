package gcn

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Of labels that say nothing a comparator with folds knows that it knows nothing; its ranks are those without.
func TestFoldsTellHowSure(t *testing.T) {
	data, test := problem(64, 70), problem(200, 71)
	s := philox.New(9, philox.PurposeTest, 70)
	for i := range data.Labels {
		data.Labels[i] = 0.9 + 0.05*s.NormFloat64()
	}
	c := quick(t, "default")
	c.Process, c.Steps, c.Width, c.Adapt = 0, 60, 16, false
	sureness := func(c Config) (sure float64, rank []float64) {
		cmp, err := Train(t.Context(), exec.Config{Threads: 2}, c, data, 3, nil)
		require.NoError(t, err)
		require.Equal(t, c.Folds > 0, cmp.Slope > 0)
		e, err := cmp.Prepare(test)
		require.NoError(t, err)
		scores, err := cmp.Score(exec.Config{Threads: 2}, e)
		require.NoError(t, err)
		for i := range 100 {
			p := scores.Prob(i, 100+i)
			require.InDelta(t, 1, p+scores.Prob(100+i, i), 1e-9)
			sure += math.Abs(p - 0.5)
		}
		return sure, scores.Rank
	}
	plain, rank := sureness(c)
	c.Folds = 4
	humble, same := sureness(c)
	require.Equal(t, rank, same)
	require.Less(t, humble, 0.6*plain)

	data.Graphs, data.Features, data.Labels = data.Graphs[:15], data.Features[:15], data.Labels[:15]
	cmp, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 3, nil)
	require.NoError(t, err)
	require.Zero(t, cmp.Slope, "too few labels")
	for _, folds := range []int{-1, 1, 101} {
		c.Folds = folds
		_, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 3, nil)
		require.ErrorContains(t, err, "folds")
	}
}
