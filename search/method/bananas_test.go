package method

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// Ten random labels, then ten a round that the ensemble has scored; they grow better than what chance finds.
func TestBananas(t *testing.T) {
	p := pose(t, 45, nil)
	p.Steps = 30
	r, err := p.solve(t.Context(), Bananas{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 45)
	mean := make([]float64, 5)
	for i, l := range r.Ledger {
		require.Equal(t, i/10, l.Round)
		require.Equal(t, i < 10, l.Proposer == "random")
		require.Equal(t, i < 10, math.IsNaN(l.Predicted))
		mean[l.Round] += l.Value / 10
	}
	require.Greater(t, mean[3], mean[0])
	require.NotNil(t, r.Comparator)
	require.Equal(t, 5, r.Comparator.Config.Members)
}

// A list of which all can be bought is bought.
func TestBananasBuysAWholeList(t *testing.T) {
	p := pose(t, 40, runtest.Cells(25, 12))
	p.Steps = 5
	r, err := p.solve(t.Context(), Bananas{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 25)
}

// Candidates are new, distinct mutants of the best label there is.
func TestBananasMutatesTheBest(t *testing.T) {
	source := fake{}
	l := ledger.New(source, 10)
	archs := runtest.Cells(5, 13)
	_, err := l.Query(t.Context(), archs, "random", 0)
	require.NoError(t, err)
	best, _ := l.Best()
	s := &parents{}
	a := account{&run.Run{Deps: run.Deps{Space: s, Source: source}, Ledger: l}}
	got := a.mutants(philox.New(1, philox.PurposeTest, 0), bananasCandidates)
	require.Len(t, got, bananasCandidates)
	seen := map[space.Arch]bool{}
	for _, x := range got {
		require.False(t, seen[x])
		seen[x] = true
		require.NotContains(t, archs, x)
	}
	require.Equal(t, map[space.Arch]bool{best.Arch: true}, s.mutated)
}

// parents is the space, and notes what is mutated.
type parents struct {
	space.NASBench101
	mutated map[space.Arch]bool
}

func (p *parents) Mutate(a space.Arch, s *philox.Stream) space.Arch {
	if p.mutated == nil {
		p.mutated = map[space.Arch]bool{}
	}
	p.mutated[a] = true
	return p.NASBench101.Mutate(a, s)
}
