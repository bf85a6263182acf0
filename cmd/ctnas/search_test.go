package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
)

func TestSearchCommand(t *testing.T) {
	labels := "table:" + searchTable(t)
	dir := filepath.Join(t.TempDir(), "run")
	small := []string{"--budget", "16", "--per-round", "8", "--members", "1", "--steps", "5", "--iterations", "5", "--pool", "64", "--mutations", "8"}
	code, stdout, stderr := call(nil, append([]string{"search", "--labels", labels, "--seed", "4", "--json", "--out", dir}, small...)...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	var result map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.EqualValues(t, 16, result["labels_used"])
	require.EqualValues(t, 4, result["seed"])
	require.NotEmpty(t, result["pick"])
	written, err := os.ReadFile(filepath.Join(dir, "result.json"))
	require.NoError(t, err)
	require.JSONEq(t, string(written), stdout)
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "ctnas search --labels table:")

	// config.yaml repeats the search, from any folder.
	again := filepath.Join(t.TempDir(), "again")
	t.Chdir(t.TempDir())
	code, stdout, stderr = call(nil, "search", "--config", filepath.Join(dir, "config.yaml"), "--out", again)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, result["pick"].(string))
	require.Contains(t, stderr, "16 of 16 labels")
	for _, name := range []string{"result.json", "ledger.jsonl"} {
		a, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(again, name))
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), name)
	}

	code, stdout, stderr = call([]string{"CTNAS_BUDGET=99", "CTNAS_SEED=8"}, "search", "--resume", again, "--quiet")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, result["pick"].(string), "a finished search says again what it found")
	require.Contains(t, stderr, "is a finished search: nothing was changed")

	code, _, stderr = call(nil, "report", again)
	require.Equal(t, exitOK, code, stderr)
	other := filepath.Join(t.TempDir(), "full")
	require.NoError(t, os.MkdirAll(filepath.Join(other, "photos"), 0o755))
	for line, says := range map[string]string{
		"search --budget 10":                                        "labels",
		"search --labels " + labels + " --out " + other:             "holds no run",
		"search --labels " + labels + " --budget 12 --out " + dir:   "cannot be resumed",
		"search --resume " + dir + " --budget 12":                   "it can be given more, not less",
		"search --resume " + dir + " --seed 2":                      "--seed cannot be given with --resume",
		"search --resume " + other:                                  "not the folder of a search",
		"search --labels " + labels + " --preset best":              "--preset",
		"search --labels " + labels + " --method chance":            "random, regression",
		"search --resume " + dir + " --method random":               "is a search with ctnas, which the folder says",
		"search --labels " + labels + "?split=train":                "train",
		"search --labels " + labels + " --max-madds lots":           "--max-madds",
		"search --labels " + labels + " --propose both":             "--propose",
		"search --labels oracle:x":                                  "want table:FILE",
		"search --labels " + labels + " --space nasbench102":        "nasbench102",
		"search --labels table:" + filepath.Join(other, "none.csv"): "none.csv",
	} {
		code, stdout, stderr = call(nil, strings.Fields(line)...)
		require.NotEqual(t, exitOK, code, line)
		require.Contains(t, stderr, says, line)
		require.Empty(t, stdout, line)
	}
}

// Every setting of config.yaml is a flag, and a preset's settings come through the flags unchanged.
func TestEverySettingOfASearchIsAFlag(t *testing.T) {
	for _, preset := range []string{search.PresetDefault, search.PresetPaper, search.PresetReleased} {
		want, err := search.Preset(preset)
		require.NoError(t, err)
		a := &app{}
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		a.addFlags(f)
		given, err := search.Preset(search.PresetDefault)
		require.NoError(t, err)
		searchFlags(f, &given)
		text, err := want.YAML(nil)
		require.NoError(t, err)
		require.NoError(t, setFromYAML(f, text))
		got, err := searchConfig(a, f)
		require.NoError(t, err)
		require.Equal(t, want, got)

		f = pflag.NewFlagSet("", pflag.ContinueOnError)
		a.addFlags(f)
		searchFlags(f, &given)
		require.NoError(t, f.Parse([]string{"--preset", preset, "--max-params", "9M"}))
		want.MaxParams = 9e6
		got, err = searchConfig(a, f)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestCommandLineIsForAShell(t *testing.T) {
	a := &app{args: []string{"search", "--labels", "table:a b.csv?run=1&split=test", "--out", "it's"}}
	require.Equal(t, `ctnas search --labels 'table:a b.csv?run=1&split=test' --out 'it'\''s'`, a.commandLine())
}
