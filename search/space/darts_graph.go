package space

import (
	"cmp"
	"slices"
)

// The alphabet: input and output; and for each of the two cells its inputs, sums, its output, and an operation for each
// name and each kind of reader: of either input (in a reduction cell with stride 2) or of a node. `none` has no node.
const (
	dartsInput = iota
	dartsOutput
	dartsFirst // of the normal cell

	dartsIn0    = 0 // from here relative to a cell's first
	dartsIn1    = 1
	dartsSum    = 2
	dartsConcat = 3
	dartsOpAt   = 4
	dartsAfter  = dartsOpAt + 3*(dartsDil5) // the seven operations behind none
)

// Alphabet lists the operations of a Graph's nodes.
func (Darts) Alphabet() []string {
	names := []string{dartsInput: inputName, dartsOutput: outputName}
	for _, cell := range []string{"normal", "reduce"} {
		names = append(names, cell+" input 0", cell+" input 1", cell+" sum", cell+" output")
		for _, op := range dartsOps[dartsNone+1:] {
			names = append(names, cell+" "+op+" of input 0", cell+" "+op+" of input 1", cell+" "+op+" of a node")
		}
	}
	return names
}

// MaxNodes is 32: input, output, and of each cell two inputs, eight operations, four sums, an output.
func (Darts) MaxNodes() int { return 2 + 2*(dartsInputs+dartsEdges+dartsNodes+1) }

// Graph has the cells side by side, operations as nodes. The paper's code encodes each cell by itself and concatenates;
// here both are one graph.
func (g Genotype) Graph() Graph {
	out := Graph{Ops: []uint16{dartsInput}}
	add := func(op int, from ...uint8) uint8 { return out.add(uint16(op), from...) }
	var ends []uint8
	for i, c := range g.cells {
		first := dartsFirst + i*dartsAfter
		at := []uint8{add(first+dartsIn0, 0), add(first+dartsIn1, 0)}
		for n := range dartsNodes {
			var terms []uint8
			for _, e := range c[2*n : 2*n+2] {
				if e.op != dartsNone {
					terms = append(terms, add(first+dartsOpAt+3*(int(e.op)-1)+min(int(e.from), dartsInputs),
						at[e.from]))
				}
			}
			at = append(at, add(first+dartsSum, terms...))
		}
		ends = append(ends, add(first+dartsConcat, at[dartsInputs:]...))
	}
	add(dartsOutput, ends...)
	slices.SortFunc(out.Edges, func(a, b [2]uint8) int {
		return (int(a[0])-int(b[0]))<<8 + int(a[1]) - int(b[1])
	})
	return out
}

// dartsMacro is a network that is built of the cells.
type dartsMacro struct {
	suffix   string
	channels int64 // of the first cells' nodes
	layers   int
	classes  int64
	side     int64
	stacks   int // each but the first begins with a reduction cell
}

// at is the network at another size.
func (m dartsMacro) at(s NetworkSize) dartsMacro {
	m.side, m.classes = cmp.Or(int64(s.Side), m.side), cmp.Or(int64(s.Classes), m.classes)
	m.channels = cmp.Or(int64(s.Channels), m.channels)
	m.stacks = cmp.Or(s.Stacks, m.stacks)
	if s.Modules > 0 {
		m.layers = m.stacks * s.Modules
	}
	return m
}

// dartsMacros are the evaluation networks of the DARTS code, auxiliary heads left out.
var dartsMacros = [...]dartsMacro{
	{"", 48, 14, imageNetClasses, 224, 3},
	{"@cifar10", 36, 20, 10, 32, 3},
}

// Cost counts the network for one image.
func (g Genotype) Cost() Cost { return g.cost(dartsMacros[g.macro]) }

func (g Genotype) cost(m dartsMacro) Cost {
	half := func(side int64) int64 { return (side + 1) / 2 } // behind a stride of 2
	var c Cost
	channels, side := m.channels, m.side
	before, last := 3*channels, 3*channels // channels of the two outputs that a cell reads
	reduced := false
	beforeSide := side
	if g.macro == 0 {
		c.convolution(3, channels/2, 3, 1, half(side))
		beforeSide = half(half(side))
		c.convolution(channels/2, channels, 3, 1, beforeSide)
		c.convolution(channels, channels, 3, 1, half(beforeSide))
		before, last, side, reduced = channels, channels, half(beforeSide), true
	} else {
		c.convolution(3, 3*channels, 3, 1, side)
	}
	stack := 0
	for i := range m.layers {
		cell, stride, out := &g.cells[0], int64(1), side
		if i == (stack+1)*m.layers/m.stacks {
			cell, stride, out = &g.cells[1], 2, half(side)
			channels *= 2
			stack++
		}
		if reduced {
			c.factorized(before, channels, half(beforeSide))
		} else {
			c.convolution(before, channels, 1, 1, beforeSide)
		}
		c.convolution(last, channels, 1, 1, side)
		for _, e := range cell {
			if e.from < dartsInputs {
				c.dartsOp(e.op, channels, stride, out)
			} else {
				c.dartsOp(e.op, channels, 1, out)
			}
		}
		before, last, beforeSide, side = last, dartsNodes*channels, side, out
		reduced = stride == 2
	}
	c.MAdds += last * m.classes
	c.Params += last*m.classes + m.classes
	return c
}

// factorized is a reduction by two 1x1 convolutions of stride 2.
func (c *Cost) factorized(in, out, side int64) {
	c.convolution(in, out/2, 1, 1, side)
	c.convolution(in, out-out/2, 1, 1, side)
}

// depthwise adds a depthwise convolution without batch norm.
func (c *Cost) depthwise(channels, kernel, side int64) {
	c.MAdds += channels * kernel * kernel * side * side
	c.Params += channels * kernel * kernel
}

// dartsOp adds an operation; side is that of its output.
func (c *Cost) dartsOp(op uint8, channels, stride, side int64) {
	kernel := int64(3)
	if op == dartsSep5 || op == dartsDil5 {
		kernel = 5
	}
	switch op {
	case dartsSkip:
		if stride == 2 {
			c.factorized(channels, channels, side)
		}
	case dartsSep3, dartsSep5, dartsDil3, dartsDil5:
		c.depthwise(channels, kernel, side)
		c.convolution(channels, channels, 1, 1, side)
		if op == dartsSep3 || op == dartsSep5 {
			c.depthwise(channels, kernel, side)
			c.convolution(channels, channels, 1, 1, side)
		}
	}
}
