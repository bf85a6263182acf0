package compare

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/method/ctnas"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// fixed is a method that buys the first architectures of the list and counts its runs.
type fixed struct {
	name string
	runs *int
	look func(r *run.Run)
}

func (f fixed) Name() string                 { return f.name }
func (f fixed) MarshalJSON() ([]byte, error) { return json.Marshal(f.name) }
func (f fixed) Run(ctx context.Context, r *run.Run) error {
	if f.runs != nil {
		*f.runs++
	}
	if f.look != nil {
		f.look(r)
	}
	var archs []space.Arch
	for i := range 12 {
		archs = append(archs, r.All.Arch(i))
	}
	if _, err := r.Ledger.Query(ctx, archs, "fixed", 0); err != nil {
		return err
	}
	return ctx.Err()
}

// quick is a search that takes no time.
func quick(t *testing.T) search.Config {
	c, err := search.Preset(search.PresetDefault)
	require.NoError(t, err)
	c.Init, c.PerRound, c.Members, c.Steps, c.Iterations, c.Batch, c.Pool, c.Mutations = 20, 20, 1, 20, 6, 8, 100, 50
	return c
}

func comparison(t *testing.T, methods ...run.Method) Comparison {
	field, err := OnTable(smallTable(t, 200, true), table.Query{})
	require.NoError(t, err)
	c := Comparison{Field: field, Seed: 2, Seeds: 2, Device: exec.Config{Threads: 1}}
	settings := quick(t)
	settings.Budget = 30
	for _, m := range methods {
		c.Methods = append(c.Methods, Variant{m.Name(), settings, m})
	}
	return c
}

func TestCompareJudgesByWhatStaysSealed(t *testing.T) {
	var view *table.View
	c := comparison(t, fixed{name: "look", look: func(p *run.Run) {
		view = p.Source.(ledger.Table).View()
		require.True(t, view.Sealed(), "a method sees what judges")
		require.Equal(t, "validation", view.SeenMetric().Split)
	}}, ctnas.Method{})
	runs, err := Compare(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, runs, 4)
	for i, r := range runs {
		require.Equal(t, []string{"look", "ctnas"}[i%2], r.Method)
		require.Equal(t, uint64(2+i/2), r.Seed)
		a, err := sp.Parse(r.Arch)
		require.NoError(t, err)
		require.InDelta(t, runtest.Quality(a), float64(r.Accuracy), 1e-6)
		better := 1
		for _, other := range runtest.Cells(200, 8) {
			if runtest.Quality(other) > float64(r.Accuracy)+2e-6 {
				better++
			}
		}
		require.Equal(t, better, *r.Rank)
		require.Equal(t, []int{12, 30}[i%2], r.Labels)
		require.Equal(t, i%2 == 1, r.TauB != nil)
		require.Equal(t, i%2 == 1, r.Curriculum != nil)
	}
}

func TestAStoppedComparisonGoesOn(t *testing.T) {
	count := 0
	c := comparison(t, fixed{name: "a", runs: &count}, fixed{name: "b c", runs: &count})
	want, err := Compare(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 4, count)

	c.Cache = filepath.Join(t.TempDir(), "cache")
	ctx, cancel := context.WithCancel(t.Context())
	c.Done = func(r Run) {
		if r.Seed == 3 {
			cancel()
		}
	}
	_, err = Compare(ctx, c)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 7, count, "no run begins after it")
	c.Done = nil
	got, err := Compare(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 8, count)
	for i := range got {
		require.Equal(t, i < 3, got[i].Kept)
		kept, err := os.ReadFile(filepath.Join(c.Cache, cellName(got[i].Method, got[i].Seed)+".ledger.jsonl"))
		require.NoError(t, err)
		require.Equal(t, string(want[i].ledger), string(kept))
		got[i].Kept, got[i].Seconds, want[i].Seconds = false, 0, 0
		got[i].ledger, want[i].ledger = nil, nil
	}
	require.Equal(t, want, got)

	other := c
	other.Methods = slices.Clone(c.Methods)
	other.Methods[0].Config.Budget = 31
	_, err = Compare(t.Context(), other)
	require.ErrorContains(t, err, "a-seed2.json is a run with other settings")
	path := filepath.Join(c.Cache, "b-c-seed3.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	// Cut short, a digit of its accuracy edited, or another run's under its name: refused, and what to do is said.
	edited := regexp.MustCompile(`("accuracy": 0\.\d)\d`).ReplaceAll(text, []byte("${1}0"))
	require.NotEqual(t, text, edited)
	other2, err := os.ReadFile(filepath.Join(c.Cache, "b-c-seed2.json"))
	require.NoError(t, err)
	for _, spoiled := range [][]byte{text[:len(text)/2], edited, other2} {
		require.NoError(t, os.WriteFile(path, spoiled, 0o644))
		_, err = Compare(t.Context(), c)
		require.ErrorContains(t, err, "b-c-seed3.json")
	}
	require.NoError(t, os.WriteFile(path, edited, 0o644))
	_, err = Compare(t.Context(), c)
	require.ErrorIs(t, err, checkpoint.ErrChanged)
	require.ErrorContains(t, err, "delete it")
}

