package search

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// small is a search short enough for the simulator.
func small(t *testing.T, mode string) Config {
	c := tiny(t, mode)
	if mode == PresetReleased {
		c.Budget, c.Init, c.Steps, c.Validation, c.Iterations, c.CheckpointEvery = 17, 12, 4, 4, 20, 10
		whole := releasedFirst
		releasedFirst = 16
		t.Cleanup(func() { releasedFirst = whole })
		return c
	}
	c.Budget, c.Init, c.Steps, c.Iterations, c.Pool, c.Mutations, c.BaselineEvery, c.ExploreEvery = 24, 12, 6, 6, 16, 8, 3, 3
	return c
}

// A search that runs on an accelerator finds what the CPU finds: its comparator ranks the space as the CPU's does, its repetition and its resumed
// half end in the same bytes.
func TestSearchOnAnAccelerator(t *testing.T) {
	for _, device := range kerneltest.Accelerators() {
		for _, mode := range []string{ProposeController, PresetReleased} {
			t.Run(device+"/"+mode, func(t *testing.T) {
				c := small(t, mode)
				run := func(ctx context.Context, on, dir string, progress func(Progress)) (*Result, error) {
					d := deps(t, dir)
					d.Device, d.Progress = exec.Config{Device: on}, progress
					return Run(ctx, c, d)
				}
				cpu, err := run(t.Context(), "cpu", "", nil)
				require.NoError(t, err)
				dir := t.TempDir()
				found, err := run(t.Context(), device, dir, nil)
				require.NoError(t, err)
				require.Contains(t, found.Device, "/fp32")
				require.GreaterOrEqual(t, stat.KendallB(ranking(t, cpu.Comparator), ranking(t, found.Comparator)), 0.99)

				again := t.TempDir()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err = run(ctx, device, again, func(p Progress) {
					if p.Stage == "controller" {
						cancel()
					}
				})
				require.ErrorIs(t, err, ErrInterrupted)
				_, err = run(t.Context(), "cpu", again, nil)
				require.ErrorContains(t, err, "cannot be resumed")
				_, err = run(t.Context(), device, again, nil)
				require.NoError(t, err)
				sameFiles(t, dir, again)
			})
		}
	}
}

// ranking is a comparator's scores of the listed cells, computed on the CPU.
func ranking(t *testing.T, c *gcn.Comparator) []float64 {
	list := someCells()
	encoding, err := c.Prepare(describe(cells, c.Config.Network, list.archs, nil))
	require.NoError(t, err)
	s, err := c.Score(exec.Config{}, encoding)
	require.NoError(t, err)
	return s.Rank
}
