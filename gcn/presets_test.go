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
	require.Equal(t, c, c.adapted(400))
	many := c.adapted(401)
	require.Equal(t, []int{64, 64, 64}, []int{many.Width, many.FeatureWidth, many.HeadWidth})
	require.InDelta(t, 0.1, many.Dropout, 1e-7)
	require.InDelta(t, 0.3, many.WeightDecay, 1e-12)
	require.Equal(t, c.Steps, many.Steps)
	c.Adapt = false
	require.Equal(t, c, c.adapted(401))
}
