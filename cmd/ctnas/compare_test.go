package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// quickly are the settings of a search that takes no time.
var quickly = []string{
	"--set", "init=10", "--set", "per_round=10", "--set", "members=1", "--set", "steps=5", "--set", "iterations=5", "--set", "batch=8",
	"--set", "pool=64", "--set", "mutations=8",
}

func TestRankCommand(t *testing.T) {
	labels := "table:" + searchTable(t)
	line := []string{"rank", "--labels", labels, "--train", "60", "--seeds", "2", "--set", "members=1", "--set", "steps=40", "--set", "width=16"}
	code, stdout, stderr := call(nil, append(line, "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var d map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	for _, key := range []string{"space", "labels", "train", "seeds", "device", "seconds", "p_at_1", "transitivity", "calibration_error", "tau_b_odd", "top_rank"} {
		require.Contains(t, d, key)
	}
	require.Equal(t, []any{0.0, 1.0}, d["seeds"], "the first seed is 0")
	tau := d["tau_b"].(map[string]any)
	values := tau["values"].([]any)
	require.Len(t, values, 2)
	require.InDelta(t, tau["mean"].(float64), (values[0].(float64)+values[1].(float64))/2, 1e-12)
	require.Greater(t, tau["mean"], 0.3, "accuracy grows with parameters: that is learnt at once")
	require.Len(t, d["seconds_per_seed"], 2)
	require.EqualValues(t, 2, tau["n"])
	require.Equal(t, []any{1935.0, 1935.0}, d["judged"])
	for i := range 2 {
		require.Less(t, d["judged_odd"].([]any)[i].(float64), 1995.0-60)
		require.Positive(t, d["judged_odd"].([]any)[i])
		require.Positive(t, d["transitivity_triples"].([]any)[i])
	}
	require.EqualValues(t, 16, d["config"].(map[string]any)["width"])
	require.Contains(t, d["accuracy"], "chosen and judged on")

	code, stdout, _ = call(nil, append(line, "--seeds", "1", "--seed", "1", "--threads", "3")...)
	require.Equal(t, exitOK, code)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], "chosen and judged on")
	require.Contains(t, lines[1], "seed 1: tau-b ")
	require.NotContains(t, stdout, "NaN")

	code, stdout, stderr = call(nil, append(line, "--judge", "odd", "--seeds", "1", "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, d["tau_b"], d["tau_b_odd"])
	require.Nil(t, d["tau_b"].(map[string]any)["sd"], "one seed has no spread")

	// The even half alone is judged: of the odd one nothing is known, and said.
	code, stdout, stderr = call(nil, append(line, "--judge", "even", "--seeds", "1")...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "(odd half unknown)")
	require.NotContains(t, stdout, "NaN")
}

func TestRankAndCompareMistakes(t *testing.T) {
	csv := smallTable(t, 20)
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"rank":                                              {exitUsage, `"labels" not set`},
		"rank --labels " + csv:                              {exitUsage, "want table:FILE"},
		"rank --labels table:" + csv + ".none":              {exitFailed, "no such file"},
		"rank --labels table:" + csv + "?run=2":             {exitUsage, "run 2"},
		"rank --labels table:" + csv + " --train 1":         {exitUsage, "--train 1"},
		"rank --labels table:" + csv + " --train 20":        {exitFailed, "20 labels"},
		"rank --labels table:" + csv + " --seeds 0":         {exitUsage, "--seeds 0"},
		"rank --labels table:" + csv + " --judge best":      {exitUsage, "--judge"},
		"rank --labels table:" + csv + " --preset best":     {exitUsage, "--preset"},
		"rank --labels table:" + csv + " --set width":       {exitUsage, "key=value"},
		"rank --labels table:" + csv + " --set depth=3":     {exitUsage, `unknown field "depth"`},
		"rank --labels table:" + csv + " --set width=wide":  {exitUsage, "width=wide"},
		"rank --labels table:" + csv + " --space elsewhere": {exitUsage, `"elsewhere"`},
		"compare": {exitUsage, `"labels" not set`},
		"compare --labels table:" + csv + " --methods darts":                 {exitUsage, "random, regression"},
		"compare --labels table:" + csv + " --methods random,random":         {exitUsage, "twice"},
		"compare --labels table:" + csv + " --budget 3":                      {exitUsage, "budget of 3"},
		"compare --labels table:" + csv + " --seeds 0":                       {exitUsage, "0 seeds"},
		"compare --labels table:" + csv + " --format html":                   {exitUsage, "--format"},
		"compare --labels table:" + csv + " --propose me":                    {exitUsage, "--propose"},
		"compare --labels table:" + csv + " --set labels=x":                  {exitUsage, "labels"},
		"compare --labels table:" + csv + " --out " + filepath.Dir(csv):      {exitUsage, "holds no comparison"},
		"compare --labels table:" + csv + " --methods evolution --budget 20": {exitOK, "rank 1"},
	} {
		code, stdout, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, want.code, code, "%s: %s", line, stderr)
		require.Contains(t, stderr, want.says, line)
		if code != exitOK {
			require.NotContains(t, stdout, "tau-b")
		}
	}
}

