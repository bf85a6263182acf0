package method

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run/runtest"
	"github.com/ctnas/ctnas/search/space"
)

// Neighbours differ in one decision, none is missing and none is the architecture itself; in NAS-Bench-101 every
// operation that is there can become another one.
func TestNeighbours(t *testing.T) {
	for _, name := range []string{"nasbench101", "mobilenetv3", "darts", "spos",
		"file:../../docs/examples/blocks.yaml"} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		stream := philox.New(5, philox.PurposeTest, 0)
		for range 20 {
			a := sp.Sample(stream)
			around, err := neighbours(sp, a)
			require.NoError(t, err, name)
			require.NotContains(t, around, a)
			require.Greater(t, len(around), 5, name)
			seen := map[space.Arch]bool{}
			for _, x := range around {
				require.False(t, seen[x])
				seen[x] = true
				back, err := sp.Parse(x.String())
				require.NoError(t, err)
				require.Equal(t, x, back)
			}
		}
	}
	a, err := sp.Parse("nasbench101:resnet")
	require.NoError(t, err)
	around, err := neighbours(sp, a)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(around, func(x space.Arch) bool { // one operation differs
		return slices.Equal(x.Graph().Edges, a.Graph().Edges) && !slices.Equal(x.Graph().Ops, a.Graph().Ops)
	}))
}

// A climb moves to better neighbours only, and begins again where none is better.
func TestLocalSearchClimbs(t *testing.T) {
	r, err := pose(t, 250, nil).solve(t.Context(), LocalSearch{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 250)
	climbs, here, random, climbed := 0, r.Ledger[0], 0.0, 0.0
	for i, l := range r.Ledger {
		switch {
		case l.Proposer == "random" && (i == 0 || r.Ledger[i-1].Proposer != "random"):
			climbs, here = climbs+1, l
		case l.Proposer != "random":
			around, err := neighbours(sp, here.Arch)
			require.NoError(t, err)
			require.Contains(t, around, l.Arch, "label %d", l.N)
			climbed = max(climbed, l.Value)
		}
		if l.Proposer == "random" {
			random = max(random, l.Value)
		}
		if l.Value > here.Value {
			here = l
		}
	}
	require.Greater(t, climbs, 1, "a top was reached")
	require.Greater(t, climbed, random)
}

// A list of which all can be bought is bought, whatever its hills.
func TestLocalSearchBuysAWholeList(t *testing.T) {
	list := runtest.Cells(40, 11)
	r, err := pose(t, 60, list).solve(t.Context(), LocalSearch{})
	require.NoError(t, err)
	require.Len(t, r.Ledger, 40)
}
