package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/search/space"
)

var nb101 = []string{"input", "output", "conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"}

// inception is the Inception-like cell of the NAS-Bench-101 paper (figure 1).
func inception() space.Graph {
	return space.Graph{
		Ops:   []uint16{0, 2, 3, 2, 3, 3, 1},
		Edges: [][2]uint8{{0, 1}, {0, 3}, {0, 6}, {1, 2}, {2, 4}, {3, 4}, {4, 5}, {5, 6}, {1, 6}},
	}
}

func wellFormed(t require.TestingT, svg string) {
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestDrawGraphShowsEveryNodeAndEdge(t *testing.T) {
	svg, err := DrawGraph(inception(), nb101, Style{})
	require.NoError(t, err)
	wellFormed(t, svg)
	require.Equal(t, 7, strings.Count(svg, "<rect"))
	require.Equal(t, 9, strings.Count(svg, `fill="none"`))
	require.Equal(t, 2, strings.Count(svg, ">conv 1×1<"))
	require.Contains(t, svg, "<title>4: conv3x3-bn-relu</title>")
	if path := os.Getenv("CTNAS_TEST_SVG"); path != "" {
		require.NoError(t, os.WriteFile(path, []byte(svg), 0o644))
	}
	again, err := DrawGraph(inception(), nb101, Style{})
	require.NoError(t, err)
	require.Equal(t, svg, again)
}

func TestDrawGraphRejectsWhatDoesNotExist(t *testing.T) {
	_, err := DrawGraph(space.Graph{Ops: []uint16{0, 9}}, nb101, Style{})
	require.ErrorContains(t, err, "operation 9")
	_, err = DrawGraph(space.Graph{Ops: []uint16{0, 1}, Edges: [][2]uint8{{1, 0}}}, nb101, Style{})
	require.ErrorContains(t, err, "edge 1-0")
	_, err = DrawGraph(space.Graph{Ops: []uint16{0, 1}, Edges: [][2]uint8{{0, 2}}}, nb101, Style{})
	require.ErrorContains(t, err, "edge 0-2")
}

// Whatever the graph: edges lead downwards, nothing of a layer overlaps, all coordinates are finite.
func TestLayoutKeepsNodesApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawnGraph(t)
		layers, paths := layout(g, func(v int) float64 { return 40 + float64(v) }, 10)
		place(layers, 10)
		seen := 0
		for _, layer := range layers {
			for i, it := range layer {
				require.False(t, math.IsNaN(it.x) || math.IsInf(it.x, 0))
				if it.node >= 0 {
					seen++
				}
				if i > 0 {
					distance := it.x - layer[i-1].x
					require.GreaterOrEqual(t, distance+1e-6, (it.width+layer[i-1].width)/2+10)
				}
			}
		}
		require.Equal(t, len(g.Ops), seen)
		require.Len(t, paths, len(g.Edges))
		for i, path := range paths {
			require.Equal(t, int(g.Edges[i][0]), path[0].node)
			require.Equal(t, int(g.Edges[i][1]), path[len(path)-1].node)
			for j := 1; j < len(path); j++ {
				require.Equal(t, path[j-1].rank+1, path[j].rank)
			}
		}
		svg, err := DrawGraph(g, nb101, Style{Compact: rapid.Bool().Draw(t, "compact")})
		require.NoError(t, err)
		wellFormed(t, svg)
	})
}

func drawnGraph(t *rapid.T) space.Graph {
	n := rapid.IntRange(0, 12).Draw(t, "nodes")
	var g space.Graph
	for range n {
		g.Ops = append(g.Ops, rapid.Uint16Range(0, 4).Draw(t, "op"))
	}
	for to := 1; to < n; to++ {
		for from := range to {
			if rapid.IntRange(0, 2).Draw(t, "edge") == 0 {
				g.Edges = append(g.Edges, [2]uint8{uint8(from), uint8(to)})
			}
		}
	}
	return g
}