func TestCompareChecks(t *testing.T) {
	good := comparison(t, method.Random{})
	for what, spoil := range map[string]func(*Comparison){
		"no methods":   func(c *Comparison) { c.Methods = nil },
		"listed twice": func(c *Comparison) { c.Methods = append(c.Methods, c.Methods[0]) },
		"0 seeds":      func(c *Comparison) { c.Seeds = 0 },
		"at least 10": func(c *Comparison) {
			c.Methods = []Variant{{Name: "few", Config: search.Config{Target: search.Target{Budget: 9}}}}
		},
	} {
		c := good
		spoil(&c)
		_, err := Compare(t.Context(), c)
		require.ErrorContains(t, err, what)
	}
	c := good
	c.Methods = []Variant{{"broken", good.Methods[0].Config, broken{}}}
	_, err := Compare(t.Context(), c)
	require.ErrorContains(t, err, "broken, seed 2: out of order")
}

type broken struct{}

func (broken) Name() string                        { return "broken" }
func (broken) Run(context.Context, *run.Run) error { return errors.New("out of order") }

func someRuns() []Run {
	tau := func(v float64) *float64 { return &v }
	rank := func(n int) *int { return &n }
	samples := func(start, end float64) *Curriculum { return &Curriculum{&start, &end, 10, 20} }
	return []Run{
		{Method: "ctnas", Seed: 1, Labels: 423, Queries: rank(423), TauBParams: tau(0.5), Seconds: 10,
			Accuracy: 0.94, Rank: rank(3), TauB: tau(0.7), Curriculum: samples(50, 4)},
		{Method: "random", Seed: 1, Labels: 423, Queries: rank(423), Seconds: 1, Accuracy: 0.93, Rank: rank(900)},
		{Method: "ctnas", Seed: 2, Labels: 420, Queries: rank(420), TauBParams: tau(0.6), Seconds: 20,
			Accuracy: 0.95, Rank: rank(1), TauB: tau(0.8), Curriculum: samples(52, 2)},
		{Method: "random", Seed: 2, Labels: 423, Queries: rank(423), Seconds: 1, Accuracy: 0.91, Rank: rank(1100),
			Curriculum: samples(50, 49)},
	}
}

func TestSummaries(t *testing.T) {
	s := Summarize(someRuns(), 1000, true)
	require.Len(t, s, 2)
	require.Equal(t, "ctnas", s[0].Method)
	require.Equal(t, 423, s[0].Labels)
	require.InDelta(t, 15, float64(s[0].Seconds), 1e-12)
	require.InDelta(t, 0.945, float64(s[0].Accuracy.Mean), 1e-12)
	require.InDelta(t, math.Sqrt(0.5)*0.01, float64(s[0].Accuracy.SD), 1e-12)
	require.InDelta(t, 0.95, float64(s[0].Accuracy.Best), 1e-12)
	require.EqualValues(t, 2, s[0].Rank.Mean)
	require.EqualValues(t, 1, s[0].Rank.Best)
	require.EqualValues(t, 1000, s[1].Rank.Median)
	require.InDelta(t, 0.1, float64(s[0].RankPercent.Best), 1e-12)
	require.InDelta(t, 100, float64(s[1].RankPercent.Median), 1e-12)
	require.InDelta(t, 0.75, float64(s[0].TauB.Mean), 1e-12)
	require.Nil(t, s[1].TauB)
	require.InDelta(t, 0.9422, s[0].Paper.AccuracyBest, 1e-12)
	require.InDelta(t, 1.29, s[1].Paper.RankPercent, 1e-12)

	text, err := json.Marshal(s)
	require.NoError(t, err)
	var back []map[string]any
	require.NoError(t, json.Unmarshal(text, &back))
	require.Nil(t, back[1]["tau_b"])
	require.Equal(t, 0.751, back[0]["paper"].(map[string]any)["tau"])

	one := Summarize(someRuns()[:1], 1000, true)
	text, err = json.Marshal(one[0])
	require.NoError(t, err)
	require.Contains(t, string(text), `"sd":null`)
	var again Summary
	require.NoError(t, json.Unmarshal(text, &again))
	require.True(t, math.IsNaN(float64(again.Accuracy.SD)))
}

