package compare

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/method/ctnas"
)

// Runs side by side end as one after the other, and what was the best so far is what the ledger says.
func TestJobs(t *testing.T) {
	c := comparison(t, method.Random{}, ctnas.Method{})
	c.Device.Threads = 2
	want, err := Compare(t.Context(), c)
	require.NoError(t, err)
	c.Jobs = 3
	count := 0
	c.Done = func(Run) { count++ }
	got, err := Compare(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 4, count)
	for i := range got {
		got[i].Seconds, want[i].Seconds = 0, 0
	}
	require.Equal(t, want, got)

	optimum, err := c.Field.Optimum()
	require.NoError(t, err)
	for _, r := range got {
		require.Len(t, strings.Split(strings.TrimSpace(string(r.ledger)), "\n"), r.Labels)
		require.Equal(t, 1, r.Best[0].Labels)
		last := r.Best[len(r.Best)-1]
		require.Equal(t, Step{last.Labels, r.Arch, r.Seen, r.Accuracy, r.Rank}, last, "the pick")
		for i, step := range r.Best[1:] {
			require.Greater(t, step.Seen, r.Best[i].Seen)
			require.Greater(t, step.Labels, r.Best[i].Labels)
		}
		require.LessOrEqual(t, float64(r.Accuracy), *optimum)
		require.Equal(t, *r.Rank == 1, float64(r.Accuracy) == *optimum)
	}

	c.Field.parallel = false
	_, err = Compare(t.Context(), c)
	require.ErrorContains(t, err, "3 jobs: runs go on side by side with labels of a table alone")
	c.Jobs = -1
	require.ErrorContains(t, c.Check(), "-1 jobs")
}

// stepped is a run whose best labels are steps: pairs of a number of labels and an accuracy.
func stepped(name string, seed uint64, labels int, steps ...float64) Run {
	r := Run{Method: name, Seed: seed, Labels: labels, Queries: &labels}
	for i := 0; i < len(steps); i += 2 {
		rank := int(100 - 100*steps[i+1])
		r.Accuracy, r.Rank, r.Arch = stat.Number(steps[i+1]), &rank, "a<b"
		r.Best = append(r.Best, Step{Labels: int(steps[i]), Seen: steps[i+1], Accuracy: r.Accuracy, Rank: &rank})
	}
	return r
}

func TestCurves(t *testing.T) {
	optimum := 0.9
	s := Summarize([]Run{
		stepped("a", 1, 4, 1, 0.5, 3, 0.7), stepped("b", 1, 2, 1, 0.2), stepped("a", 2, 4, 1, 0.6, 2, 0.9),
		{Method: "spos", Seed: 1},
	}, 100, false)
	curves := Curves(s, &optimum)
	require.Len(t, curves, 2, "a method without labels has none")
	require.Len(t, curves[1].Points, 4, "a run that has ended stays where it is")
	means := func(c Curve, of func(CurvePoint) *Interval) (list []float64) {
		for _, p := range c.Points {
			list = append(list, math.Round(1000*float64(of(p).Mean))/1000)
		}
		return list
	}
	accuracy := func(p CurvePoint) *Interval { return p.Accuracy }
	regret := func(p CurvePoint) *Interval { return p.Regret }
	rank := func(p CurvePoint) *Interval { return p.Rank }
	require.Equal(t, []float64{0.55, 0.7, 0.8, 0.8}, means(curves[0], accuracy))
	require.Equal(t, []float64{0.35, 0.2, 0.1, 0.1}, means(curves[0], regret))
	require.Equal(t, []float64{80, 80, 80, 80}, means(curves[1], rank))
	require.Nil(t, Curves(s, nil)[0].Points[0].Regret)

	var out bytes.Buffer
	require.NoError(t, WriteCurves(&out, curves))
	rows, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 9)
	require.Equal(t, []string{"a", "1", "2", "0.55"}, rows[1][:4])
	require.Equal(t, "b,4,1,0.2,,,0.7,,,80,,", strings.Join(rows[8], ","), "one seed has no interval")

	long := counts(100_000)
	require.Len(t, long, maxCurvePoints)
	require.Equal(t, 100_000, long[maxCurvePoints-1])
	require.True(t, slices.IsSorted(long))
	require.Equal(t, []int{1, 2, 3}, counts(3))
}

