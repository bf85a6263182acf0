package space

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

const nasbench201Name = "nasbench201"

// edgeOps are the operations of NAS-Bench-201's edges (Dong & Yang, ICLR 2020), in the order of its code.
var edgeOps = [...]string{"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"}

const (
	edgeNone = iota
	edgeSkip
	edgeConv1x1
	edgeConv3x3
	edgeAvgPool
)

const cellEdges = len(zoo.EdgesOf201)

// The network of the benchmark on CIFAR-10, see zoo.Network201.
const (
	side201, classes201, channels201 = 32, 10, 16
	stacks201, modules201            = 3, 5
)

// EdgeCell is an architecture of NAS-Bench-201: an operation for each of the cell's six edges, in the order of
// zoo.EdgesOf201. The benchmark trained all 15,625 of them, isomorphic ones apart, and so are they told apart here: it
// counts 6,466 that differ otherwise than by identities, zeros and the order of sums.
type EdgeCell [cellEdges]uint8

// NASBench201 is the space of the 15,625 cells of NAS-Bench-201.
type NASBench201 struct{}

var (
	_ Enumerable = NASBench201{}
	_ Crosser    = NASBench201{}
	_ Positional = NASBench201{}
	_ Coder      = NASBench201{}
	_ Columned   = NASBench201{}
	_ Measurable = NASBench201{}
	_ Alike      = EdgeCell{}
)

// Name is "nasbench201".
func (NASBench201) Name() string { return nasbench201Name }

// Positional: an operation says on which edge it stands.
func (NASBench201) Positional() {}

// String is the benchmark's text behind the space's name: nasbench201:|op~0|+|op~0|op~1|+|op~0|op~1|op~2|.
func (c EdgeCell) String() string {
	var b strings.Builder
	b.WriteString(nasbench201Name + ":")
	for k, e := range zoo.EdgesOf201 {
		if e[0] == 0 && k > 0 {
			b.WriteString("|+")
		}
		fmt.Fprintf(&b, "|%s~%d", edgeOps[c[k]], e[0])
	}
	return b.String() + "|"
}

// Hash is the MD5 of the text, since no fingerprint is published.
func (c EdgeCell) Hash() string { return textHash(c.String()) }

