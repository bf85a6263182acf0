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

// Once-for-all's evolution buys its whole budget within the limits and finds better than it began with; a space without crossover is refused.
func TestOFA(t *testing.T) {
	sp, err := space.Open("mobilenetv3@w1.2")
	require.NoError(t, err)
	p := Problem{Space: sp, Source: largest{}, Budget: 450, Seed: 3, MaxMAdds: 300e6}
	out, err := OFA{}.Run(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, out.Labels, 450)
	first, last := 0.0, 0.0
	for _, l := range out.Labels {
		require.LessOrEqual(t, l.Arch.Cost().MAdds, int64(300e6))
		switch l.Round {
		case 0:
			first += l.Value / 100
		case 3:
			last += l.Value / 100
		}
	}
	require.Greater(t, last, 1.03*first, "generations grow better")
	again, err := OFA{}.Run(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, out.Labels[449].Arch, again.Labels[449].Arch)
	_, err = OFA{}.Run(t.Context(), Problem{Space: space.NASBench101{}, Source: largest{}, Budget: 5})
	require.ErrorContains(t, err, "cannot be crossed")
}
