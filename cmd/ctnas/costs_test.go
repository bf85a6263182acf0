package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Costs, limits and fronts are of the networks that labels are trained for; the space's own stand beside them, under
// their own name.
func TestCostsAreOfWhatIsTrained(t *testing.T) {
	dir := t.TempDir()
	size := space.NetworkSize{Side: 8, Classes: 3, Channels: 4, Stacks: 3, Modules: 1}
	sp, err := space.Open("nasbench101-v3")
	require.NoError(t, err)
	line := "search --space nasbench101-v3 --budget 3 --init 2 --per-round 1 --members 1 --steps 5 --iterations 2 " +
		"--pool 16 --mutations 2 --quiet --label-cache " + filepath.Join(dir, "cache") + " --labels "
	quickTraining := "train:imagenet:" + colourSet(t) +
		"?recipe=shapes&batch=12&channels=4&resolution=8&val-split=0.5&recalibrate=0&warmup=0"
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
			fmt.Sprintf(`(?m)^MAdds +%d\nparameters +%d\n +of the network that the label is of`,
				*pick.MAdds, *pick.Params), stdout)
		require.Regexp(t, fmt.Sprintf(`(?m)^full network +%d MAdds, %d parameters`, *pick.SpaceMAdds,
			*pick.SpaceParams), stdout)
		page, err := os.ReadFile(filepath.Join(run, report.PageName))
		require.NoError(t, err)
		require.Contains(t, string(page), "of the network that the label is of")
		require.Contains(t, string(page), "the space&#39;s own network: ")
		return result
	}
	trained := func(a space.Arch) space.Cost { return a.(space.Trainable).CostAt(size) }
	run := filepath.Join(dir, "trained")
	code, stdout, stderr := call(nil, strings.Fields(line+quickTraining+"&epochs=1 --max-params 1K --out "+run)...)
	require.Equal(t, exitOK, code, stderr)
	result := check(run, stdout, trained, true, 1000)
	require.Equal(t, size, *result.Network)
	require.Contains(t, stdout, "8x8 images, 3 classes, 4 channels")
	code, stdout, stderr = call(nil, "retrain", run, "--seeds", "1", "--random", "1", "--json")
	require.Equal(t, exitOK, code, stderr)
	var r report.Retrained
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, *result.Architectures[0].Params, r.Pick.Params)
	require.Contains(t, stdout, `"sd": null`, "of one seed")
	require.LessOrEqual(t, r.Random[0].Params, int64(1000), "what the search could not have picked is no rival")
	bought, err := os.ReadFile(filepath.Join(run, report.LedgerName))
	require.NoError(t, err)
	require.NotContains(t, string(bought), `"`+r.Random[0].Arch+`"`, "what the search has labelled is no rival")

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
