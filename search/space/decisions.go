package space

import (
	"fmt"
	"slices"
)

// Heads of the controller for NAS-Bench-101.
const (
	headNodes = iota // how many interior vertices
	headNode         // which vertex
	headOp           // which operation, in the order conv3x3, conv1x1, maxpool3x3
)

// freeEdges is how many edges remain to be decided when each of n interior vertices and the output have one predecessor each.
func freeEdges(n int) int { return maxEdges - n - 1 }

// nasbench101Grammar is the sequence of decisions of the code released with the paper (ctnas/core/controller/nasbench.py and
// dataset/seq2arch/nasbench.py): the number of interior vertices, 1..5 as 0..4; for each of them a predecessor among the vertices before it,
// then its operation (in the order of that code and of the data set: 0 conv3x3, 1 conv1x1, 2 maxpool3x3); the output's
// predecessor; then pairs of vertices, each an edge from the smaller to the larger, or none where they are equal, as many
// as make 9 edges. Every sequence has 18 decisions.
func nasbench101Grammar() *Grammar {
	g := &Grammar{
		Heads: []Head{headNodes: {"nodes", maxInterior}, headNode: {"node", maxVertices}, headOp: {"op", len(opNames)}},
		First: Step{headNodes, maxInterior},
	}
	for n := 1; n <= maxInterior; n++ {
		var steps []Step
		for v := 1; v <= n; v++ {
			steps = append(steps, Step{headNode, v}, Step{headOp, len(opNames)})
		}
		steps = append(steps, Step{headNode, n + 1})
		for range 2 * freeEdges(n) {
			steps = append(steps, Step{headNode, n + 2})
		}
		g.Variants = append(g.Variants, steps)
	}
	return g
}

var decisions = nasbench101Grammar()

// Grammar describes the sequence of decisions of the code released with the CTNAS paper; see nasbench101Grammar.
func (NASBench101) Grammar() *Grammar { return nasbench101Grammar() }

// Decode returns the cell that a sequence of decisions describes, pruned. Every sequence that the grammar allows describes one, since each
// vertex is reached from the input and there are never more than 9 edges.
func (NASBench101) Decode(actions []int) (Arch, error) {
	if err := decisions.Check(actions); err != nil {
		return nil, err
	}
	n := actions[0] + 1
	rest := actions[1:]
	take := func() int {
		a := rest[0]
		rest = rest[1:]
		return a
	}
	d := dag{n: n + 2}
	for v := 1; v <= n; v++ {
		d.in[v] |= 1 << take()
		d.op[v] = uint8(take())
	}
	d.in[n+1] |= 1 << take()
	for range freeEdges(n) {
		if a, b := take(), take(); a != b {
			d.in[max(a, b)] |= 1 << min(a, b)
		}
	}
	cell, err := d.cell()
	if err != nil {
		return nil, err
	}
	return cell, nil
}

// CellRules say how kernels decode the sequences of a space of cells by themselves; package kernels/cell tells what the fields mean. Operations
// are numbers of the space's alphabet.
type CellRules struct {
	Inner, Edges  int
	Ops           []uint8
	Input, Output uint8
}

// CellRules are those of Decode, which only adds the canonical order of nodes.
func (NASBench101) CellRules() CellRules {
	return CellRules{Inner: maxInterior, Edges: maxEdges, Ops: slices.Clone(nodeOf[:]), Input: nodeInput, Output: nodeOutput}
}

// Encode returns a sequence of decisions that Decode turns into a. The cell without interior vertices, which the sequence cannot say
// directly, is said with one that leads nowhere.
func (NASBench101) Encode(a Arch) ([]int, error) {
	cell, ok := a.(Cell)
	if !ok {
		return nil, fmt.Errorf("%T is not a NAS-Bench-101 cell", a)
	}
	d := cell.unpack()
	if d.n == 2 {
		d = dag{n: 3, in: [maxVertices]uint8{1: 1, 2: 1}}
	}
	n := d.n - 2
	actions := []int{n - 1}
	var extra []int
	for v := 1; v <= n+1; v++ {
		first := true
		for u := range v {
			if !d.edge(u, v) {
				continue
			}
			if first {
				actions = append(actions, u)
				first = false
			} else {
				extra = append(extra, u, v)
			}
		}
		if v <= n {
			actions = append(actions, int(d.op[v]))
		}
	}
	none := make([]int, 2*freeEdges(n)-len(extra))
	return append(append(actions, extra...), none...), nil
}
