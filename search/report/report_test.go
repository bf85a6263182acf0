package report

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// sampleRun writes the folder of an invented search: accuracies follow the number of parameters, with noise.
func sampleRun(t *testing.T, dir string) {
	nb, err := space.Open("nasbench101")
	require.NoError(t, err)
	random := philox.New(1, philox.PurposeTest, 0)
	result := Result{
		Space: "nasbench101", Method: "ctnas", Seed: 1, Device: "cpu", LabelsUsed: 150,
		Labels: "table, chosen and judged on test accuracy, run 1",
	}
	l, err := OpenLog(dir, 0)
	require.NoError(t, err)
	var ledger strings.Builder
	best, round := 0.0, 0
	for i := range result.LabelsUsed {
		a := nb.Sample(random)
		accuracy := 0.86 + 0.008*math.Log(float64(a.Cost().Params))/2 + 0.01*random.NormFloat64() + 0.0001*float64(i)
		if i == 40 {
			accuracy = 0.1 // a diverged training
		}
		best = max(best, accuracy)
		proposer := []string{"random", "controller", "space"}[min(i/50, 1+i%2)]
		line, err := json.Marshal(map[string]any{"arch": a.String(), "hash": a.Hash(), "accuracy": accuracy,
			"round": i / 50, "proposer": proposer, "source": "table", "metric": "test accuracy", "run": 1})
		require.NoError(t, err)
		ledger.Write(append(line, '\n'))
		x := Describe(a, space.Limits{})
		predicted := 1 + random.Intn(400000)
		x.PredictedRank, x.Accuracy, x.AccuracySource, x.Rank = &predicted, &accuracy, "test accuracy, run 1", 1+i
		result.Architectures = append(result.Architectures, x)
		if accuracy == best {
			result.Pick = a.String()
		}
		if i%50 == 49 {
			require.NoError(t,
				l.Write(Event{Name: EventRound, Step: round,
					Values: map[string]float64{"labels": float64(i + 1), "best": best,
						"tau": 0.5 + 0.1*float64(round)}}))
			round++
		}
	}
	result.Pareto = []string{result.Pick}
	for step := range 2000 {
		x := float64(step) / 2000
		require.NoError(t, l.Write(Event{Name: EventController, Step: step, Values: map[string]float64{
			"reward":  0.5 + 0.4*x - 0.3*math.Floor(4*x)/4 + 0.05*random.NormFloat64(),
			"entropy": 1.9 - 1.2*x + 0.03*random.NormFloat64(),
			"loss":    random.NormFloat64() * 0.1,
		}}))
		require.NoError(t,
			l.Write(Event{Name: EventJudged, Step: step,
				Values: map[string]float64{"percentile": 50 * math.Exp(-4*x)}}))
		if step%250 == 0 {
			require.NoError(t,
				l.Write(Event{Name: EventBaseline, Step: step, Values: map[string]float64{"win": 0.6 + 0.3*x},
					Text: map[string]string{"arch": result.Architectures[step/30].Arch}}))
		}
		require.NoError(t,
			l.Write(Event{Name: EventComparator, Step: step,
				Values: map[string]float64{"loss": 0.7*math.Exp(-3*x) + 0.02*random.Float64(), "labels": 50}}))
	}
	require.NoError(t,
		l.Write(Event{Name: EventCost, Values: map[string]float64{"seconds_comparator": 21.5,
			"seconds_controller": 8.25, "seconds_labels": 0.02, "peak_bytes": 2.1e8}}))
	require.NoError(t, l.Close())

	text, err := json.Marshal(result)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ResultName), text, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerName), []byte(ledger.String()), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ConfigName), []byte(`budget: 150
labels: table:nb101_run0.csv.gz
methods: [ctnas, random]
seed: 1
space: nasbench101
run:
  command: ctnas search --space nasbench101 --labels 'table:<nb101>' --budget 150 --seed 1
  commit: 0123abc
  cpu: {isa: avx2, threads: 2}
`), 0o644))
}

