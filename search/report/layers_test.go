package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// A chain is drawn as the network, a box a layer, with as many colours as there are sizes of kernels.
func TestChainsAreDrawnAsNetworks(t *testing.T) {
	for name, colors := range map[string]int{"mobilenetv3": 4, "fairnas": 4, "spos@w0.5,r64": 5,
		"file:../../docs/examples/blocks.yaml": 9} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		require.Len(t, colorsOf(sp), colors, name)
		for range 3 {
			a := sp.Sample(philox.New(3, philox.PurposeSample, 0))
			layers := a.(space.Layered).Layers()
			svg, err := Draw(sp, a, Style{})
			require.NoError(t, err)
			wellFormed(t, svg)
			require.Equal(t, len(layers), strings.Count(svg, "<rect"), name)
			require.Equal(t, len(layers)-1, strings.Count(svg, "<path"), name)
			small, err := Draw(sp, a, Style{Compact: true})
			require.NoError(t, err)
			wellFormed(t, small)
			require.Equal(t, len(layers), strings.Count(small, "<rect"), name)
		}
	}
	sp, err := space.Open("nasbench101")
	require.NoError(t, err)
	require.Len(t, colorsOf(sp), 5)
	cell, err := sp.Parse("nasbench101:best")
	require.NoError(t, err)
	svg, err := Draw(sp, cell, Style{})
	require.NoError(t, err)
	graph, err := DrawGraph(cell.Graph(), sp.Alphabet(), Style{})
	require.NoError(t, err)
	require.Equal(t, graph, svg)
}

func TestWhatLayersSay(t *testing.T) {
	block := space.Layer{Stage: "2", Name: "block", Kind: "kernel 5", Kernel: 5, Expansion: 4, Channels: 1040,
		Stride: 2, Side: 28}
	require.Equal(t, "5 × 5, expansion 4", layerName(block))
	require.Equal(t, "1,040 channels, 28 × 28, stride 2", layerFacts(block))
	require.Equal(t, "2: block, kernel 5, expansion 4, 1,040 channels, 28 × 28, stride 2", layerTitle(block))
	require.Empty(t, layerFacts(space.Layer{Name: "k3e6"}))
	evil := drawLayers([]space.Layer{{Stage: "<b>", Name: "<script>"}}, nil, Style{})
	require.NotContains(t, evil, "<script>")
	require.NotContains(t, evil, "<b>")
}
