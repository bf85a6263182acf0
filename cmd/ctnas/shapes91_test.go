package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/report"
)

// The whole way without any file: labels of the embedded table, a search of the small space, from any folder and again.
func TestSearchWithEmbeddedLabels(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	args := strings.Fields("search --space nasbench101-v4 --labels table:shapes91?run=1 --budget 20 --init 10 --per-round 5 --members 1 --steps 20 --iterations 5 " +
		"--pool 64 --mutations 8 --json --out " + dir)
	code, stdout, stderr := call(nil, args...)
	require.Equal(t, exitOK, code, stderr)
	var result map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &result))
	require.EqualValues(t, 20, result["labels_used"])
	require.Contains(t, result["labels"], "chosen on validation accuracy, run 1, 4 epochs, judged on test accuracy, run 1, 4 epochs")
	config, err := os.ReadFile(filepath.Join(dir, report.ConfigName))
	require.NoError(t, err)
	require.Contains(t, string(config), "table:shapes91?run=1", "a name of no file")

	t.Chdir(t.TempDir())
	code, again, stderr := call(nil, "search", "--config", filepath.Join(dir, report.ConfigName), "--json", "--out", "again")
	require.Equal(t, exitOK, code, stderr)
	require.JSONEq(t, stdout, again)
	code, stdout, stderr = call(nil, "table", "info", "shapes91", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, `"records": 91`)

	code, _, stderr = call(nil, "retrain", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "say how to train with --labels")
}

// quickTraining are trainings of the generated images that take a fraction of a second.
const quickTraining = "train:shapes?recipe=shapes&batch=200&channels=4&resolution=8&val-split=0.5&recalibrate=0&warmup=0"

func TestTableTrainAndRetrain(t *testing.T) {
	dir := t.TempDir()
	out, cache := filepath.Join(dir, "made.csv"), filepath.Join(dir, "cache")
	command := []string{"table", "train", "--space", "nasbench101-v3", "--labels", quickTraining + "&seed=0&seeds=2", "--epochs", "2,1", "-o", out, "--label-cache", cache, "--json"}
	code, stdout, stderr := call(nil, command...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, `"records": 7`)
	first, err := os.ReadFile(out)
	require.NoError(t, err)
	require.FileExists(t, out+".seconds")
	code, stdout, stderr = call(nil, append(command, "--threads", "1")...)
	require.Equal(t, exitOK, code, stderr)
	again, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, string(first), string(again), stdout)
	code, stdout, stderr = call(nil, "table", "info", out)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "validation accuracy, run 2, 1 epochs")

	run := filepath.Join(dir, "run")
	code, _, stderr = call(nil, strings.Fields("search --space nasbench101-v3 --labels "+quickTraining+"&epochs=1 --budget 3 --init 2 --per-round 1 --members 1 --steps 5 "+
		"--iterations 2 --pool 16 --mutations 2 --quiet --label-cache "+cache+" --out "+run)...)
	require.Equal(t, exitOK, code, stderr)
	code, stdout, stderr = call(nil, "retrain", run, "--seeds", "2", "--random", "3", "--quiet")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "The pick reaches")
	require.FileExists(t, filepath.Join(run, report.RetrainedName))
	var r report.Retrained
	code, stdout, stderr = call(nil, "retrain", run, "--seeds", "2", "--random", "3", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, []uint64{2, 3}, r.Seeds, "the label came from seed 1")
	ledger, err := os.ReadFile(filepath.Join(run, report.LedgerName))
	require.NoError(t, err)
	for _, x := range r.Random {
		require.NotContains(t, string(ledger), `"`+x.Arch+`"`)
	}

	other := filepath.Join(dir, "other") // of a method that has no configuration of its own, with a flag that has a unit
	code, _, stderr = call(nil, strings.Fields("search --method random --space nasbench101-v4 --labels table:shapes91 --budget 5 --max-madds 900M --quiet --out "+other)...)
	require.Equal(t, exitOK, code, stderr)
	config, err := search.LoadConfig(other)
	require.NoError(t, err)
	require.EqualValues(t, 900_000_000, config.MaxMAdds)

	for line, says := range map[string]string{
		"table train -o x.csv --space elsewhere":                       "elsewhere",
		"table train -o x.csv --labels table:shapes91":                 "want train:DATA?recipe=R",
		"table train -o x.csv --labels train:shapes?recipe=shapes&a=1": `unknown key "a"`,
		"table train":                              `required flag(s) "out" not set`,
		"retrain " + run + " --seeds 0":            "--seeds 0",
		"retrain " + run + " --random 9":           "only 4 of 9 random architectures",
		"retrain " + run + " --labels predictor:x": "want train:DATA?recipe=R",
		"retrain " + filepath.Join(dir, "nowhere"): "not the folder of a finished search",
	} {
		code, stdout, stderr = call(nil, strings.Fields(line)...)
		require.NotEqual(t, exitOK, code, line)
		require.Contains(t, stderr, says, line)
		require.Empty(t, stdout, line)
	}
}
