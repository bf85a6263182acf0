package made

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRule(t *testing.T) {
	var earlier []Outcome
	for i := range 10 {
		end := 0.5 + 0.04*float64(i)
		earlier = append(earlier,
			Outcome{Curve: []float64{0.1 + 0.01*float64(i), 0.3 + 0.02*float64(i), end}, Value: end})
	}
	r := rule{quantile: 0.5, after: 1, epochs: 3, earlier: [][]Outcome{earlier}}
	ends := func(epoch int, accuracy float64) bool {
		list := r.ends(0)
		return epoch <= len(list) && accuracy < list[epoch-1]
	}
	require.True(t, ends(1, 0.139))
	require.False(t, ends(1, 0.141))
	require.False(t, ends(3, 0), "the last epoch is the end anyway")
	r.after = 2
	require.False(t, ends(1, 0))
	require.True(t, ends(2, 0))
	require.InDelta(t, 0.54, r.equivalent(0, 2, 0.32), 1e-12)
	require.InDelta(t, 0.56, r.equivalent(0, 2, 0.33), 1e-12)
	require.InDelta(t, 0.4, r.equivalent(0, 2, 0.2), 1e-12)
	require.Equal(t, 0.0, r.equivalent(0, 1, -1))
	require.InDelta(t, 0.86, r.equivalent(0, 2, 0.9), 1e-12)
	// Those that were stopped count as the lowest: they do not raise the bar for the others.
	for range 10 {
		earlier = append(earlier, Outcome{Curve: []float64{0.05}, Stopped: true})
	}
	r.earlier[0] = earlier
	require.False(t, ends(2, 0.29))
	r.quantile = 0.6
	require.True(t, ends(2, 0.29))
	r.earlier[0] = earlier[3:]
	require.False(t, ends(2, 0.01), "seven are too few")
}
