package ctnas_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// few is a source that has labels of a short list, as a small table of a large space has.
type few struct{ *runtest.Source }

func (f few) Len() int              { return f.List.Len() }
func (f few) Arch(i int) space.Arch { return f.List.Arch(i) }
func (f few) Label(_ context.Context, archs []space.Arch) (values []float64, err error) {
	for _, a := range archs {
		i, _ := f.List.Index(a)
		values = append(values, 0.5+float64(i%17)/100)
	}
	return values, nil
}

// fewOf lists n random architectures of a space.
func fewOf(t *testing.T, name string, n int) (space.Space, few) {
	sp, err := space.Open(name)
	require.NoError(t, err)
	stream := philox.New(21, philox.PurposeTest, 0)
	var archs []space.Arch
	for len(archs) < n {
		archs = append(archs, sp.Sample(stream))
	}
	return sp, few{&runtest.Source{List: catalogue.NewList(archs)}}
}

// A table of a few networks of a space of 10^12: draws from the space never meet one, so that labels are drawn from
// the table, of which the limit leaves 26 networks.
func TestLabelsAreDrawnFromAListOfFew(t *testing.T) {
	sp, source := fewOf(t, "spos", 60)
	c := tiny(t, search.ProposeController)
	c.For(sp.Name(), sp)
	c.Budget, c.Init, c.PerRound, c.Members, c.Steps = 24, 12, 12, 1, 5
	c.Generations, c.Mutations, c.MaxMAdds = 1, 8, 320e6
	r, err := run.Do(context.Background(), c, run.Deps{Space: sp, Source: source})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 24)
	require.Len(t, r.Suggestions, 10)
	for i, x := range r.Suggestions {
		a, err := sp.Parse(x.Arch)
		require.NoError(t, err)
		require.False(t, source.Has(a), "a table of few is not found again")
		require.LessOrEqual(t, a.Cost().MAdds, int64(320e6))
		require.True(t, *x.Probability > 0 && *x.Probability < 1 && *x.PredictedRank >= 1 && x.Reason != "")
		require.NotContains(t, r.Suggestions[:i], x)
	}
	for _, l := range r.Ledger {
		require.True(t, source.Has(l.Arch))
		require.LessOrEqual(t, l.Arch.Cost().MAdds, c.MaxMAdds)
	}
	c.MaxMAdds = 1e6
	_, err = run.Do(context.Background(), c, run.Deps{Space: sp, Source: source})
	require.ErrorContains(t, err,
		"no architecture of spos was found with at most 1000000 MAdds: loosen --max-madds")
}

// Draws from a list are uniform over what may be taken, and leave the stream alone where that is nothing.
func TestDrawsFromAList(t *testing.T) {
	_, source := fewOf(t, "mobilenetv3", 10)
	stream := philox.New(3, philox.PurposeTest, 0)
	hits := map[space.Arch]int{}
	odd := func(a space.Arch) bool { i, _ := source.List.Index(a); return i%2 == 1 }
	for range 3000 {
		got := ledger.Draw(source, 2, stream, odd)
		require.Len(t, got, 2)
		require.NotEqual(t, got[0], got[1])
		hits[got[0]]++
	}
	require.Len(t, hits, 5)
	for _, n := range hits {
		require.InDelta(t, 600, n, 100) // 4.5 standard deviations
	}
	require.Len(t, ledger.Draw(source, 99, stream, odd), 5)
	a, b := philox.New(4, philox.PurposeTest, 0), philox.New(4, philox.PurposeTest, 0)
	require.Empty(t, ledger.Draw(source, 2, a, func(space.Arch) bool { return false }))
	require.Empty(t, ledger.Draw(nil, 2, a, odd))
	require.Equal(t, b.Uint64(), a.Uint64())
}

// Samples that the table does not have are no samples of rank 0: the mean of none is null, and every mean says on how
// many it rests.
func TestPercentilesRestOnWhatIsKnown(t *testing.T) {
	sp, source := fewOf(t, "nasbench101", 60)
	dir := t.TempDir()
	c := tiny(t, search.ProposeController)
	c.Budget, c.Init = 24, 16
	r, err := run.Do(context.Background(), c, run.Deps{Space: sp, Source: source, Dir: dir,
		Program: run.Program{Version: "test"}})
	require.NoError(t, err)
	p := r.Controller
	require.Positive(t, p.Samples)
	require.Zero(t, p.FirstKnown)
	require.Zero(t, p.LastKnown)
	require.Equal(t, 60, r.Ranked, "what the true rank is among")
	require.Nil(t, p.First)
	text, err := os.ReadFile(filepath.Join(dir, report.ResultName))
	require.NoError(t, err)
	var back struct {
		Controller map[string]any `json:"controller_samples"`
	}
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, map[string]any{"samples": float64(p.Samples), "first": nil, "last": nil, "first_known": 0.0,
		"last_known": 0.0}, back.Controller)
	log, _, err := events.Read(dir)
	require.NoError(t, err)
	points := 0
	for _, e := range log {
		require.NotContains(t, e.Values, "percentile")
		if n, ok := e.Values["percentile_samples"]; ok {
			require.Zero(t, n)
			points++
		}
	}
	require.Positive(t, points)

	d := deps(t, "")
	d.Source = everyCell{runtest.NewSource()}
	whole, err := run.Do(context.Background(), tiny(t, search.ProposeController), d)
	require.NoError(t, err)
	require.Equal(t, []int{whole.Controller.Samples, whole.Controller.Samples},
		[]int{whole.Controller.FirstKnown, whole.Controller.LastKnown})
	require.Positive(t, *whole.Controller.First)
}

// Half of the first labels are promising architectures', where those are chosen among several and the space says what
// is promising; the ledger says which.
func TestFirstLabels(t *testing.T) {
	for preselect, promising := range map[int]int{1000: 8, 1: 0} {
		c := tiny(t, search.ProposeController)
		c.Budget, c.Preselect = 24, preselect
		r, err := run.Do(t.Context(), c, deps(t, ""))
		require.NoError(t, err)
		of := map[string]int{}
		for _, l := range r.Ledger[:16] {
			require.Equal(t, 0, l.Round)
			of[l.Proposer]++
		}
		require.Equal(t, promising, of["promising"])
		require.Equal(t, 16-promising, of["random"])
	}
}