func TestReportIsOneWholePage(t *testing.T) {
	dir := t.TempDir()
	if keep := os.Getenv("CTNAS_TEST_REPORT"); keep != "" { // a folder to look at the page in
		require.NoError(t, os.RemoveAll(keep))
		require.NoError(t, os.MkdirAll(keep, 0o755))
		dir = keep
	}
	sampleRun(t, dir)
	d, err := Load(dir)
	require.NoError(t, err)
	require.NoError(t, d.Write(dir))
	text, err := os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	page := string(text)
	require.Contains(t, page, "<h1>"+d.Name+"</h1>")

	for _, part := range []string{
		"The pick", "Labels", "How the search learned", "Reward", "Entropy", "Controller loss", "Comparator loss",
		"tau-b", "The baseline&#39;s history",
		"Predicted against measured rank", "Best architectures", "What it cost", "How to repeat it",
		"chosen and judged on test accuracy, run 1",
		"table:&lt;nb101&gt;", "ctnas, random", "cpu.isa", "Time in comparator", "table: test accuracy, run 1",
		"210 MB", d.Result.Pick,
	} {
		require.Contains(t, strings.ReplaceAll(page, "baseline's", "baseline&#39;s"), part)
	}
	require.Equal(t, 1, strings.Count(page, `class="picked"`))
	require.Less(t, strings.Index(page, "Time in comparator"), strings.Index(page, "Time in controller"),
		"the longest phase stands first")
	require.NotRegexp(t, `https?:`, strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""),
		"a self-contained page asks for nothing")
	require.NotContains(t, page, "ZgotmplZ")
	require.NotContains(t, page, "NaN")
	require.Less(t, len(page), 1_000_000)
	require.Equal(t, 8, strings.Count(page, "<figure"))

	again, err := Load(dir)
	require.NoError(t, err)
	require.NoError(t, again.Write(dir))
	text, err = os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	require.Equal(t, page, string(text), "the page depends on the files alone")
}

func TestReportWithTheLeast(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(dir)
	require.ErrorContains(t, err, "not the folder of a finished search")
	require.NoError(t, os.WriteFile(filepath.Join(dir, ResultName),
		[]byte(`{"space":"elsewhere","architectures":[{"arch":"a<b","accuracy":null}],"pick":"a<b"}`), 0o644))
	d, err := Load(dir)
	require.NoError(t, err)
	require.Len(t, d.Spoiled, 1)
	require.Contains(t, d.Spoiled[0], LedgerName)
	require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerName), nil, 0o644))
	d, err = Load(dir)
	require.NoError(t, err)
	require.Empty(t, d.Spoiled)
	require.NoError(t, d.Write(dir))
	text, err := os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	require.Contains(t, string(text), "a&lt;b")
	require.NotContains(t, string(text), "How the search learned")
}

// Of a folder that is damaged in part, or that has holes, the page says what it can, and what it goes without.
func TestDamagedRunFolders(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ResultName), []byte("{"), 0o644))
	_, err := Load(dir)
	require.ErrorContains(t, err, "result.json: unexpected end")
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, ConfigName), []byte("seed: 1\n"), 0o644))
	_, err = Load(dir)
	require.ErrorContains(t, err, "has not ended: it has no result.json; go on with ctnas search --resume")

	for _, c := range []struct {
		name, text string
		says       []string
	}{
		{LedgerName, "{\"arch\":\"a\",\"accuracy\":0.5}\n{\"arch\":3}\n",
			[]string{"ledger.jsonl: line 2: ", "ledger.jsonl: 1 labels can be read, result.json counts 150"}},
		{LedgerName, "", []string{"ledger.jsonl: 0 labels can be read, result.json counts 150"}},
		{LedgerName, "folder", []string{"ledger.jsonl"}},
		{LogName, "folder", []string{"log.jsonl"}},
		{ConfigName, "- a\n", []string{"config.yaml: line 1: want names of settings with values"}},
		{ConfigName, "folder", []string{"config.yaml"}},
		{RetrainedName, "{", []string{"retrained.json: unexpected end"}},
		{SpaceName, "folder", []string{"space.yaml"}},
	} {
		dir := t.TempDir()
		sampleRun(t, dir)
		path := filepath.Join(dir, c.name)
		require.NoError(t, os.RemoveAll(path))
		if c.text == "folder" {
			require.NoError(t, os.Mkdir(path, 0o755))
		} else {
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o644))
		}
		d, err := Load(dir)
		require.NoError(t, err)
		require.Len(t, d.Spoiled, len(c.says), "%s: %v", c.name, d.Spoiled)
		page, err := d.page()
		require.NoError(t, err)
		require.Contains(t, string(page), "What could not be read")
		require.Contains(t, string(page), "Best architectures")
		require.NotContains(t, string(page), dir, "the page does not depend on where the folder lies")
		for i, says := range c.says {
			require.Contains(t, d.Spoiled[i], says)
		}
	}
}

// The log is only for reading: a spoiled line is told, and the page goes without it.
func TestSpoiledLinesOfTheLogAreToldAndLeftOut(t *testing.T) {
	dir := t.TempDir()
	sampleRun(t, dir)
	path := filepath.Join(dir, LogName)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	whole, err := Load(dir)
	require.NoError(t, err)
	require.Empty(t, whole.Spoiled)
	require.NoError(t, os.WriteFile(path, append([]byte("{\"event\":\"x\"}\n"), text...), 0o644))
	d, err := Load(dir)
	require.NoError(t, err)
	require.Len(t, d.Spoiled, 1)
	require.Contains(t, d.Spoiled[0], "log.jsonl: line 1")
	require.Equal(t, whole.Events, d.Events)
	require.NoError(t, d.Write(dir))
}

