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

// edges is how many edges a sequence decides: as many as a cell may have.
func (sp NASBench101) edges() int {
	n := sp.MaxNodes()
	return min(maxEdges, n*(n-1)/2)
}

// freeEdges is how many of them remain when each of n interior vertices and the output have one predecessor each.
func (sp NASBench101) freeEdges(n int) int { return sp.edges() - n - 1 }

// grammar is the sequence of decisions of the code released with the paper (ctnas/core/controller/nasbench.py and
// dataset/seq2arch/nasbench.py): the number of interior vertices, 1..5 as 0..4; for each of them a predecessor among
// the vertices before it, then its operation (in the order of that code and of the data set: 0 conv3x3, 1 conv1x1, 2
// maxpool3x3); the output's predecessor; then pairs of vertices, each an edge from the smaller to the larger, or none
// where they are equal, as many as make 9 edges. Every sequence has 18 decisions. In a space of small cells the choices
// of vertices are fewer, and so are the edges where there is no room for 9.
func (sp NASBench101) grammar() *Grammar {
	vertices := sp.MaxNodes()
	g := &Grammar{
		Heads: []Head{headNodes: {"nodes", vertices - 2}, headNode: {"node", vertices}, headOp: {"op", len(opNames)}},
		First: Step{headNodes, vertices - 2},
	}
	for n := 1; n <= vertices-2; n++ {
		var steps []Step
		for v := 1; v <= n; v++ {
			steps = append(steps, Step{headNode, v}, Step{headOp, len(opNames)})
		}
		steps = append(steps, Step{headNode, n + 1})
		for range 2 * sp.freeEdges(n) {
			steps = append(steps, Step{headNode, n + 2})
		}
		g.Variants = append(g.Variants, steps)
	}
	return g
}

// decisions are the grammars by the limit of vertices.
var decisions = func() (list [maxVertices + 1]*Grammar) {
	for n := leastVertices; n <= maxVertices; n++ {
		list[n] = NASBench101{n}.grammar()
	}
	return list
}()

// Grammar describes the sequence of decisions of the code released with the CTNAS paper; see grammar.
func (sp NASBench101) Grammar() *Grammar { return sp.grammar() }

// Decode returns the cell that a sequence of decisions describes, pruned. Every sequence that the grammar allows
// describes one, since each vertex is reached from the input and there are never more than 9 edges.
func (sp NASBench101) Decode(actions []int) (Arch, error) {
	if err := decisions[sp.MaxNodes()].Check(actions); err != nil {
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
	for range sp.freeEdges(n) {
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

// CellRules say how kernels decode the sequences of a space of cells by themselves; package kernels/cell tells what the
// fields mean. Operations are numbers of the space's alphabet.
type CellRules struct {
	Inner, Edges  int
	Ops           []uint8
	Input, Output uint8
}

// CellRules are those of Decode, which only adds the canonical order of nodes.
func (sp NASBench101) CellRules() CellRules {
	return CellRules{Inner: sp.MaxNodes() - 2, Edges: sp.edges(), Ops: slices.Clone(nodeOf[:]), Input: nodeInput,
		Output: nodeOutput}
}

// Encode returns a sequence of decisions that Decode turns into a. The cell without interior vertices, which the
// sequence cannot say directly, is said with one that leads nowhere.
func (sp NASBench101) Encode(a Arch) ([]int, error) {
	if !sp.Contains(a) {
		return nil, fmt.Errorf("%T %v is not a cell of %s", a, a, sp.Name())
	}
	d := a.(Cell).unpack()
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
	none := make([]int, 2*sp.freeEdges(n)-len(extra))
	return append(append(actions, extra...), none...), nil
}
