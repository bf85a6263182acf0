package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
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

// Costs, limits and fronts are of the networks that labels are trained for; the space's own stand beside them, under
// their own name.
func TestCostsAreOfWhatIsTrained(t *testing.T) {
	dir := t.TempDir()
	size := space.NetworkSize{Side: 8, Classes: 10, Channels: 4, Stacks: 3, Modules: 1}
	sp, err := space.Open("nasbench101-v3")
	require.NoError(t, err)
	line := "search --space nasbench101-v3 --budget 3 --init 2 --per-round 1 --members 1 --steps 5 --iterations 2 --pool 16 --mutations 2 --quiet --label-cache " +
		filepath.Join(dir, "cache") + " --labels "
	check := func(run, stdout string, cost func(a space.Arch) space.Cost, network bool, limit int64) report.Result {
		text, err := os.ReadFile(filepath.Join(run, report.ResultName))
		require.NoError(t, err)
		var result report.Result
		require.NoError(t, json.Unmarshal(text, &result))
		require.Equal(t, network, result.Network != nil)
		for _, x := range result.Architectures {
			a, err := sp.Parse(x.Arch)
			require.NoError(t, err)
			want, own := cost(a), a.Cost()
			require.Equal(t, [4]int64{want.MAdds, want.Params, own.MAdds, own.Params},
				[4]int64{*x.MAdds, *x.Params, *x.SpaceMAdds, *x.SpaceParams})
			require.LessOrEqual(t, *x.Params, limit)
			require.Less(t, *x.Params, *x.SpaceParams)
		}
		pick := result.Architectures[0]
		require.Regexp(t,
			fmt.Sprintf(`(?m)^MAdds +%d\nparameters +%d\n +of the network that was trained for the label`,
				*pick.MAdds, *pick.Params), stdout)
		require.Regexp(t, fmt.Sprintf(`(?m)^full network +%d MAdds, %d parameters`, *pick.SpaceMAdds,
			*pick.SpaceParams), stdout)
		page, err := os.ReadFile(filepath.Join(run, report.PageName))
		require.NoError(t, err)
		require.Contains(t, string(page), "of the network that was trained for the label")
		require.Contains(t, string(page), "the space&#39;s own network: ")
		return result
	}
	trained := func(a space.Arch) space.Cost { return a.(space.Trainable).CostAt(size) }
	run := filepath.Join(dir, "trained")
	code, stdout, stderr := call(nil, strings.Fields(line+quickTraining+"&epochs=1 --max-params 1K --out "+run)...)
	require.Equal(t, exitOK, code, stderr)
	result := check(run, stdout, trained, true, 1000)
	require.Equal(t, size, *result.Network)
	require.Contains(t, stdout, "8x8 images, 10 classes, 4 channels")
	code, stdout, stderr = call(nil, "retrain", run, "--seeds", "1", "--random", "1", "--json")
	require.Equal(t, exitOK, code, stderr)
	var r report.Retrained
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, *result.Architectures[0].Params, r.Pick.Params)
	require.Contains(t, stdout, `"sd": null`, "of one seed")
	require.LessOrEqual(t, r.Random[0].Params, int64(1000), "what the search could not have picked is no rival")

	run = filepath.Join(dir, "random")
	code, stdout, stderr = call(nil,
		strings.Fields(line+quickTraining+"&epochs=1 --max-params 1K --method random --out "+run)...)
	require.Equal(t, exitOK, code, stderr)
	check(run, stdout, trained, true, 1000)

	// A table says what its networks take.
	made, err := table.Open(t.Context(), "shapes91", table.Options{Space: sp})
	require.NoError(t, err)
	run = filepath.Join(dir, "table")
	code, stdout, stderr = call(nil, strings.Fields(line+"table:shapes91 --max-params 4K --out "+run)...)
	require.Equal(t, exitOK, code, stderr)
	check(run, stdout, made.TrainedCosts(), false, 4000)
}