func TestChartsKeepToTheirFrame(t *testing.T) {
	require.Empty(t, chart{series: []series{{kind: diagonal}}}.svg())
	for _, points := range [][]point{
		{{x: 1, y: 1}},
		{{x: 5, y: 0}, {x: 5, y: 0}},
		{{x: 0, y: -1e9}, {x: 1e9, y: 1e9}},
		{{x: 1, y: 0.9401}, {x: 2, y: 0.9402}},
	} {
		for _, log := range []bool{false, true} {
			c := chart{log: log, series: []series{{points: points}, {kind: steps, points: points}}}
			svg := string(c.svg())
			wellFormed(t, svg)
			require.NotContains(t, svg, "NaN")
			require.NotContains(t, svg, "Inf")
			xs, ys := chart{log: log, height: 230, series: c.series}.scales()
			for _, p := range points {
				require.GreaterOrEqual(t, xs.at(p.x), marginLeft)
				require.LessOrEqual(t, xs.at(p.x), chartWidth-marginRight)
				require.GreaterOrEqual(t, ys.at(p.y), marginTop)
				require.LessOrEqual(t, ys.at(p.y), 230-marginBottom)
			}
		}
	}
	// On a logarithmic axis what is not above zero stands on the lower edge; bands stay in the frame.
	regret := chart{logY: true, height: 230, percent: true, series: []series{
		{name: "a", kind: banded, points: []point{
			{x: 1, y: 0.1, low: -0.1, high: 0.3}, {x: 2, y: 0.001, low: 0, high: 0.002}}},
		{name: "b", kind: box, points: []point{{x: 1, y: 0.1}, {x: 1, y: 0.2}, {x: 1, y: 0.4}, {x: 2, y: 0.3}}},
	}}
	for _, picture := range []string{string(regret.svg()), regret.file()} {
		wellFormed(t, picture)
		require.NotContains(t, picture, "NaN")
		require.NotContains(t, picture, "Inf")
		require.Contains(t, picture, ">10 %<")
		require.Equal(t, 1, strings.Count(picture, `class="box s0"`), "of fewer than three values dots say all")
	}
	_, ys := regret.scales()
	require.InDelta(t, 0.001, ys.from, 1e-12)
	require.InDelta(t, 0.4, ys.to, 1e-12)
	require.Equal(t, []float64{0.001, 0.01, 0.1}, ys.ticks(5))
	require.Empty(t, chart{logY: true, series: []series{{kind: dots, points: []point{{x: 1, y: 0}}}}}.svg())
	require.Equal(t, []float64{2, 5, 10}, (&scale{from: 1.5, to: 12.5, log: true}).ticks(5))

	values := make([]float64, 100)
	for i := range values {
		values[i] = 0.9 + float64(i)/1000
	}
	require.Equal(t, 0.9, lowest(values))
	require.Equal(t, 0.9, lowest(append(slices.Clone(values), 0.1)), "a diverged run does not stretch the axis")
}

func TestTicksAreRound(t *testing.T) {
	s := &scale{from: 0.9312, to: 0.9467}
	var labels []string
	for _, v := range s.ticks(5) {
		labels = append(labels, s.label(v, true))
	}
	require.Equal(t, "[93.5 % 94.0 % 94.5 %]", fmt.Sprint(labels))
	s = &scale{from: 1, to: 423, log: true}
	require.Equal(t, []float64{1, 10, 100}, s.ticks(5))
	require.Equal(t, []string{"10k", "1.5M", "423", "0.25"},
		[]string{short(10000), short(1.5e6), short(423), short(0.25)})
	require.Equal(t, "423,624", grouped(423624))
	require.Equal(t, "423", grouped(423))
}