// Parse reads nasbench201:|op~0|+|op~0|op~1|+|op~0|op~1|op~2|, or the same without "nasbench201:", or as the
// benchmark's code prints it: Structure(4 nodes with |...|).
func (NASBench201) Parse(text string) (Arch, error) {
	body := strings.TrimPrefix(strings.TrimSpace(text), nasbench201Name+":")
	if inner, printed := strings.CutPrefix(body, "Structure(4 nodes with "); printed {
		body = strings.TrimSuffix(inner, ")")
	}
	words := strings.Split(body, "|") // empty, op~0, +, op~0, op~1, +, op~0, op~1, op~2, empty
	var c EdgeCell
	wrong := func(format string, args ...any) (Arch, error) {
		return nil, fmt.Errorf("architecture %.200q: %w", text, fmt.Errorf(format, args...))
	}
	at := 0
	for k, e := range zoo.EdgesOf201 {
		if e[0] == 0 {
			if want := map[bool]string{true: "", false: "+"}[k == 0]; at >= len(words) || words[at] != want {
				return wrong("want |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
			}
			at++
		}
		if at >= len(words) {
			return wrong("%d operations, want %d", k, cellEdges)
		}
		name, from, _ := strings.Cut(words[at], "~")
		op := slices.Index(edgeOps[:], name)
		if op < 0 || from != fmt.Sprint(e[0]) {
			return wrong("edge %d>%d is %.40q, want an operation and ~%d; known: %s", e[0], e[1], words[at], e[0],
				strings.Join(edgeOps[:], ", "))
		}
		c[k] = uint8(op)
		at++
	}
	if at != len(words)-1 || words[at] != "" {
		return wrong("something stands behind the sixth operation")
	}
	return c, nil
}

// output201 is the output's place in the alphabet, behind the operations of the edges.
const output201 uint16 = 3 + uint16(cellEdges*(len(edgeOps)-1))

// letter is an operation other than none in the alphabet, which tells apart on which edge it stands.
func letter(edge int, op uint8) uint16 { return uint16(3 + edge*(len(edgeOps)-1) + int(op) - 1) }

// Alphabet is input and the two inner nodes, the operations of each edge but none, and output.
func (NASBench201) Alphabet() []string {
	names := []string{inputName, "node1", "node2"}
	for _, e := range zoo.EdgesOf201 {
		for _, op := range edgeOps[1:] {
			names = append(names, fmt.Sprintf("%d>%d %s", e[0], e[1], op))
		}
	}
	return append(names, outputName)
}

// MaxNodes counts four nodes and six edges.
func (NASBench201) MaxNodes() int { return 4 + cellEdges }

// Graph has an operation other than none as a node between the ends of its edge.
func (c EdgeCell) Graph() Graph {
	g := Graph{Ops: []uint16{0}}
	nodes := []uint8{0}
	var from []uint8
	for k, e := range zoo.EdgesOf201 {
		if c[k] != edgeNone {
			from = append(from, g.add(letter(k, c[k]), nodes[e[0]]))
		}
		if e[0] == e[1]-1 { // the last edge into its node
			op := uint16(e[1])
			if e[1] == 3 {
				op = output201
			}
			nodes, from = append(nodes, g.add(op, from...)), nil
		}
	}
	slices.SortFunc(g.Edges, func(x, y [2]uint8) int {
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})
	return g
}

// grammar201 decides the operations in the order of the edges, with a head each.
var grammar201 = func() *Grammar {
	g := &Grammar{}
	var steps []Step
	for k, name := range (NASBench201{}).Columns() {
		g.Heads = append(g.Heads, Head{name, len(edgeOps)})
		steps = append(steps, Step{k, len(edgeOps)})
	}
	g.fixed(steps)
	return g
}()

// Grammar decides the operations in the order of the edges.
func (NASBench201) Grammar() *Grammar { return grammar201 }

// Decode returns the cell of six decisions.
func (NASBench201) Decode(actions []int) (Arch, error) {
	if err := grammar201.Check(actions); err != nil {
		return nil, err
	}
	var c EdgeCell
	for k, a := range actions {
		c[k] = uint8(a)
	}
	return c, nil
}

// Encode returns the decisions of a cell.
func (sp NASBench201) Encode(a Arch) ([]int, error) {
	c, ok := a.(EdgeCell)
	if !ok {
		return nil, fmt.Errorf("%v is no architecture of %s", a, sp.Name())
	}
	return ints(c[:]), nil
}

// Sample draws each operation with the same probability.
func (NASBench201) Sample(s *philox.Stream) Arch {
	var c EdgeCell
	for k := range c {
		c[k] = uint8(s.Intn(len(edgeOps)))
	}
	return c
}

// Mutate replaces the operation of one edge by another, as the benchmark's regularised evolution does.
func (NASBench201) Mutate(a Arch, s *philox.Stream) Arch {
	c := a.(EdgeCell)
	k := s.Intn(cellEdges)
	c[k] = (c[k] + 1 + uint8(s.Intn(len(edgeOps)-1))) % uint8(len(edgeOps))
	return c
}

// Cross takes every operation from one of the parents, of equal probability.
func (NASBench201) Cross(x, y Arch, s *philox.Stream) Arch {
	c, other := x.(EdgeCell), y.(EdgeCell)
	for k := range c {
		if s.Intn(2) == 1 {
			c[k] = other[k]
		}
	}
	return c
}

// All lists the cells in the order of ascending hash.
func (NASBench201) All(ctx context.Context, progress func(done, total int)) ([]Arch, error) {
	total := 1
	for range cellEdges {
		total *= len(edgeOps)
	}
	list, hashes := make([]Arch, total), make(map[Arch]string, total)
	for i := range list {
		var c EdgeCell
		for k, rest := cellEdges-1, i; k >= 0; k-- {
			c[k], rest = uint8(rest%len(edgeOps)), rest/len(edgeOps)
		}
		list[i], hashes[c] = c, c.Hash()
	}
	slices.SortFunc(list, func(a, b Arch) int { return strings.Compare(hashes[a], hashes[b]) })
	if progress != nil {
		progress(total, total)
	}
	return list, ctx.Err()
}

// CodeBytes is one an edge.
func (NASBench201) CodeBytes() int { return cellEdges }

// AppendCode appends the operations' numbers.
func (NASBench201) AppendCode(code []byte, a Arch) ([]byte, bool) {
	c, ok := a.(EdgeCell)
	return append(code, c[:]...), ok
}

// CheckCode refuses operations that there are not.
func (sp NASBench201) CheckCode(code []byte) error {
	for _, op := range code {
		if int(op) >= len(edgeOps) {
			return fmt.Errorf("%x is no architecture of %s", code, sp.Name())
		}
	}
	return nil
}

// FromCode returns the EdgeCell.
func (NASBench201) FromCode(code []byte) Arch { return EdgeCell(code) }

// Columns are 0>1, 0>2, 1>2, 0>3, 1>3 and 2>3: of each edge the operation.
func (NASBench201) Columns() []string {
	var names []string
	for _, e := range zoo.EdgesOf201 {
		names = append(names, fmt.Sprintf("%d>%d", e[0], e[1]))
	}
	return names
}

// FromColumns reads names of operations.
func (sp NASBench201) FromColumns(fields []string) (Arch, error) {
	var c EdgeCell
	for k, name := range sp.Columns() {
		op := slices.Index(edgeOps[:], strings.TrimSpace(fields[k]))
		if op < 0 {
			return nil, fmt.Errorf("column %s: unknown operation %.40q; known: %s", name, fields[k],
				strings.Join(edgeOps[:], ", "))
		}
		c[k] = uint8(op)
	}
	return c, nil
}

// of201 is a size with the benchmark's own where it says nothing.
func of201(s NetworkSize) NetworkSize {
	return NetworkSize{
		Side: cmp.Or(s.Side, side201), Classes: cmp.Or(s.Classes, classes201),
		Channels: cmp.Or(s.Channels, channels201),
		Stacks:   cmp.Or(s.Stacks, stacks201), Modules: cmp.Or(s.Modules, modules201),
	}
}

// Network is the benchmark's network around the cell.
func (c EdgeCell) Network(s NetworkSize) (*nn.Network, error) {
	s = of201(s)
	n := zoo.Network201{Side: s.Side, Classes: s.Classes, Channels: s.Channels, Stacks: s.Stacks, Cells: s.Modules}
	for k, op := range c {
		n.Edges[k] = edgeOps[op]
	}
	net, err := n.Build()
	if err != nil {
		return nil, err
	}
	net.Name = c.String()
	return net, nil
}

// Alike: operations keep what they read.
func (EdgeCell) Alike() {}

// Cost is of the benchmark's network on CIFAR-10. Parameters equal the published ones; the published FLOPs are
// multiply-adds with one more for each class, the classifier's bias.
func (c EdgeCell) Cost() Cost { return c.CostAt(NetworkSize{}) }

// CostAt counts as Cost does.
func (c EdgeCell) CostAt(s NetworkSize) Cost {
	s = of201(s)
	if s.Side < 1 || s.Channels < 1 || s.Classes < 1 {
		return Cost{Unknown, Unknown}
	}
	width, side := int64(s.Channels), int64(s.Side)
	var sum Cost
	convolution := func(times, kernel, in, out int64) {
		weights := times * kernel * kernel * in * out
		sum.Params += weights
		sum.MAdds += weights * side * side
	}
	norm := func(times, channels int64) { sum.Params += times * 2 * channels }
	convolution(1, 3, imageChannels, width)
	norm(1, width)
	for stack := range s.Stacks {
		if stack > 0 {
			side = (side + 1) / 2
			convolution(1, 3, width, 2*width)
			convolution(1, 1, width, 2*width)
			width *= 2
			convolution(1, 3, width, width)
			norm(2, width)
		}
		for _, op := range c {
			if kernel := map[uint8]int64{edgeConv1x1: 1, edgeConv3x3: 3}[op]; kernel > 0 {
				convolution(int64(s.Modules), kernel, width, width)
				norm(int64(s.Modules), width)
			}
		}
	}
	norm(1, width)
	sum.Params += (width + 1) * int64(s.Classes)
	sum.MAdds += width * int64(s.Classes)
	return sum
}

// Parts of the network that take time: the stem, the head, the residual block before each stack but the first, and each
// stack's operations but none and skip_connect, which copy nothing.
const (
	stem201 = iota
	head201
	residuals201
	parts201 = residuals201 + stacks201 - 1
	timed201 = edgeAvgPool - edgeSkip // operations a stack
)

// Parts are stem, head, stack2/residual, stack3/residual, and stack1/nor_conv_1x1 and so on to stack3/avg_pool_3x3.
func (NASBench201) Parts() []string {
	names := []string{"stem", "head", "stack2/residual", "stack3/residual"}
	for stack := range stacks201 {
		for _, op := range edgeOps[edgeConv1x1:] {
			names = append(names, fmt.Sprintf("stack%d/%s", stack+1, op))
		}
	}
	return names
}

// timed visits the edges whose operation takes time: what leads nowhere is not computed.
func (c EdgeCell) timed(visit func(edge int, op uint8)) {
	leads := [4]bool{3: true}
	for k := cellEdges - 1; k >= 0; k-- { // by descending target
		if e := zoo.EdgesOf201[k]; c[k] != edgeNone && leads[e[1]] {
			leads[e[0]] = true
		}
	}
	for k, e := range zoo.EdgesOf201 {
		if c[k] >= edgeConv1x1 && leads[e[1]] {
			visit(k, c[k])
		}
	}
}

// EachPart visits what the network computes, in its order but for the head.
func (NASBench201) EachPart(a Arch, visit func(part int)) bool {
	c, ok := a.(EdgeCell)
	if !ok {
		return false
	}
	visit(stem201)
	for stack := range stacks201 {
		if stack > 0 {
			visit(residuals201 + stack - 1)
		}
		for range modules201 {
			c.timed(func(_ int, op uint8) { visit(parts201 + stack*timed201 + int(op) - edgeConv1x1) })
		}
	}
	visit(head201)
	return true
}

// Dissect builds the benchmark's network: the sum behind a node's operations stands with the last of them.
func (sp NASBench201) Dissect(a Arch) (net *nn.Network, section, part []int, err error) {
	c, ok := a.(EdgeCell)
	if !ok {
		return nil, nil, nil, fmt.Errorf("%v is no architecture of %s", a, sp.Name())
	}
	if net, err = c.Network(NetworkSize{}); err != nil {
		return nil, nil, nil, err
	}
	sp.EachPart(a, func(p int) { part = append(part, p) })
	var timed [cellEdges]bool
	c.timed(func(edge int, _ uint8) { timed[edge] = true })
	section = make([]int, len(net.Nodes))
	last, at := "", 0
	for i, node := range net.Nodes {
		words := strings.SplitN(node.Name, "/", 3)
		key := ""
		switch {
		case words[0] == "last" || words[0] == "pool" || words[0] == "classifier":
			key = "head"
		case len(words) == 3 && strings.HasPrefix(words[1], "edge"):
			if timed[words[1][len("edge")]-'0'] {
				key = words[0] + words[1]
			}
		case len(words) >= 2 && slices.Contains([]string{"first", "second", "shortcut", "sum"}, words[1]):
			key = words[0]
		}
		if key != "" && key != last {
			last = key
			at++
		}
		section[i] = at
	}
	return net, section, part, nil
}

// Cover draws three cells, in which each edge has each of the operations that take time once.
func (NASBench201) Cover(s *philox.Stream) []Arch {
	out := make([]Arch, timed201)
	var cells [timed201]EdgeCell
	for k := range cellEdges {
		for i, op := range s.Perm(timed201) {
			cells[i][k] = uint8(edgeConv1x1 + op)
		}
	}
	for i, c := range cells {
		out[i] = c
	}
	return out
}
