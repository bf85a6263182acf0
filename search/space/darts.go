package space

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
)

const dartsName = "darts"

// dartsOps are the operations in the order of the DARTS code (Liu et al., ICLR 2019; quark0/darts, genotypes.py).
var dartsOps = [...]string{"none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
	"dil_conv_3x3", "dil_conv_5x5"}

const (
	dartsNone = iota
	dartsMaxPool
	dartsAvgPool
	dartsSkip
	dartsSep3
	dartsSep5
	dartsDil3
	dartsDil5
)

// A cell has two inputs, the outputs of the two cells before, and four nodes, each the sum of two operations; its
// output concatenates the nodes.
const (
	dartsInputs = 2
	dartsNodes  = 4
	dartsEdges  = 2 * dartsNodes
)

// dartsEdge is an operation and what it reads: 0 and 1 are the cell's inputs, from 2 on its nodes.
type dartsEdge struct{ op, from uint8 }

func (e dartsEdge) compare(o dartsEdge) int {
	return cmp.Or(cmp.Compare(e.from, o.from), cmp.Compare(e.op, o.op))
}

// dartsCell is the operations of a cell, those of node n at 2n and 2n+1.
type dartsCell [dartsEdges]dartsEdge

// Genotype is an architecture of the DARTS space: a normal and a reduction cell, and the network built of them. It is
// canonical, so that isomorphic ones are equal with ==: of all orders of the nodes and of each node's two operations
// the one that is first; and an operation `none`, which is zero whatever it reads, reads input 0. The order of the
// nodes does not matter to a network, for the channels that a cell concatenates next meet a 1x1 convolution or the
// classifier.
type Genotype struct {
	cells [2]dartsCell // normal, reduction
	macro uint8        // index into dartsMacros
}

// Cells are the operations of the normal and of the reduction cell as the community writes them: two a node, name and
// what it reads.
func (g Genotype) Cells() (normal, reduce []DartsOp) {
	for i, c := range g.cells {
		for _, e := range c {
			op := DartsOp{dartsOps[e.op], int(e.from)}
			if i == 0 {
				normal = append(normal, op)
			} else {
				reduce = append(reduce, op)
			}
		}
	}
	return normal, reduce
}

// DartsOp is an operation of a cell: 0 and 1 are the cell's inputs, 2..4 its nodes.
type DartsOp struct {
	Name string
	From int
}

// String is the canonical text, darts:Genotype(...), with @cifar10 behind for the network on CIFAR-10.
func (g Genotype) String() string {
	var b strings.Builder
	b.WriteString(dartsName + ":Genotype(")
	for i, name := range []string{"normal", "reduce"} {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name + "=[")
		for k, e := range g.cells[i] {
			if k > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "('%s', %d)", dartsOps[e.op], e.from)
		}
		fmt.Fprintf(&b, "], %s_concat=range(2, 6)", name)
	}
	b.WriteString(")" + dartsMacros[g.macro].suffix)
	return b.String()
}

// Hash is the MD5 of the text, since no fingerprint is published.
func (g Genotype) Hash() string { return textHash(g.String()) }

// canonical brings a cell to the form that Genotype describes. Edges read lower nodes only.
func (c dartsCell) canonical() dartsCell {
	for i := range c {
		if c[i].op == dartsNone {
			c[i].from = 0
		}
	}
	r := dartsOrder{cell: c}
	for i := range r.number {
		r.number[i] = uint8(i) // the inputs keep their numbers
	}
	r.place(0, 0)
	return r.best
}

// dartsOrder tries the topological orders of a cell's nodes.
type dartsOrder struct {
	cell, made, best dartsCell
	number           [dartsInputs + dartsNodes]uint8 // what a placed node is called
	found            bool
}

// place puts every node that can stand next at place n.
func (r *dartsOrder) place(n int, placed uint8) {
	if n == dartsNodes {
		if !r.found || slices.CompareFunc(r.made[:], r.best[:], dartsEdge.compare) < 0 {
			r.best, r.found = r.made, true
		}
		return
	}
	for v := range dartsNodes {
		if placed>>v&1 == 1 {
			continue
		}
		pair, ready := [2]dartsEdge{}, true
		for k := range pair {
			e := r.cell[2*v+k]
			if e.from >= dartsInputs {
				ready = ready && placed>>(e.from-dartsInputs)&1 == 1
			}
			pair[k] = dartsEdge{e.op, r.number[e.from]}
		}
		if !ready {
			continue
		}
		if pair[1].compare(pair[0]) < 0 {
			pair[0], pair[1] = pair[1], pair[0]
		}
		r.made[2*n], r.made[2*n+1] = pair[0], pair[1]
		kept := r.number[dartsInputs+v]
		r.number[dartsInputs+v] = uint8(dartsInputs + n)
		r.place(n+1, placed|1<<v)
		r.number[dartsInputs+v] = kept
	}
}

// Darts is the space of pairs of cells, in the network for ImageNet or for CIFAR-10.
type Darts struct{ macro uint8 }