func TestTests(t *testing.T) {
	var runs []Run
	for seed := range uint64(6) {
		v := 0.8 + 0.01*float64(seed)
		runs = append(runs, stepped("worse", seed, 1, 1, v-0.1), stepped("ours", seed, 1, 1, v),
			stepped("same", seed, 1, 1, v))
	}
	runs[0].Accuracy = stat.Number(math.NaN()) // a pair that is not known
	s := Summarize(runs, 100, false)
	tests := Tests(s, "ours")
	require.Len(t, tests, 2)
	require.Equal(t, []string{"worse", "same"}, []string{tests[0].Method, tests[1].Method})
	require.Equal(t, []int{5, 5, 6, 0}, []int{tests[0].Pairs, tests[0].Differing, tests[1].Pairs, tests[1].Differing})
	require.InDelta(t, -0.1, float64(tests[0].Better), 1e-12)
	require.InDelta(t, 2.0/32, tests[0].P, 1e-12)
	require.InDelta(t, 4.0/32, tests[0].Holm, 1e-12)
	require.Equal(t, []float64{1, 1}, []float64{tests[1].P, tests[1].Holm})
	require.Empty(t, Tests(s, "nobody"))

	grid := methodGrid(s, "", tests)
	require.Equal(t, "p against ours", grid.Head[len(grid.Head)-1])
	require.Equal(t, "0.125", grid.Rows[0][len(grid.Head)-1])
	require.Equal(t, dash, grid.Rows[1][len(grid.Head)-1])
	require.False(t, telling(tests[:1]), "five pairs can tell nothing")
	for p, want := range map[float64]string{0.5: "0.500", 0.0123: "0.012", 0.0012: "0.0012", 1e-9: "< 0.0001"} {
		require.Equal(t, want, probability(p))
	}
	var out bytes.Buffer
	require.NoError(t, WriteSummaries(&out, FormatCSV, s, "", Paper(), tests))
	rows, err := csv.NewReader(&out).ReadAll() // which wants rows of one length
	require.NoError(t, err)
	at := slices.Index(rows[0], "p_holm")
	require.Equal(t, []string{"0.0625", "0.125"}, rows[1][at-1:at+1])
	require.Equal(t, []string{"", ""}, rows[2][at-1:at+1])
}

func TestDocument(t *testing.T) {
	var runs []Run
	for seed := range uint64(6) {
		runs = append(runs, stepped("a_b & c", seed, 3, 1, 0.7, 3, 0.8+0.01*float64(seed)),
			stepped("d", seed, 3, 1, 0.6))
	}
	optimum := 0.95
	d := Document{Space: "s", Labels: "table:x", Accuracy: "chosen & judged", Budget: 3,
		Seeds: []uint64{0, 1, 2, 3, 4, 5}, Version: "1", Total: 100, Optimum: &optimum,
		Methods: Summarize(runs, 100, false)}
	d.Tests = Tests(d.Methods, "d")
	dir := t.TempDir()
	is, err := Is(dir)
	require.NoError(t, err)
	require.False(t, is)
	require.NoError(t, d.Write(dir, "ctnas compare <x>"))
	is, err = Is(dir)
	require.NoError(t, err)
	require.True(t, is)
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	written := map[string]string{}
	names := []string{DocumentName, "report.html", CurvesName, PictureName, LaTeXName, MarkdownName}
	for _, name := range names {
		written[name] = read(name)
		require.False(t, strings.Contains(strings.ReplaceAll(written[name], "isNaN", ""), "NaN"), name)
	}
	require.Contains(t, written["report.html"], "Regret")
	require.Contains(t, written["report.html"], `class="box s0"`)
	require.Contains(t, written["report.html"], "ctnas compare &lt;x&gt;")
	require.Contains(t, written[LaTeXName], `a\_b \& c & 3 & `)
	require.Contains(t, written[LaTeXName], `82.50 $\pm$ 1.87`)
	require.Contains(t, written[LaTeXName], `p against d`)
	require.Contains(t, written[MarkdownName], "| a_b & c | 3 |")
	for decoder := xml.NewDecoder(strings.NewReader(written[PictureName])); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", PictureName, err)
		}
	}
	require.Contains(t, written[PictureName], "a_b &amp; c")

	// Written anew from the folder, all is the same.
	again, command, err := Load(dir)
	require.NoError(t, err)
	require.NoError(t, again.Write(dir, command))
	for _, name := range names {
		require.Equal(t, written[name], read(name), name)
	}

	d.Missing = 2
	require.NoError(t, d.Write(dir, command))
	require.Contains(t, read("report.html"), "stopped before 2 of its runs")
	require.Contains(t, read(LaTeXName), "stopped before 2 of its runs")
	require.Contains(t, read(MarkdownName), "stopped before 2 of its runs")

	for _, spoiled := range []string{"{", "{}", written[DocumentName][:100]} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, DocumentName), []byte(spoiled), 0o644))
		_, _, err = Load(dir)
		require.ErrorContains(t, err, DocumentName)
	}
}
