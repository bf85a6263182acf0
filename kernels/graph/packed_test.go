package graph_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
)

func TestPackedRoundTrip(t *testing.T) {
	s := philox.New(1, philox.PurposeTest, 1)
	for range 1000 {
		ops := make([]uint8, 1+s.Intn(8))
		var edges [][2]uint8
		for u := range ops {
			ops[u] = uint8(s.Intn(8))
			for v := u + 1; v < len(ops); v++ {
				if s.Intn(2) == 0 {
					edges = append(edges, [2]uint8{uint8(u), uint8(v)})
				}
			}
		}
		packed, ok := graph.Pack(ops, edges)
		require.True(t, ok)
		require.Less(t, packed, uint64(1)<<56)
		gotOps, gotEdges := graph.Unpack(packed)
		require.Equal(t, ops, gotOps)
		require.Equal(t, edges, gotEdges)
	}
}

func TestPackedLayout(t *testing.T) {
	packed, ok := graph.Pack([]uint8{0, 3, 4}, [][2]uint8{{1, 2}, {0, 1}, {1, 2}})
	require.True(t, ok)
	require.Equal(t, uint64(1<<0|1<<2|3<<31|4<<34|3<<52), packed)
}

func TestPackRefuses(t *testing.T) {
	for _, bad := range []struct {
		ops   []uint8
		edges [][2]uint8
	}{
		{}, {ops: make([]uint8, 9)}, {ops: []uint8{8}}, {make([]uint8, 2), [][2]uint8{{1, 1}}},
		{make([]uint8, 2), [][2]uint8{{1, 0}}},
		{make([]uint8, 2), [][2]uint8{{0, 2}}},
	} {
		_, ok := graph.Pack(bad.ops, bad.edges)
		require.False(t, ok, "%v", bad)
	}
	ops, edges := graph.Unpack(^uint64(0))
	require.Len(t, ops, 8)
	require.Len(t, edges, 28)
}
