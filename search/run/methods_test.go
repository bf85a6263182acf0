package run_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	_ "github.com/ctnas/ctnas/search/method"
	_ "github.com/ctnas/ctnas/search/method/ctnas"
	_ "github.com/ctnas/ctnas/search/method/released"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// ground is where all methods can search: a space whose architectures can be crossed, and labels of whatever it has.
var ground = sync.OnceValues(func() (space.Space, error) { return space.Open("file:../../docs/examples/blocks.yaml") })

// some lists architectures of it, from which methods draw: a predictor then ranks hundreds instead of thousands.
var some = sync.OnceValue(func() *catalogue.Catalogue {
	sp, err := ground()
	if err != nil {
		panic(err)
	}
	return catalogue.New(sp, catalogue.NewList(runtest.Distinct(sp, 400, 3)), nil)
})

// source labels every architecture, and remembers what it was asked for.
type source struct{ *runtest.Source }

func (source) Has(space.Arch) bool { return true }
func (s source) Judge(a space.Arch) (float64, int, error) {
	return runtest.Accuracy(a), 0, nil
}
func (s source) Percentile(space.Arch) (float64, error) { return 0, ledger.ErrNoLabel }

func begin(t *testing.T, method, dir string) (search.Config, run.Deps, source) {
	sp, err := ground()
	require.NoError(t, err)
	preset := search.PresetDefault
	if method == search.ReleasedName {
		preset = search.PresetReleased
	}
	c, err := search.Preset(preset)
	require.NoError(t, err)
	c.For("file:../../docs/examples/blocks.yaml", sp)
	c.Method, c.Propose, c.Budget, c.Init, c.PerRound = method, search.ProposeController, 24, 10, 6
	c.Members, c.Steps, c.Iterations, c.Batch, c.Generations, c.Pool, c.Mutations = 1, 8, 10, 8, 2, 32, 16
	c.BaselineEvery, c.ExploreEvery, c.ExplorePairs, c.CheckpointEvery = 4, 4, 8, 8
	if method == search.ReleasedName {
		c.Batch, c.Init = 1, 23
	}
	s := source{&runtest.Source{List: catalogue.NewList(nil)}}
	return c, run.Deps{Space: sp, Source: s, All: some(), Dir: dir, Program: run.Program{Version: "test"},
		Checksum: "abc"}, s
}

// way is a method, with a lag where it goes by one.
type way struct {
	method string
	lag    int
}

func (w way) String() string { return fmt.Sprintf("%s lag=%d", w.method, w.lag) }

func (w way) begin(t *testing.T, dir string) (search.Config, run.Deps, source) {
	c, d, s := begin(t, w.method, dir)
	c.Lag = w.lag
	return c, d, s
}

func ways(t *testing.T) (list []way) {
	for _, method := range run.Names() {
		list = append(list, way{method, 0})
		m, err := run.Open(method)
		require.NoError(t, err)
		c, d, s := way{method, 1}.begin(t, "")
		if _, lags := m.(run.Lagging); lags {
			list = append(list, way{method, 2})
			continue
		}
		_, err = run.Do(t.Context(), c, d)
		require.ErrorContains(t, err, "--lag 1: the method "+method)
		require.Empty(t, s.Asked)
	}
	return list
}

// Whatever the method: stopped at every sign of progress in turn and gone on with, a search ends in the same bytes as
// if it had never stopped, logs the same, and buys no label twice; what its folder says of its settings repeats it.
func TestEveryMethodGoesOn(t *testing.T) {
	for _, w := range ways(t) {
		t.Run(w.String(), func(t *testing.T) {
			c, whole, bought := w.begin(t, t.TempDir())
			_, err := run.Do(t.Context(), c, whole)
			require.NoError(t, err)
			kept, err := search.LoadConfig(whole.Dir)
			require.NoError(t, err)
			require.Equal(t, c, kept)
			for _, name := range []string{report.LogName, report.PageName, report.SpaceName} {
				require.FileExists(t, filepath.Join(whole.Dir, name))
			}

			stopped, asked, stops, step := t.TempDir(), []space.Arch(nil), 0, 1
			if !testdata.All() {
				step = 5
			}
			for signs := 1; ; signs += step {
				c, d, again := w.begin(t, stopped)
				if _, err := os.Stat(filepath.Join(stopped, search.ConfigName)); err == nil {
					c, err = search.LoadConfig(stopped)
					require.NoError(t, err)
				}
				_, err := run.Do(stopAfter(t, &d, signs), c, d)
				asked = append(asked, again.Asked...)
				if err == nil {
					break
				}
				require.ErrorIs(t, err, run.ErrInterrupted)
				stops++
				require.NoFileExists(t, filepath.Join(stopped, report.ResultName))
			}
			require.Positive(t, stops)
			runtest.SameFiles(t, whole.Dir, stopped)
			runtest.SameEvents(t, whole.Dir, stopped)
			require.Equal(t, bought.Asked, asked, "every label is asked for once")

			// A ledger that was torn by a crash, then a folder whose checkpoints are lost: no label is bought again.
			path := filepath.Join(stopped, report.LedgerName)
			for _, lost := range []string{"", checkpoint.Dir} {
				_, d, again := w.begin(t, stopped)
				require.NoError(t, os.Remove(filepath.Join(stopped, report.ResultName)))
				if lost != "" {
					require.NoError(t, os.RemoveAll(filepath.Join(stopped, lost)))
				}
				require.NoError(t, os.WriteFile(path, append(read(t, path), `{"n":25,"arch":`...), 0o644))
				_, err = run.Do(t.Context(), c, d)
				require.NoError(t, err)
				require.Empty(t, again.Asked)
				runtest.SameFiles(t, whole.Dir, stopped)
			}
		})
	}
}

