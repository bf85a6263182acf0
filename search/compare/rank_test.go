package compare

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

var sp = space.NASBench101{}

// small is a network that trains in no time.
func small(t *testing.T) gcn.Config {
	c, err := gcn.Preset("default")
	require.NoError(t, err)
	c.Width, c.HeadWidth, c.FeatureWidth, c.Members, c.Steps, c.Warmup = 16, 16, 16, 1, 60, 5
	return c
}

func TestOddDigits(t *testing.T) {
	for i, digit := range "0123456789abcdef" {
		require.Equal(t, i%2 == 1, isOdd(byte(digit)), string(digit))
	}
	for i, digit := range "ABCDEF" {
		require.Equal(t, i%2 == 1, isOdd(byte(digit)), string(digit))
	}
}

// smallTable writes cells with their quality as test accuracy and, with noise, as validation accuracy, and opens the
// file.
func smallTable(t *testing.T, n int, validation bool) *table.Table {
	var text strings.Builder
	text.WriteString("arch,test_accuracy" + map[bool]string{true: ",validation_accuracy"}[validation] + "\n")
	for i, a := range runtest.Cells(n, 8) {
		fmt.Fprintf(&text, "%v,%.6f", a, runtest.Quality(a))
		if validation {
			fmt.Fprintf(&text, ",%.6f", runtest.Quality(a)-0.01*float64(i%3))
		}
		text.WriteString("\n")
	}
	path := filepath.Join(t.TempDir(), "small.csv")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	opened, err := table.Open(t.Context(), path, table.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, opened.Close()) })
	return opened
}

func TestRankJudgesByWhatItDidNotTrainOn(t *testing.T) {
	tab := smallTable(t, 400, false)
	view, err := tab.View(table.Query{})
	require.NoError(t, err)
	r := Ranking{View: view, Config: small(t), Train: 50, Seed: 5, Seeds: 2, Judge: All,
		Device: exec.Config{Threads: 1}}
	var streamed []RankSeed
	r.Done = func(s RankSeed) { streamed = append(streamed, s) }
	results, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, streamed, results)
	require.Equal(t, []uint64{5, 6}, []uint64{results[0].Seed, results[1].Seed})
	require.NotEqual(t, results[0].TauB, results[1].TauB)

	// The same by hand: labels of the first seed, scores of the whole table, tau over the rest.
	order := philox.New(5, philox.PurposeSample, 0).Perm(400)
	var labels []ledger.Label
	for _, i := range order[:50] {
		labels = append(labels, ledger.Label{Arch: tab.Arch(i), Value: view.Seen(i), Score: view.Seen(i)})
	}
	cmp, err := method.Train(t.Context(), r.Device, r.Config, sp, labels, 5)
	require.NoError(t, err)
	pool := catalogue.Of(view)
	scores, err := pool.Score(context.Background(), cmp, r.Device)
	require.NoError(t, err)
	var x, y, oddX, oddY []float64
	top := order[50]
	for _, i := range order[50:] {
		x, y = append(x, scores.Rank[i]), append(y, view.Seen(i))
		if hash := tab.Arch(i).Hash(); strings.ContainsRune("13579bdf", rune(hash[len(hash)-1])) {
			oddX, oddY = append(oddX, scores.Rank[i]), append(oddY, view.Seen(i))
		}
		if scores.Rank[i] > scores.Rank[top] {
			top = i
		}
	}
	require.InDelta(t, stat.KendallB(x, y), results[0].TauB, 1e-3)
	require.InDelta(t, stat.KendallB(oddX, oddY), results[0].TauBOdd, 1e-3)
	require.Greater(t, results[0].TauB, 0.3)
	rank, err := view.Rank(top)
	require.NoError(t, err)
	require.Equal(t, rank, results[0].TopRank)

	r.Judge, r.Seeds, r.Done = Odd, 1, nil
	odd, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.InDelta(t, results[0].TauBOdd, odd[0].TauB, 1e-3)
	r.Judge = Even
	even, err := Rank(t.Context(), r)
	require.NoError(t, err)
	require.True(t, math.IsNaN(even[0].TauBOdd))
	require.NotEqual(t, odd[0].TauB, even[0].TauB)

	for _, train := range []int{1, 398} {
		r.Train = train
		_, err = Rank(t.Context(), r)
		require.Error(t, err)
	}
}

func TestReleasedScheduleRanks(t *testing.T) {
	tab := smallTable(t, 300, false)
	view, err := tab.View(table.Query{})
	require.NoError(t, err)
	c, err := gcn.Preset("released")
	require.NoError(t, err)
	c.Steps, c.LR = 120, 2e-3
	results, err := Rank(t.Context(), Ranking{View: view, Config: c, Train: 60, Seeds: 1, Judge: All,
		Device: exec.Config{Threads: 2}})
	require.NoError(t, err)
	require.Greater(t, results[0].TauB, 0.2)
}
