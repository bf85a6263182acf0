package gcn

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
)

// Places takes the operations of an alphabet apart, in spaces in which an operation says where in the network it
// stands: each is a kind, such as a 3x3 convolution, at a place, such as an edge of a cell. A row of a gated network's
// tables is then the sum of the kind's, the place's and a small one of the operation's own. So what is learned of a
// kind at one place serves at the others, what holds for a place serves all kinds there, and what is left can be said,
// too.
type Places struct {
	Kind  []int32 // of each operation, from 0
	Place []int32 // of each operation, from 0; NoPlace: it has none beside its kind
}

// NoPlace is the place of an operation that stands at one place only, such as the input.
const NoPlace = -1

// Kinds is how many different kinds there are.
func (p *Places) Kinds() int { return int(slices.Max(p.Kind)) + 1 }

// summand is a table of which rows are added up: its tensor's name ends in suffix.
type summand struct {
	suffix string
	row    []int32 // of each operation; NoPlace: none
	rows   int
	sd     float64 // of the initial weights
}

// summands are the tables of kinds, of places, and of operations. Where no operation has a place it is its kind alone.
func (p *Places) summands() []summand {
	if slices.Max(p.Place) == NoPlace {
		return []summand{{"", p.Kind, p.Kinds(), 0.5}}
	}
	own := make([]int32, len(p.Kind))
	for k := range own {
		own[k] = int32(k)
	}
	return []summand{{"", p.Kind, p.Kinds(), 0.5}, {".place", p.Place, int(slices.Max(p.Place)) + 1, 0.5},
		{".own", own, len(own), 0.3}}
}

// lists are the rows that each operation adds: one or none.
func (t summand) lists() (ptr, idx []int32) {
	ptr = make([]int32, 1, len(t.row)+1)
	for _, row := range t.row {
		if row != NoPlace {
			idx = append(idx, row)
		}
		ptr = append(ptr, int32(len(idx)))
	}
	return ptr, idx
}

// check tells whether they are of an alphabet.
func (p *Places) check(alphabet int) error {
	if len(p.Kind) != alphabet || len(p.Place) != alphabet {
		return fmt.Errorf("%d kinds and %d places for %d operations", len(p.Kind), len(p.Place), alphabet)
	}
	for k := range p.Kind {
		if p.Kind[k] < 0 || int(p.Kind[k]) >= alphabet || p.Place[k] < NoPlace || int(p.Place[k]) >= alphabet {
			return fmt.Errorf("operation %d is kind %d at place %d, of %d operations", k, p.Kind[k], p.Place[k],
				alphabet)
		}
	}
	return nil
}

// Of is a graph with the kinds of its nodes as their operations.
func (p *Places) Of(g Graph) Graph {
	if p == nil {
		return g
	}
	ops := make([]uint16, len(g.Ops))
	for v, op := range g.Ops {
		ops[v] = uint16(p.Kind[op])
	}
	return Graph{Ops: ops, Edges: g.Edges}
}

// summed records the table [operations, 2·Width] of the sums.
func (s *pass) summed(name string) *exec.Buffer {
	p, w := s.lay.places, 2*s.Width
	out := s.ar.F32(len(p.Kind) * w)
	for i, t := range p.summands() {
		ptr, idx := t.lists()
		graph.Gather{Out: out, In: s.weight(name + t.suffix), Rows: exec.Fixed(len(t.row)), Width: w,
			Ptr: s.ar.Ints(ptr), Idx: s.ar.Ints(idx), Accumulate: i > 0}.Record(s.p)
	}
	return out
}

// summedBackward records the gradients of the tables from that of the sums [operations, 2·Width].
func (s *pass) summedBackward(name string, grad *exec.Buffer) {
	w := 2 * s.Width
	for _, t := range s.lay.places.summands() {
		ptr, idx := t.lists()
		ptr, idx = transpose(ptr, idx, t.rows)
		graph.Gather{Out: s.gradient(name + t.suffix), In: grad, Rows: exec.Fixed(t.rows), Width: w,
			Ptr: s.ar.Ints(ptr), Idx: s.ar.Ints(idx)}.Record(s.p)
	}
}