// stopAfter is a context that ends at a sign of progress.
func stopAfter(t *testing.T, d *run.Deps, signs int) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var mu sync.Mutex // a comparator's members tell of their training at once
	d.Progress = func(run.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if signs--; signs == 0 {
			cancel()
		}
	}
	return ctx
}

func read(t *testing.T, path string) []byte {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// Whatever the method: a search that has ended and is given more budget keeps what it bought, goes on, says so, and can
// be repeated as a whole; so does one that was stopped before its first budget was spent.
func TestEveryMethodTakesMoreBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing runs side by side here that does not in TestEveryMethodGoesOn")
	}
	for _, w := range ways(t) {
		t.Run(w.String(), func(t *testing.T) {
			c, d, first := w.begin(t, t.TempDir())
			_, err := run.Do(t.Context(), c, d)
			require.NoError(t, err)
			before := read(t, filepath.Join(d.Dir, report.LedgerName))

			more := c.More(40)
			_, d, second := w.begin(t, d.Dir)
			r, err := run.Do(t.Context(), more, d)
			require.NoError(t, err)
			require.False(t, r.Finished)
			require.Equal(t, 40, r.LabelsUsed)
			require.Equal(t, []int{24, 40}, r.Budgets)
			after := read(t, filepath.Join(d.Dir, report.LedgerName))
			require.Equal(t, string(before), string(after[:len(before)]))
			kept, err := search.LoadConfig(d.Dir)
			require.NoError(t, err)
			require.Equal(t, more, kept)
			require.Len(t, slices.Concat(first.Asked, second.Asked), 40)

			again, err := run.Do(t.Context(), more, d)
			require.NoError(t, err)
			require.True(t, again.Finished)
			_, d, _ = w.begin(t, d.Dir)
			_, err = run.Do(t.Context(), c, d)
			require.ErrorContains(t, err, "other ones than those given now", "less budget")
			c.Budget = 50 // without a word of what it had before
			_, err = run.Do(t.Context(), c, d)
			require.ErrorContains(t, err, "--budget 40 then, 50 now")
			require.ErrorContains(t, err, "another --out begins anew")
			c.Budget = 24

			_, whole, _ := w.begin(t, t.TempDir())
			_, err = run.Do(t.Context(), kept, whole)
			require.NoError(t, err)
			runtest.SameFiles(t, d.Dir, whole.Dir)
			runtest.SameEvents(t, d.Dir, whole.Dir)

			if !slices.Contains([]string{"ctnas", "released", "evolution"}, w.method) && !testdata.All() {
				return // the others go on by running again from the seed, as evolution does
			}
			_, stopped, _ := w.begin(t, t.TempDir())
			_, err = run.Do(stopAfter(t, &stopped, 1), c, stopped)
			require.ErrorIs(t, err, run.ErrInterrupted)
			stopped.Progress = nil
			_, err = run.Do(t.Context(), more, stopped)
			require.NoError(t, err)
			runtest.SameFiles(t, d.Dir, stopped.Dir)
		})
	}
}

// stopping is a method whose run is stopped while its checkpoint cannot be written.
type stopping struct{ stop context.CancelFunc }

func (stopping) Name() string { return "random" }

func (s stopping) Run(ctx context.Context, r *run.Run) error {
	// A folder that is not empty stands where the checkpoint before is to go.
	if err := os.MkdirAll(filepath.Join(r.Dir, checkpoint.Dir, checkpoint.Previous, "x"), 0o755); err != nil {
		return err
	}
	if err := r.Save(1); err != nil {
		return err
	}
	s.stop()
	return ctx.Err()
}

// Whoever stops a search is told where its last checkpoint was not written: that is no interruption like others.
func TestALostCheckpointIsToldOfAStoppedSearch(t *testing.T) {
	c, d, _ := begin(t, "random", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := run.With(ctx, stopping{cancel}, c, d)
	require.ErrorContains(t, err, "checkpoint: ")
	require.NotErrorIs(t, err, context.Canceled)
}