// openDarts reads darts, the network for ImageNet, or darts@cifar10.
func openDarts(name string) (Space, error) {
	for i, m := range dartsMacros {
		if name == dartsName+m.suffix {
			return Darts{uint8(i)}, nil
		}
	}
	return nil, fmt.Errorf("search space %q: want %s or %s%s", name, dartsName, dartsName, dartsMacros[1].suffix)
}

// Name is "darts" or "darts@cifar10".
func (sp Darts) Name() string { return dartsName + dartsMacros[sp.macro].suffix }

// Positional: an operation says in which cell it stands and what it reads.
func (Darts) Positional() {}

// maxGenotypeBytes bounds a text; the longest canonical one has some 600.
const maxGenotypeBytes = 4096

// Parse reads darts:Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...],
// reduce_concat=range(2, 6)) with eight entries a cell, two a node, or the same without "darts:". @cifar10 or nothing
// may follow; without it the network is the space's. Other forms that are about are read too: behind words, as in
// genotype = Genotype(...) and in lines of logs; a list for each node; [2, 3, 4, 5] in place of range(2, 6);
// np.str_('sep_conv_3x3') in place of a text.
func (sp Darts) Parse(s string) (Arch, error) {
	g, err := sp.parse(s)
	if err != nil {
		return nil, fmt.Errorf("architecture %.300q: %w", s, err)
	}
	for i := range g.cells {
		g.cells[i] = g.cells[i].canonical()
	}
	return g, nil
}

// parse reads a genotype as it is written: it is not in canonical form, so that no comparison is to be made with it.
func (sp Darts) parse(s string) (Genotype, error) {
	g := Genotype{macro: sp.macro}
	if len(s) > maxGenotypeBytes {
		return g, fmt.Errorf("%d bytes, more than any genotype has", len(s))
	}
	text := strings.TrimPrefix(plainWords(s), dartsName+":")
	for i, m := range dartsMacros {
		if cut, ok := strings.CutSuffix(text, m.suffix); ok && m.suffix != "" {
			text, g.macro = cut, uint8(i)
		}
	}
	text, found := pyCalls(strings.TrimSpace(text), "Genotype")
	const want = dartsName + ":Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), " +
		"reduce=[...], reduce_concat=range(2, 6))"
	if !found {
		return g, fmt.Errorf("want %s", want)
	}
	read, err := parsePython(text)
	if err != nil {
		return g, fmt.Errorf("%w; want %s", err, want)
	}
	call, ok := read.(pyCall)
	if !ok || len(call.arguments) != len(call.keys) {
		return g, fmt.Errorf("the parts of a Genotype have no names; want %s", want)
	}
	for _, key := range call.keys {
		if !slices.Contains([]string{"normal", "normal_concat", "reduce", "reduce_concat"}, key) {
			return g, fmt.Errorf("a Genotype with %.40q; want %s", key, want)
		}
	}
	for i, name := range []string{"normal", "reduce"} {
		operations, there := call.named(name)
		if !there {
			return g, fmt.Errorf("a Genotype without %s; want %s", name, want)
		}
		concat, there := call.named(name + "_concat")
		if !there {
			return g, fmt.Errorf("a Genotype without %s_concat; want %s", name, want)
		}
		if !isAllNodes(concat) {
			return g, fmt.Errorf("%s_concat is %s: this space concatenates all four nodes, range(2, 6)",
				name, said(concat))
		}
		cell, err := dartsCellOf(operations)
		if err != nil {
			return g, fmt.Errorf("%s cell: %w", name, err)
		}
		g.cells[i] = cell
	}
	return g, nil
}

// isAllNodes tells whether what a cell concatenates are all its nodes, in any order: see Genotype.
func isAllNodes(v any) bool {
	list, _ := v.(pyList)
	var seen [dartsInputs + dartsNodes]bool
	for _, x := range list {
		n, ok := x.(float64)
		if !ok || n != math.Trunc(n) || n < dartsInputs || n >= float64(len(seen)) || seen[int(n)] {
			return false
		}
		seen[int(n)] = true
	}
	return len(list) == dartsNodes
}

