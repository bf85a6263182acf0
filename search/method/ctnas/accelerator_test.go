package ctnas_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/method/released"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
)

// small is a search short enough for the simulator.
func small(t *testing.T, mode string) search.Config {
	c := tiny(t, mode)
	if mode == search.PresetReleased {
		c.Budget, c.Init, c.Steps, c.Validation, c.Iterations, c.CheckpointEvery = 17, 12, 4, 4, 20, 10
		return c
	}
	c.Budget, c.Init, c.Steps, c.Iterations, c.Batch, c.Pool, c.Mutations, c.BaselineEvery, c.ExploreEvery =
		24, 12, 4, 5, 8, 8, 4, 2, 2
	return c
}

// A search that runs on an accelerator finds what the CPU finds: its comparator ranks the space as the CPU's does, its
// repetition and its resumed half end in the same bytes.
func TestSearchOnAnAccelerator(t *testing.T) {
	for _, device := range kerneltest.Accelerators() {
		for _, mode := range []string{search.ProposeController, search.PresetReleased} {
			t.Run(device+"/"+mode, func(t *testing.T) {
				testdata.SkipUnlessAll(t, "the simulator takes seconds for a search, whose parts have tests of their own")
				c := small(t, mode)
				find := func(ctx context.Context, on, dir string, progress func(run.Progress)) (*run.Result, error) {
					d := deps(t, dir)
					d.Device, d.Progress = exec.Config{Device: on}, progress
					if mode == search.PresetReleased {
						// A simulated accelerator takes seconds for as many pairs as are usual.
						return run.With(ctx, released.Method{First: 16}, c, d)
					}
					return run.Do(ctx, c, d)
				}
				cpu, err := find(t.Context(), "cpu", "", nil)
				require.NoError(t, err)
				dir := t.TempDir()
				found, err := find(t.Context(), device, dir, nil)
				require.NoError(t, err)
				require.Contains(t, found.Device, "/fp32")
				require.GreaterOrEqual(t, stat.KendallB(ranking(t, cpu.Comparator), ranking(t, found.Comparator)), 0.99)

				again := t.TempDir()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err = find(ctx, device, again, func(p run.Progress) {
					if p.Stage == "controller" {
						cancel()
					}
				})
				require.ErrorIs(t, err, run.ErrInterrupted)
				_, err = find(t.Context(), "cpu", again, nil)
				require.ErrorContains(t, err, "cannot be resumed")
				_, err = find(t.Context(), device, again, nil)
				require.NoError(t, err)
				runtest.SameFiles(t, dir, again)
			})
		}
	}
}

// ranking is a comparator's scores of the listed cells, computed on the CPU.
func ranking(t *testing.T, c *gcn.Comparator) []float64 {
	list := runtest.Archs()
	encoding, err := c.Prepare(catalogue.Describe(cells, c.Config.Network, list, nil))
	require.NoError(t, err)
	s, err := c.Score(exec.Config{}, encoding)
	require.NoError(t, err)
	return s.Rank
}
