package gcn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
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
		cmp, err := Train(t.Context(), exec.Config{Threads: 1}, c, data, 3, nil)
		require.NoError(t, err)
		e, err := cmp.Prepare(data)
		require.NoError(t, err)
		s, err := cmp.Scorer(exec.Config{Device: "sim:random"}, e)
		require.NoError(t, err)
		all, top := s.Score(), s.Top(7)
		for m := range c.Members {
			index, standing := top.Of(m)
			for k, i := range best(all.Member(m), 7) {
				require.EqualValues(t, i, index[k])
				require.InEpsilon(t, all.raw(m, i), standing[k], 1e-5)
			}
		}
		s.Close()
	}
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