// dartsCellOf reads the operations of a cell: a list of them, or a list of each node's two.
func dartsCellOf(v any) (dartsCell, error) {
	var c dartsCell
	list, ok := v.(pyList)
	if !ok {
		return c, fmt.Errorf("%s, want a list of operations", said(v))
	}
	if nodes := slices.ContainsFunc(list, isNode); nodes {
		var flat pyList
		for n, x := range list {
			pair, _ := x.(pyList)
			if len(pair) != 2 {
				return c, fmt.Errorf("node %d has %s, want two operations ('name', number)", n, said(x))
			}
			flat = append(flat, pair...)
		}
		list = flat
	}
	if len(list) != dartsEdges {
		return c, fmt.Errorf("%d operations, want %d, two a node", len(list), dartsEdges)
	}
	for i, x := range list {
		pair, _ := x.(pyList)
		var name pyText
		var from float64
		isOperation := len(pair) == 2
		if isOperation {
			var isText, isNumber bool
			name, isText = pair[0].(pyText)
			from, isNumber = pair[1].(float64)
			isOperation = isText && isNumber && from == math.Trunc(from)
		}
		if !isOperation {
			return c, fmt.Errorf("operation %d is %s, want ('name', number)", i, said(x))
		}
		op := slices.Index(dartsOps[:], string(name))
		if op < 0 {
			known := strings.Join(dartsOps[:], ", ")
			return c, fmt.Errorf("operation %d: unknown name %.40q; known: %s", i, string(name), known)
		}
		if node := dartsInputs + i/2; from < 0 || from >= float64(node) {
			return c, fmt.Errorf("operation %d reads node %g: node %d may read 0..%d", i, from, node, node-1)
		}
		c[i] = dartsEdge{uint8(op), uint8(from)}
	}
	return c, nil
}

// isNode tells whether a value is a list of lists, the operations of a node.
func isNode(v any) bool {
	list, _ := v.(pyList)
	if len(list) == 0 {
		return false
	}
	_, is := list[0].(pyList)
	return is
}

// Sample draws with the same probability for each distinct pair of cells: a written cell is drawn, and drawn again
// until it is canonical, which one of each isomorphism class is.
func (sp Darts) Sample(s *philox.Stream) Arch {
	g := Genotype{macro: sp.macro}
	for i := range g.cells {
		for {
			c := &g.cells[i]
			for k := range c {
				c[k] = dartsEdge{uint8(s.Intn(len(dartsOps))), uint8(s.Intn(dartsInputs + k/2))}
			}
			if c.canonical() == *c {
				break
			}
		}
	}
	return g
}

// Mutate returns a different genotype with one operation, or what one operation reads, drawn again (Real et al., AAAI
// 2019). a must be a Genotype.
func (sp Darts) Mutate(a Arch, s *philox.Stream) Arch {
	parent := a.(Genotype)
	for {
		g := parent
		c := &g.cells[s.Intn(len(g.cells))]
		e := s.Intn(dartsEdges)
		if s.Intn(2) == 0 {
			c[e].op = uint8(s.Intn(len(dartsOps)))
		} else {
			c[e].from = uint8(s.Intn(dartsInputs + e/2))
		}
		if *c = c.canonical(); g != parent {
			return g
		}
	}
}

// Cross takes every node of both cells from one of the parents, of equal probability.
func (sp Darts) Cross(x, y Arch, s *philox.Stream) Arch {
	a, b := x.(Genotype), y.(Genotype)
	g := a
	for i := range g.cells {
		for n := range dartsNodes {
			if s.Intn(2) == 1 {
				copy(g.cells[i][2*n:2*n+2], b.cells[i][2*n:])
			}
		}
		g.cells[i] = g.cells[i].canonical()
	}
	return g
}

// Grammar decides, for each node of the normal and then of the reduction cell, what its two operations read, then which
// they are. Every decision has a head of its own.
func (Darts) Grammar() *Grammar {
	g := &Grammar{}
	var steps []Step
	add := func(name string, choices int) {
		steps = append(steps, Step{len(g.Heads), choices})
		g.Heads = append(g.Heads, Head{name, choices})
	}
	for _, cell := range []string{"normal", "reduce"} {
		for n := range dartsNodes {
			for k := range 2 {
				add(fmt.Sprintf("%s%d.from%d", cell, n+dartsInputs, k), n+dartsInputs)
			}
			for k := range 2 {
				add(fmt.Sprintf("%s%d.op%d", cell, n+dartsInputs, k), len(dartsOps))
			}
		}
	}
	g.fixed(steps)
	return g
}

var dartsDecisions = Darts{}.Grammar()

// Decode returns the genotype of a sequence of decisions.
func (sp Darts) Decode(actions []int) (Arch, error) {
	if err := dartsDecisions.Check(actions); err != nil {
		return nil, err
	}
	g := Genotype{macro: sp.macro}
	for i := range g.cells {
		for n := range dartsNodes {
			for k := range 2 {
				g.cells[i][2*n+k] = dartsEdge{uint8(actions[2+k]), uint8(actions[k])}
			}
			actions = actions[4:]
		}
		g.cells[i] = g.cells[i].canonical()
	}
	return g, nil
}

// Encode returns the decisions of a genotype.
func (sp Darts) Encode(a Arch) ([]int, error) {
	g, ok := a.(Genotype)
	if !ok || g.macro != sp.macro {
		return nil, fmt.Errorf("%v is no architecture of %s", a, sp.Name())
	}
	var actions []int
	for _, c := range g.cells {
		for n := range dartsNodes {
			x, y := c[2*n], c[2*n+1]
			actions = append(actions, int(x.from), int(y.from), int(x.op), int(y.op))
		}
	}
	return actions, nil
}
