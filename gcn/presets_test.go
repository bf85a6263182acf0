package gcn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What docs/comparator.md says of few and many labels.
func TestAdapted(t *testing.T) {
	cells, err := Preset("default")
	require.NoError(t, err)
	require.Equal(t, 120, cells.adapted(200).Steps)
	require.Equal(t, cells, cells.adapted(423))
	require.Equal(t, 300, cells.adapted(1501).Steps)

	c := Positional()
	require.Equal(t, c, c.adapted(200))
	before := c.adapted(2)
	require.InDelta(t, 0.5, before.Dropout, 1e-12)
	require.InDelta(t, 1, before.WeightDecay, 1e-12)
	for n := 3; n < 5000; n++ { // nothing changes at once
		now := c.adapted(n)
		require.LessOrEqual(t, now.Dropout, before.Dropout)
		require.LessOrEqual(t, now.WeightDecay, before.WeightDecay)
		require.InDelta(t, before.Dropout, now.Dropout, 0.01)
		require.InDelta(t, before.WeightDecay, now.WeightDecay, 0.01)
		before = now
		now.Dropout, now.WeightDecay = c.Dropout, c.WeightDecay
		require.Equal(t, c, now)
	}
	require.InDelta(t, 0.1, before.Dropout, 1e-12)
	require.InDelta(t, 0.3, before.WeightDecay, 1e-12)
	c.Adapt = false
	require.Equal(t, c, c.adapted(1000))
}
