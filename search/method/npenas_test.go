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

// Ten random labels, then ten a round of those predicted best, in that order; they grow better than what chance finds.
func TestNPENAS(t *testing.T) {
	p := pose(t, 45, nil)
	p.Steps = 30
	r, err := p.solve(t.Context(), NPENAS{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 45)
	mean := make([]float64, 5)
	for i, l := range r.Ledger {
		require.Equal(t, i/10, l.Round)
		require.Equal(t, i < 10, math.IsNaN(l.Predicted))
		if i > 10 && i%10 > 0 {
			require.LessOrEqual(t, l.Predicted, r.Ledger[i-1].Predicted)
		}
		mean[l.Round] += l.Value / 10
	}
	require.Greater(t, mean[3], mean[0])
	require.Equal(t, 1, r.Comparator.Config.Members)
	p = pose(t, 40, runtest.Cells(25, 12))
	p.Steps = 5
	r, err = p.solve(t.Context(), NPENAS{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 25, "a list of which all can be bought is bought")
}

// Ten of each parent, the best first.
func TestMutantsOfEach(t *testing.T) {
	source := fake{}
	l := ledger.New(source, 20)
	_, err := l.Query(t.Context(), runtest.Cells(12, 13), "random", 0)
	require.NoError(t, err)
	s := &parents{}
	a := account{&run.Run{Deps: run.Deps{Space: s, Source: source}, Ledger: l}}
	got := a.mutants(philox.New(1, philox.PurposeTest, 0), npenasEach)
	require.Len(t, got, bananasCandidates)
	require.Len(t, s.mutated, bananasCandidates/npenasEach)
}

// Ten random labels, then one at a time; what the best have in common is found.
func TestTPE(t *testing.T) {
	sum, random := 0.0, 0.0
	for seed := range uint64(4) {
		p := pose(t, 210, nil)
		p.Seed = seed
		r, err := p.solve(t.Context(), TPE{})
		require.NoError(t, err)
		require.Len(t, r.Ledger, 210)
		for i, l := range r.Ledger {
			require.Equal(t, max(0, i-9), l.Round)
			if i < 10 {
				random += l.Value / 40
			} else if i >= 150 {
				sum += l.Value / 240
			}
		}
	}
	require.Greater(t, sum, random+0.01)
	p := pose(t, 40, runtest.Cells(25, 12))
	r, err := p.solve(t.Context(), TPE{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 25)
}

// Choices are drawn with their likelihood, which sums to one.
func TestParzen(t *testing.T) {
	counts := []float64{5, 0, 1}
	sum, s := 0.0, philox.New(1, philox.PurposeTest, 0)
	drawn := make([]float64, 3)
	for range 30000 {
		drawn[drawCounted(counts, s)]++
	}
	for k := range counts {
		sum += likelihood(counts, k)
		require.InDelta(t, likelihood(counts, k), drawn[k]/30000, 0.01)
	}
	require.InDelta(t, 1, sum, 1e-12)
	require.InDelta(t, (5+1./3)/7, likelihood(counts, 0), 1e-12)
}

// What follows the same whatever the first decision is, is learned from all labels; cells of NAS-Bench-101 with another
// number of vertices have other decisions.
func TestParzenSharesSteps(t *testing.T) {
	for name, shared := range map[string]bool{"nasbench201": true, "nasbench101": false} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		var labels []ledger.Label
		for _, x := range runtest.Distinct(sp, 60, 14) {
			labels = append(labels, ledger.Label{Arch: x})
		}
		p, err := account{&run.Run{Deps: run.Deps{Space: sp}}}.chosen(labels)
		require.NoError(t, err)
		for first, n := range p.first {
			want := n
			if shared {
				want = 60
			}
			for _, counts := range p.steps(sp.Grammar(), first) {
				sum := 0.0
				for _, c := range counts {
					sum += c
				}
				require.Equal(t, want, sum, "%s, first decision %d", name, first)
			}
		}
	}
}