// What is not known is no perfect score: it is null, and every statistic says how many seeds it rests on.
func TestUnknownIsNoNumber(t *testing.T) {
	runs := someRuns()
	// the table had none of its samples
	runs[0].Rank, runs[0].Accuracy, runs[0].Curriculum = nil, stat.Number(math.NaN()), &Curriculum{}
	s := Summarize(runs, 1000, false)
	require.Equal(t, []int{1, 1, 2}, []int{s[0].Accuracy.N, s[0].Rank.N, s[0].TauB.N})
	require.EqualValues(t, 0.95, s[0].Accuracy.Mean)
	require.EqualValues(t, 1, s[0].Rank.Mean)
	require.Nil(t, s[0].Paper, "the paper's rows are of one space")
	a := Ablate(runs)
	require.Equal(t, 1, a[0].PercentileEnd.N)
	require.EqualValues(t, 2, a[0].PercentileEnd.Mean)
	require.Equal(t, []int{10, 20}, []int{a[0].StartSamples, a[0].EndSamples})
	require.Equal(t, 1, a[1].AccuracyChange.N)
	var out bytes.Buffer
	require.NoError(t, WriteSummaries(&out, FormatTable, s, "", nil, nil))
	require.Contains(t, out.String(), "95.00 (1 of 2 seeds)")

	runs[2].Rank, runs[2].Accuracy, runs[2].Curriculum = nil, stat.Number(math.NaN()), &Curriculum{}
	s, a = Summarize(runs, 0, false), Ablate(runs)
	text, err := json.Marshal(s[0])
	require.NoError(t, err)
	require.Contains(t, string(text),
		`"accuracy":{"mean":null,"sd":null,"best":null,"n":0},"rank":{"mean":null,"median":null,`+
			`"best":null,"n":0},"rank_percent":{"best":null,"median":null}`)
	require.Contains(t, string(text), `"accuracy":null,"rank":null`, "a run's own")
	require.Nil(t, a[0].PercentileEnd)
	require.Nil(t, a[0].PercentileStart)
	require.Nil(t, a[0].Accuracy)
	require.Nil(t, a[1].AccuracyChange)
	out.Reset()
	require.NoError(t, WriteAblations(&out, FormatTable, a, ""))
	require.NotContains(t, strings.Split(out.String(), "\n")[1], "0.00")
}

func TestAblationsArePairedBySeed(t *testing.T) {
	a := Ablate(someRuns())
	require.Len(t, a, 2)
	require.Nil(t, a[0].AccuracyChange, "the first is what the others are compared with")
	require.InDelta(t, -0.025, float64(a[1].AccuracyChange.Mean), 1e-12)
	// Two differences, -0.01 and -0.04: half width 12.706 * sd / sqrt(2).
	half := 12.7062047 * math.Sqrt(0.5) * 0.03 / math.Sqrt2
	require.InDelta(t, -0.025+half, float64(a[1].AccuracyChange.High), 1e-6)
	require.InDelta(t, -0.025-half, float64(a[1].AccuracyChange.Low), 1e-6)
	require.InDelta(t, 3, float64(a[0].PercentileEnd.Mean), 1e-12)
	require.InDelta(t, 51, float64(a[0].PercentileStart.Mean), 1e-12)
	require.InDelta(t, 47, float64(a[1].PercentileEndChange.Mean), 1e-12)
	require.True(t, math.IsNaN(float64(a[1].PercentileEndChange.High)), "one difference has no interval")
}

