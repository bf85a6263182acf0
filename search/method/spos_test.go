package method

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/space"
)

// SPOS's evolution buys its whole budget and finds better than it began with.
func TestSPOS(t *testing.T) {
	p := pose(t, 150, nil)
	p.Deps.Space, p.Source = space.NASBench101{}, largest{}
	out, err := p.solve(t.Context(), SPOS{})
	require.NoError(t, err)
	require.Len(t, out.Ledger, 150)
	var means [3]float64
	for _, l := range out.Ledger {
		means[l.Round] += l.Value / 50
	}
	require.Greater(t, means[1], means[0])
	require.Greater(t, means[2], means[1])
	again, err := p.solve(t.Context(), SPOS{})
	require.NoError(t, err)
	require.Equal(t, out.Ledger[149].Arch, again.Ledger[149].Arch)
}
