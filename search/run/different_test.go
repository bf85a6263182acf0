package run_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
)

// Results that differ are in the log and on the page, each job once however often it is told of, with those that were
// told of before a stop; result.json and the ledger are the bytes of a search that was told of none.
func TestResultsThatDiffer(t *testing.T) {
	c, whole, _ := begin(t, "random", t.TempDir())
	_, err := run.Do(t.Context(), c, whole)
	require.NoError(t, err)
	require.NotContains(t, string(read(t, filepath.Join(whole.Dir, report.PageName))), "Results that differ")

	dir := t.TempDir()
	difference := func(n int) run.Difference {
		return run.Difference{Job: fmt.Sprint("job", n), Archs: []string{fmt.Sprint("<b>", n), "other"},
			First: "gpu1", Second: "gpu2"}
	}
	for n, stop := range []int{1, 0} {
		_, d, _ := begin(t, "random", dir)
		ctx := t.Context()
		if stop > 0 {
			ctx = stopAfter(t, &d, stop)
		}
		d.Differing = func(tell func(run.Difference)) func() {
			tell(difference(1))
			tell(difference(1))
			return func() { tell(difference(1)); tell(difference(2 + n)) }
		}
		_, err = run.Do(ctx, c, d)
		if stop > 0 {
			require.ErrorIs(t, err, run.ErrInterrupted)
			continue
		}
		require.NoError(t, err)
	}
	runtest.SameFiles(t, whole.Dir, dir)
	all, _, err := events.Read(dir)
	require.NoError(t, err)
	var jobs []string
	for _, e := range all {
		if e.Name == report.EventDifferent {
			jobs = append(jobs, fmt.Sprint(e.Step, e.Text["job"], e.Text["first"], e.Text["second"], e.Text["archs"]))
		}
	}
	require.Equal(t, []string{"1job1gpu1gpu2<b>1 other", "2job3gpu1gpu2<b>3 other"}, jobs)
	page := string(read(t, filepath.Join(dir, report.PageName)))
	require.Contains(t, page, "Of 2 jobs two workers have sent results that differ")
	require.Contains(t, page, "&lt;b&gt;3 and 1 more")
}