func TestCompareCommand(t *testing.T) {
	labels := "table:" + searchTable(t)
	dir := filepath.Join(t.TempDir(), "compare")
	line := append([]string{"compare", "--labels", labels, "--budget", "30", "--seeds", "2", "--methods", "random,evolution,ctnas", "--out", dir}, quickly...)
	code, stdout, stderr := call(nil, append(line, "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var d struct {
		Seeds   []uint64
		Budget  int
		Total   int
		Methods []struct {
			Method      string
			Labels      int
			Accuracy    struct{ Mean, SD, Best float64 }
			Rank        struct{ Mean, Median, Best float64 }
			RankPercent struct{ Best, Median float64 } `json:"rank_percent"`
			TauB        *struct{ Mean, SD float64 }    `json:"tau_b"`
			Paper       *struct {
				Tau  *float64
				Best float64 `json:"accuracy_best"`
			}
			Seconds *float64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, []uint64{0, 1}, d.Seeds)
	require.Len(t, d.Methods, 3)
	for i, m := range d.Methods {
		require.Equal(t, []string{"random", "evolution", "ctnas"}[i], m.Method)
		require.Equal(t, 30, m.Labels)
		require.InDelta(t, 100*m.Rank.Best/float64(d.Total), m.RankPercent.Best, 1e-9)
		require.GreaterOrEqual(t, m.Accuracy.Best, m.Accuracy.Mean)
		require.Equal(t, m.Method == "ctnas", m.TauB != nil)
		require.Equal(t, m.Method == "evolution", m.Paper == nil)
		require.NotNil(t, m.Seconds)
	}
	require.InDelta(t, 0.9422, d.Methods[2].Paper.Best, 1e-12)

	// The folder keeps every run: the second time nothing is searched, and the result is the same.
	code, again, stderr := call(nil, append(line, "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, stdout, again)
	code, stdout, stderr = call(nil, append(line, "--format", "markdown")...)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, 6, strings.Count(stderr, "kept from before"))
	require.Contains(t, stdout, "| ctnas | 30 |")
	require.Contains(t, stdout, "| CTNAS | 423 | 0.751 | 93.92 ± 0.18 |")
	require.Contains(t, stdout, "chosen and judged on")
	code, _, stderr = call(nil, append(line, "--budget", "31")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "use another folder")

	// compare.yaml repeats the comparison.
	code, stdout, stderr = call(nil, "compare", "--config", filepath.Join(dir, comparisonName), "--format", "csv", "--quiet", "--out", dir)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	require.True(t, strings.HasPrefix(stdout, "method,source,labels,seconds,tau_b_mean"), stdout)
}

func TestAblations(t *testing.T) {
	labels := "table:" + searchTable(t)
	dir := filepath.Join(t.TempDir(), "ablations")
	line := append([]string{"compare", "--labels", labels, "--budget", "20", "--seeds", "2", "--seed", "5", "--ablations", "--out", dir}, quickly...)
	code, stdout, stderr := call(nil, append(line, "--json")...)
	require.Equal(t, exitOK, code, stderr)
	type interval struct{ Mean, Low, High float64 }
	var d struct {
		Propose   string
		Ablations []struct {
			Name           string
			Accuracy       *interval
			Change         *interval `json:"accuracy_change"`
			Start          *interval `json:"percentile_start"`
			End            *interval `json:"percentile_end"`
			PercentileDiff *interval `json:"percentile_end_change"`
			StartSamples   int       `json:"percentile_start_samples"`
			EndSamples     int       `json:"percentile_end_samples"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	require.Equal(t, "controller", d.Propose)
	require.Len(t, d.Ablations, 4)
	for i, a := range d.Ablations {
		require.Equal(t, []string{"ctnas", "absolute reward", "fixed baseline", "no exploration"}[i], a.Name)
		require.Equal(t, i == 0, a.Change == nil)
		require.Less(t, a.Accuracy.Low, a.Accuracy.High)
		require.Equal(t, a.StartSamples == 0, a.Start == nil,
			"the table has 2,000 of 423,624 cells: the mean of no sample is unknown, not the best")
		require.Equal(t, a.EndSamples == 0, a.End == nil)
		require.True(t, a.Start == nil || a.Start.Mean > 0 && a.Start.Mean <= 100)
	}
	text, err := os.ReadFile(filepath.Join(dir, comparisonName))
	require.NoError(t, err)
	require.Contains(t, string(text), "propose: controller")
	code, stdout, stderr = call(nil, append(line, "--quiet")...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "samples' percentile at start")
	require.Contains(t, stdout, "no exploration")
}

func TestAnInterruptedComparisonSaysHowToGoOn(t *testing.T) {
	labels := "table:" + searchTable(t)
	dir := filepath.Join(t.TempDir(), "compare")
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	stop := stopAt{"evolution, seed 0", cancel, &bytes.Buffer{}}
	none := func(string) (string, bool) { return "", false }
	code := run(ctx, []string{"compare", "--labels", labels, "--budget", "200", "--seeds", "50", "--methods", "evolution", "--out", dir}, &out, stop, none)
	require.Equal(t, exitInterrupted, code)
	require.Empty(t, out.String())
	require.Contains(t, stop.text.String(), "the same command goes on from there")
	files, err := filepath.Glob(filepath.Join(dir, "evolution-seed*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
}

// stopAt is standard error that ends the program when it reads something.
type stopAt struct {
	words  string
	cancel func()
	text   *bytes.Buffer
}

func (s stopAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.words)) {
		s.cancel()
	}
	return s.text.Write(p)
}

func TestSearchWithOtherMethods(t *testing.T) {
	labels := "table:" + searchTable(t)
	t.Chdir(t.TempDir())
	for _, name := range []string{"random", "evolution"} {
		line := []string{"search", "--labels", labels, "--method", name, "--budget", "40", "--seed", "9"}
		code, stdout, stderr := call(nil, append(line, "--json")...)
		require.Equal(t, exitOK, code, stderr)
		var result map[string]any
		require.NoError(t, json.Unmarshal([]byte(stdout), &result))
		require.Equal(t, name, result["method"])
		require.EqualValues(t, 40, result["labels_used"])
		require.Len(t, result["architectures"], 40)
		first := result["architectures"].([]any)[0].(map[string]any)
		require.Equal(t, result["pick"], first["arch"])
		require.Equal(t, result["pick_rank"], first["rank"])
		dir := filepath.Join("runs", "nasbench101-"+name+"-40-seed9")
		ledger, err := os.ReadFile(filepath.Join(dir, "ledger.jsonl"))
		require.NoError(t, err)
		require.Equal(t, 40, strings.Count(string(ledger), "\n"))

		// Again: the same result in a folder of its own.
		code, stdout, stderr = call(nil, line...)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, result["pick"].(string))
		for _, file := range []string{"result.json", "ledger.jsonl"} {
			one, err := os.ReadFile(filepath.Join(dir, file))
			require.NoError(t, err)
			two, err := os.ReadFile(filepath.Join(dir+"-2", file))
			require.NoError(t, err)
			require.Equal(t, string(one), string(two))
		}
		require.FileExists(t, filepath.Join(dir, "report.html"))
		// A finished one says again what it found; one that was killed goes on, and ends as it would have.
		for _, how := range [][]string{{"--resume", dir}, {"--resume", dir, "--method", name}, append(line[1:], "--out", dir)} {
			code, stdout, stderr = call(nil, append([]string{"search"}, how...)...)
			require.Equal(t, exitOK, code, stderr)
			require.Contains(t, stderr, "is a finished search: nothing was changed")
			require.Contains(t, stdout, result["pick"].(string))
		}
		want, err := os.ReadFile(filepath.Join(dir, "result.json"))
		require.NoError(t, err)
		for _, how := range [][]string{{"--resume", dir}, {"--resume", dir, "--method", name}, append(line[1:], "--out", dir)} {
			require.NoError(t, os.Remove(filepath.Join(dir, "result.json")))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "ledger.jsonl"), ledger[:len(ledger)/2], 0o644))
			code, _, stderr = call(nil, append([]string{"search"}, how...)...)
			require.Equal(t, exitOK, code, stderr)
			for file, want := range map[string][]byte{"result.json": want, "ledger.jsonl": ledger} {
				got, err := os.ReadFile(filepath.Join(dir, file))
				require.NoError(t, err)
				require.Equal(t, string(want), string(got))
			}
		}

		// More budget: what was bought stays, and the terminal says so.
		code, stdout, stderr = call(nil, "search", "--resume", dir, "--budget", "60")
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, "40, then 60")
		more, err := os.ReadFile(filepath.Join(dir, "ledger.jsonl"))
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(more, ledger))
		require.Equal(t, 60, bytes.Count(more, []byte("\n")))
		config, err := os.ReadFile(filepath.Join(dir, "config.yaml"))
		require.NoError(t, err)
		require.Contains(t, string(config), "budget: 60\nbudgets-before: [40]\n")
		code, _, stderr = call(nil, "search", "--config", filepath.Join(dir, "config.yaml"), "--out", dir+"-again")
		require.Equal(t, exitOK, code, stderr)
		again, err := os.ReadFile(filepath.Join(dir+"-again", "ledger.jsonl"))
		require.NoError(t, err)
		require.Equal(t, string(more), string(again))
	}
}
