package method

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// largest labels an architecture by its parameters.
type largest struct{}

func (largest) Has(space.Arch) bool { return true }
func (largest) Facts() ledger.Facts { return ledger.Facts{Source: "test", Metric: "parameters"} }
func (largest) Describe() string    { return "parameters" }
func (largest) Label(_ context.Context, archs []space.Arch) (out []float64, err error) {
	for _, a := range archs {
		out = append(out, float64(a.Cost().Params)/1e8)
	}
	return out, nil
}

// Once-for-all's evolution buys its whole budget within the limits and finds better than it began with; a space without
// crossover is refused.
func TestOFA(t *testing.T) {
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	p := pose(t, 450, nil)
	p.Deps.Space, p.Source, p.MaxMAdds = sp, largest{}, 300e6
	out, err := p.solve(t.Context(), OFA{})
	require.NoError(t, err)
	require.Len(t, out.Ledger, 450)
	first, last := 0.0, 0.0
	for _, l := range out.Ledger {
		require.LessOrEqual(t, l.Arch.Cost().MAdds, int64(300e6))
		switch l.Round {
		case 0:
			first += l.Value / 100
		case 3:
			last += l.Value / 100
		}
	}
	require.Greater(t, last, 1.03*first, "generations grow better")
	again, err := p.solve(t.Context(), OFA{})
	require.NoError(t, err)
	require.Equal(t, out.Ledger[449].Arch, again.Ledger[449].Arch)
	_, err = pose(t, 5, nil).solve(t.Context(), OFA{})
	require.ErrorContains(t, err, "cannot be crossed")
}