func TestFormats(t *testing.T) {
	s := Summarize(someRuns(), 1000, true)
	var out bytes.Buffer
	require.NoError(t, WriteSummaries(&out, FormatTable, s, "", Paper(), nil))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+2+3+1+len(Paper()))
	require.Regexp(t, `^ctnas +423 +0\.750 ± 0\.071 +0\.550 ± 0\.071 +94\.50 ± 0\.71 +95\.00 +2\.0 +2\.0 +1 +0\.1000 +15\.0$`,
		strings.TrimSpace(lines[1]))
	require.Contains(t, lines[4], "other measurements")
	require.Contains(t, lines[6], "accuracy of 3 runs %")
	require.Regexp(t, `^CTNAS +423 +0\.751 +93\.92 ± 0\.18 +94\.22 +0\.01$`, strings.TrimSpace(lines[len(lines)-1]))

	out.Reset()
	require.NoError(t, WriteSummaries(&out, FormatMarkdown, s, "", Paper(), nil))
	lines = strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, l := range lines {
		if i < 4 {
			require.Equal(t, strings.Count(lines[0], "|"), strings.Count(l, "|"), l)
		} else if i > 6 {
			require.Equal(t, strings.Count(lines[7], "|"), strings.Count(l, "|"), l)
		}
	}
	require.Contains(t, lines[1], "| --- |")

	out.Reset()
	require.NoError(t, WriteSummaries(&out, FormatCSV, s, "", Paper(), nil))
	rows, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"random", "ctnas", "423", "1", "", "", "", "0.92"}, rows[2][:8])
	spos := rows[7]
	require.Equal(t, []string{"SPOS", "paper", ""}, spos[:3])
	for i, name := range rows[0][3:] {
		if ours := !strings.HasPrefix(name, "paper_"); ours {
			require.Empty(t, spos[3+i], "the paper's numbers are no numbers of %s", name)
		} else {
			require.Empty(t, rows[1][3+i], name)
		}
	}
	require.Equal(t, []string{"0.195", "0.8985", "0.038", "0.9384", "0.07"}, spos[len(spos)-5:])

	for _, format := range []string{FormatTable, FormatMarkdown, FormatCSV} {
		out.Reset()
		require.NoError(t, WriteAblations(&out, format, Ablate(someRuns()), ""))
		require.Contains(t, out.String(), "94.500 ± ")
	}
	// Predicted scores stand in columns of their own name, as plain numbers.
	for _, format := range []string{FormatTable, FormatMarkdown, FormatCSV} {
		out.Reset()
		require.NoError(t, WriteSummaries(&out, format, s, "acc.f32", nil, nil))
		require.NotContains(t, out.String(), "accuracy")
		require.Contains(t, strings.ReplaceAll(out.String(), "_", " "), "predicted score")
		require.NotContains(t, out.String(), "94.50")
		out.Reset()
		require.NoError(t, WriteAblations(&out, format, Ablate(someRuns()), "acc.f32"))
		require.NotContains(t, out.String(), "accuracy")
	}
	require.ErrorContains(t, WriteSummaries(&out, "html", s, "", Paper(), nil), `"html"`)
}

// Two files may describe spaces of one name: a run in one is none in the other.
func TestKeptRunsKnowTheirSpace(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/blocks.yaml")
	require.NoError(t, err)
	key := func(text []byte) string {
		sp, err := space.ParseFile("blocks.yaml", text)
		require.NoError(t, err)
		c := Comparison{Field: Field{Space: sp}, Cache: t.TempDir()}
		_, key, err := c.cell(Variant{Name: "random"}, 1)
		require.NoError(t, err)
		return key
	}
	require.Equal(t, key(text), key(bytes.Clone(text)))
	require.NotEqual(t, key(text), key(append(text, "# edited\n"...)))
}

// A method that asks for no labels has none: null in JSON, a dash in tables, nothing in CSV, and a page of its own.
func TestMethodsWithoutLabels(t *testing.T) {
	tau, rank := 0.2, 7
	runs := append(someRuns(), Run{Method: "spos", Seed: 1, Arch: "x", Accuracy: 0.9, Rank: &rank, TauB: &tau,
		TauBParams: &tau})
	s := Summarize(runs, 1000, true)
	require.Nil(t, s[2].Queries)
	require.Equal(t, "SPOS", s[2].Paper.Name)
	text, err := json.Marshal(s[2])
	require.NoError(t, err)
	require.Contains(t, string(text), `"method":"spos","labels":0,"queries":null,`)
	var out bytes.Buffer
	require.NoError(t, WriteSummaries(&out, FormatTable, s, "", nil, nil))
	require.Regexp(t, `(?m)^spos +- +0\.200 +0\.200 +90\.00 `, out.String())
	out.Reset()
	require.NoError(t, WriteSummaries(&out, FormatCSV, s, "", nil, nil))
	require.Contains(t, out.String(), "\nspos,ctnas,,0,0.2,,0.2,0.9,")

	page := Document{Seeds: []uint64{1, 2}, Methods: s, Paper: Paper()}.page("")
	require.Len(t, page.Picks, 5)
	require.Equal(t, []string{"", "spos-seed1"}, []string{page.Picks[0].Folder, page.Picks[4].Folder})
	dir := t.TempDir()
	require.NoError(t, page.Write(dir))
	html, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	require.Contains(t, string(html), `<a href="spos-seed1/report.html">page</a>`)
	require.Contains(t, string(html), "spos, seed 1\nx\n90.00 %")
}
