package ctnas_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// byHash labels whatever it is asked for.
type byHash struct{ asked []space.Arch }

func (*byHash) Has(space.Arch) bool { return true }
func (*byHash) Facts() ledger.Facts { return ledger.Facts{Source: "fake", Metric: "accuracy"} }
func (*byHash) Describe() string    { return "a hash" }
func (b *byHash) Label(_ context.Context, archs []space.Arch) (values []float64, err error) {
	for _, a := range archs {
		b.asked = append(b.asked, a)
		values = append(values, 0.5+float64(a.Hash()[0])/1000+float64(a.Cost().MAdds)/1e10)
	}
	return values, nil
}

// mobileTimes is a table of the parts of mobilenetv3, by hand: the last number of a part's name in units of 0.1 ms.
func mobileTimes(t *testing.T, factor float64) *latency.Model {
	t.Helper()
	sp, err := space.Open("mobilenetv3")
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString("part,ms\n")
	for _, p := range sp.(space.Composed).Parts() {
		ms := 0.1 * factor
		if digit := p[len(p)-1]; digit >= '0' && digit <= '9' {
			ms *= float64(digit - '0')
		}
		fmt.Fprintf(&b, "%s,%.3f\n", p, ms)
	}
	path := filepath.Join(t.TempDir(), "t.csv")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	m, err := latency.Open(path, sp)
	require.NoError(t, err)
	return m
}

// Nothing above a limit on the latency is ever labelled, whoever proposes it; results say latencies, and the front is
// of them. A search that is stopped at any moment and goes on ends in the same bytes, and with another table it is
// refused.
func TestLatenciesAreKept(t *testing.T) {
	c := tiny(t, search.ProposeController)
	table := mobileTimes(t, 1)
	c.For("mobilenetv3", table.Space())
	c.Propose, c.Budget, c.Init, c.PerRound, c.Members, c.Steps, c.Generations = search.ProposeController,
		40, 16, 8, 1, 6, 2
	c.Latency, c.MaxLatency, c.Pareto, c.ParetoCost = "t.csv", 4.5, true, space.CostLatency
	with := func(dir string) (run.Deps, *byHash) {
		source := &byHash{}
		return run.Deps{Space: table.Space(), Source: source, Latency: table, Dir: dir,
			Program: run.Program{Version: "test"}}, source
	}
	d, source := with(t.TempDir())
	r, err := run.Do(context.Background(), c, d)
	require.NoError(t, err)
	require.Len(t, source.asked, 40)
	for _, a := range source.asked {
		require.LessOrEqual(t, *table.Milliseconds(a), 4.5)
	}
	accuracy, ms := -1.0, -1.0
	require.Equal(t, space.CostLatency, r.ParetoCost)
	for _, text := range r.Pareto {
		for _, a := range r.Architectures {
			if a.Arch == text {
				require.Greater(t, *a.Accuracy, accuracy)
				require.Greater(t, *a.LatencyMS, ms)
				accuracy, ms = *a.Accuracy, *a.LatencyMS
			}
		}
	}
	require.GreaterOrEqual(t, ms, 0.0)
	for _, a := range r.Architectures {
		x, err := d.Space.Parse(a.Arch)
		require.NoError(t, err)
		require.Equal(t, *table.Milliseconds(x), *a.LatencyMS)
		require.LessOrEqual(t, *a.LatencyMS, 4.5)
	}
	page, err := os.ReadFile(filepath.Join(d.Dir, report.PageName))
	require.NoError(t, err)
	require.Contains(t, string(page), "latency in ms")
	require.Contains(t, string(page), "the sum of its parts")

	stopped, _ := with(filepath.Join(t.TempDir(), "stopped"))
	most := 80
	if testdata.All() {
		most = 20
	}
	for stops := 0; ; stops++ {
		ctx, cancel := context.WithCancel(context.Background())
		left := 1 + rand.IntN(most)
		stopped.Progress = func(run.Progress) {
			if left--; left == 0 {
				cancel()
			}
		}
		stopped.Source = &byHash{}
		_, err := run.Do(ctx, c, stopped)
		cancel()
		if err == nil {
			break
		}
		require.ErrorIs(t, err, run.ErrInterrupted)
		require.Less(t, stops, 200)
	}
	runtest.SameFiles(t, d.Dir, stopped.Dir)
	kept, err := os.ReadFile(filepath.Join(stopped.Dir, report.LatencyName))
	require.NoError(t, err)
	require.Equal(t, string(table.Table.Text()), string(kept))

	d.Latency = mobileTimes(t, 1.001)
	_, err = run.Do(context.Background(), c, d)
	require.ErrorContains(t, err, "its latencies came from another table: "+table.Checksum()+"; now: ")
	d.Latency = nil
	_, err = run.Do(context.Background(), c, d)
	require.ErrorContains(t, err, "no table")

	// A folder that was killed before its first checkpoint.
	early, _ := with(t.TempDir())
	text, err := c.Settings().YAML(nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(early.Dir, search.ConfigName), text, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(early.Dir, report.LatencyName), table.Table.Text(), 0o644))
	early.Latency = mobileTimes(t, 1.001)
	_, err = run.Do(context.Background(), c, early)
	require.ErrorContains(t, err, "latencies are from another table")
	early.Latency = table
	_, err = run.Do(context.Background(), c, early)
	require.NoError(t, err)
	runtest.SameFiles(t, d.Dir, early.Dir)

	c.MaxLatency = 0.3
	d, _ = with("")
	_, err = run.Do(context.Background(), c, d)
	require.ErrorContains(t, err, "at most 0.3 ms: loosen --max-latency")
	require.False(t, errors.Is(err, run.ErrInterrupted))
}