// The page may load, run and send nothing; its style sheet is let in by its hash, and nothing else asks for a style.
func TestPageIsClosed(t *testing.T) {
	dir := t.TempDir()
	sampleRun(t, dir)
	d, err := Load(dir)
	require.NoError(t, err)
	page, err := d.page()
	require.NoError(t, err)
	text := string(page)
	style := between(text, "<style>", "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := html.UnescapeString(between(text, `Content-Security-Policy" content="`, `"`))
	require.Equal(t,
		"default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(
			sum[:])+"'; base-uri 'none'; form-action 'none'", policy)
	require.Less(t, strings.Index(text, "Content-Security-Policy"), strings.Index(text, "<style>"))
	body := text[strings.Index(text, "</style>"):]
	require.NotRegexp(t, `(?i)<[^>]+\s(style|on\w+|src|href)\s*=`, body)
	require.NotRegexp(t, `(?i)<(script|link|iframe|img|object|embed|form|style|base|meta)\b`, body)
	require.NotContains(t, style, "url(")
	require.NotContains(t, style, "@import")
}

func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	part, _, _ := strings.Cut(rest, to)
	return part
}

// What is not seen, or reorders what is seen, stands in the page and in drawings as an escape, wherever a file says it.
func TestPageShowsWhatIsHidden(t *testing.T) {
	const evil = "\u202eevil\u2066\x1b[2J\u200b"
	const shown = `\u202eevil\u2066\u001b[2J\u200b`
	dir := filepath.Join(t.TempDir(), "run"+evil)
	require.NoError(t, os.Mkdir(dir, 0o755))
	sampleRun(t, dir)
	result, err := json.Marshal(map[string]any{"space": "x" + evil, "method": evil, "labels": evil, "pick": evil,
		"labels_used": 1,
		"architectures": []any{map[string]any{"arch": evil, "hash": evil, "accuracy": 0.5, "accuracy_source": evil,
			"note": evil}}})
	require.NoError(t, err)
	line, err := json.Marshal(map[string]any{"arch": evil, "accuracy": 0.5, "proposer": evil, "source": evil,
		"metric": evil})
	require.NoError(t, err)
	for name, text := range map[string]string{
		ResultName: string(result), LedgerName: string(line) + "\n",
		LogName:    "{\"event\":\"baseline\",\"step\":1,\"arch\":\"\u202e\"}\n",
		ConfigName: "labels: \"\\u202Eevil\\u2066\\e[2J\\u200B\"\nrun: {command: \"\\u202E\"}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	d, err := Load(dir)
	require.NoError(t, err)
	page, err := d.page()
	require.NoError(t, err)
	for _, r := range string(page) {
		require.True(t, r == '\n' || r == '\t' || unicode.IsPrint(r), "%U", r)
	}
	require.GreaterOrEqual(t, strings.Count(string(page), shown), 10)

	svg, err := DrawGraph(space.Graph{Ops: []uint16{0, 1}, Edges: [][2]uint8{{0, 1}}}, []string{"input", "a" + evil},
		Style{})
	require.NoError(t, err)
	wellFormed(t, svg)
	require.Contains(t, svg, "a"+shown)
	require.NotContains(t, svg, "\u202e")
}

func TestSearchesSideBySide(t *testing.T) {
	accuracy, judged := 0.9, 0.88
	search := func(name string, change func(*Data)) *Data {
		queries := 3
		d := &Data{Name: name, Result: Result{Space: "s", Seed: 4, Queries: &queries, Labels: "test accuracy",
			Pick: "x", Architectures: []Architecture{{Arch: "y"},
				{Arch: "x", Accuracy: &accuracy, Judged: &judged, Rank: 1200}}},
			Ledger: []Label{{Accuracy: 0.5}, {Accuracy: 0.9}, {Accuracy: 0.7}}}
		change(d)
		return d
	}
	same := func(*Data) {}
	page, err := SideBySide([]*Data{search("a", same), search("b", func(d *Data) {
		d.Result.Method, d.Result.Architectures = "random", nil
	})})
	require.NoError(t, err)
	require.Equal(t, [][]string{
		{"a", "ctnas", "4", "3", "90.00 %", "88.00 %", "1,200", "test accuracy"},
		{"b", "random", "4", "3", unknown, unknown, unknown, "test accuracy"},
	}, page.Table.Rows)
	require.Equal(t, []Band{{0.5, 0.5, 0.5}, {0.9, 0.9, 0.9}, {0.9, 0.9, 0.9}}, page.Curves[0].Accuracy)
	dir := t.TempDir()
	require.NoError(t, page.Write(dir))
	html, err := os.ReadFile(filepath.Join(dir, PageName))
	require.NoError(t, err)
	require.Contains(t, string(html), "Best so far")
	require.NotContains(t, string(html), "Regret")
	for wrong, change := range map[string]func(*Data){
		"named a":          func(d *Data) { d.Name = "a" },
		"want one space":   func(d *Data) { d.Result.Space = "t" },
		"predicted scores": func(d *Data) { d.Result.Predictor = "p" },
	} {
		_, err := SideBySide([]*Data{search("a", same), search("b", change)})
		require.ErrorContains(t, err, wrong)
	}
	_, err = SideBySide([]*Data{search("a", same)})
	require.ErrorContains(t, err, "two searches")
}
