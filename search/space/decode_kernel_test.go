package space

import (
	"testing"

	"github.com/ctnas/ctnas/kernels/cell"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

// The kernel's graphs of random decisions are those that Decode makes canonical.
func TestKernelDecodesAsDecode(t *testing.T) {
	for vertices := leastVertices; vertices <= maxVertices; vertices++ {
		t.Run(NASBench101{vertices}.Name(), func(t *testing.T) { testKernelDecodes(t, NASBench101{vertices}) })
	}
}

func testKernelDecodes(t *testing.T, sp NASBench101) {
	decisions := sp.Grammar()
	s := philox.New(11, philox.PurposeTest, 0)
	const batch = 5000
	var flat []int32
	all := make([][]int, batch)
	for b := range all {
		first := s.Intn(decisions.First.Choices)
		for i, step := range decisions.Steps(first) {
			a := first
			if i > 0 {
				a = s.Intn(step.Choices)
			}
			all[b] = append(all[b], a)
			flat = append(flat, int32(a))
		}
	}
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	graphs, p := ar.I32(2*batch), ar.NewProgram("decode")
	cell.Decode{Rules: cell.Rules(sp.CellRules()), Batch: batch, Actions: ar.Ints(flat), Graphs: graphs}.Record(p)
	p.Run(1)
	got := make([]int32, 2*batch)
	graphs.ReadI32(0, got)
	names := sp.Alphabet()
	moved := 0
	for b, actions := range all {
		want, err := sp.Decode(actions)
		require.NoError(t, err)
		ops, edges := graph.Unpack(uint64(uint32(got[2*b])) | uint64(uint32(got[2*b+1]))<<32)
		matrix, labels := make([][]int, len(ops)), make([]string, len(ops))
		for v, op := range ops {
			matrix[v], labels[v] = make([]int, len(ops)), names[op]
		}
		for _, e := range edges {
			matrix[e[0]][e[1]] = 1
		}
		cell, err := NewCell(matrix, labels)
		require.NoError(t, err)
		require.Equal(t, want, Arch(cell))
		require.Equal(t, len(ops), cell.Vertices(), "pruned already")
		if canonical, ok := graph.Pack(cell.Graph().Ops, cell.Graph().Edges); ok &&
			canonical != uint64(uint32(got[2*b]))|uint64(uint32(got[2*b+1]))<<32 {
			moved++
		}
	}
	if sp.MaxNodes() > 4 { // otherwise there are few cells whose order could differ
		require.Positive(t, moved, "the order is that of the decisions")
	}
}
