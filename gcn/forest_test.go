package gcn

import (
	"fmt"
	"sort"
	"testing"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

// randomGraphs draws connected graphs with 2..7 nodes over an alphabet of 5 (0 input, 4 output).
func randomGraphs(n int, stream uint32) []Graph {
	s := philox.New(11, philox.PurposeTest, stream)
	out := make([]Graph, n)
	for i := range out {
		nodes := 2 + s.Intn(6)
		g := Graph{Ops: make([]uint16, nodes)}
		for v := 1; v < nodes; v++ {
			g.Ops[v] = uint16(1 + s.Intn(3))
			has := false
			for u := range v {
				if s.Intn(3) == 0 || u == v-1 && !has {
					g.Edges = append(g.Edges, [2]uint8{uint8(u), uint8(v)})
					has = true
				}
			}
		}
		g.Ops[nodes-1] = 4
		out[i] = g
	}
	return out
}

// tree prints the unfolding tree of a node, as deep as asked.
func tree(g Graph, v, depth int, d Direction) string {
	var sub []string
	if depth != 0 {
		for _, u := range g.neighbours(d)[v] {
			sub = append(sub, tree(g, u, depth-1, d))
		}
	}
	sort.Strings(sub)
	return fmt.Sprint(g.Ops[v], sub)
}

// rowTree prints the tree of a row of a topological forest.
func rowTree(f *Forest, r int32) string {
	var sub []string
	for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
		sub = append(sub, rowTree(f, u))
	}
	sort.Strings(sub)
	return fmt.Sprint(f.Label[r], sub)
}

func TestTopologicalSharesEqualTreesOnly(t *testing.T) {
	graphs := randomGraphs(300, 1)
	for _, d := range []Direction{FromInputs, FromOutputs} {
		f, err := Topological(Slice(graphs), 5, d, false)
		require.NoError(t, err)
		require.Equal(t, 300, f.Graphs())
		distinct := map[string]int32{}
		for g, graph := range graphs {
			rows := f.ReadIdx[f.ReadPtr[g]:f.ReadPtr[g+1]]
			require.Len(t, rows, len(graph.Ops))
			for v, r := range rows {
				want := tree(graph, v, -1, d)
				require.Equal(t, want, rowTree(f, r))
				if other, ok := distinct[want]; ok {
					require.Equal(t, other, r)
				}
				distinct[want] = r
			}
		}
		require.Len(t, distinct, f.Rows())
		for l := range f.Levels() {
			begin, end := f.Level(l)
			for r := begin; r < end; r++ {
				for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
					require.Less(t, int(u), begin)
				}
			}
		}
		ends, err := Topological(Slice(graphs), 5, d, true)
		require.NoError(t, err)
		for g, graph := range graphs {
			last := len(graph.Ops) - 1
			if d == FromOutputs {
				last = 0
			}
			require.Equal(t, tree(graph, last, -1, d), rowTree(ends, ends.ReadIdx[g]))
		}
	}
}

func TestLayeredCountsTrees(t *testing.T) {
	graphs := randomGraphs(200, 2)
	const layers = 3
	f, err := Layered(Slice(graphs), 6, layers, 7, 5, FromInputs, true)
	require.NoError(t, err)
	require.Equal(t, layers+1, f.Levels())
	for k := 1; k <= layers; k++ {
		distinct := map[string]bool{}
		for _, g := range graphs {
			for v := range g.Ops {
				distinct[layerTree(g, v, k)] = true
			}
			if len(g.Ops) < 7 {
				distinct["pad"] = true
			}
		}
		begin, end := f.Level(k)
		require.Equal(t, len(distinct), end-begin, "level %d", k)
	}
	plain, err := Layered(Slice(graphs), 6, layers, 7, 5, FromInputs, false)
	require.NoError(t, err)
	begin, end := plain.Level(2)
	require.Equal(t, 7*200, end-begin)
}

// layerTree prints what a node knows after k synchronous rounds: its own history and its neighbours'.
func layerTree(g Graph, v, k int) string {
	if k == 0 {
		return fmt.Sprint(g.Ops[v])
	}
	var sub []string
	for _, u := range g.neighbours(FromInputs)[v] {
		sub = append(sub, layerTree(g, u, k-1))
	}
	sort.Strings(sub)
	return fmt.Sprint(layerTree(g, v, k-1), sub)
}

func TestTranspose(t *testing.T) {
	tptr, tidx := transpose([]int32{0, 2, 2, 5}, []int32{1, 3, 0, 1, 1}, 4)
	require.Equal(t, []int32{0, 1, 4, 4, 5}, tptr)
	require.Equal(t, []int32{2, 0, 2, 2, 0}, tidx)
}

func TestGraphCheck(t *testing.T) {
	require.ErrorContains(t, Graph{}.Check(3), "without nodes")
	require.ErrorContains(t, Graph{Ops: []uint16{0, 9}}.Check(3), "node 1 has operation 9")
	require.ErrorContains(t, Graph{Ops: []uint16{0, 1}, Edges: [][2]uint8{{1, 1}}}.Check(3), "edge 1-1")
	_, err := Topological(Slice([]Graph{{}}), 3, FromInputs, true)
	require.ErrorContains(t, err, "graph 0")
}
