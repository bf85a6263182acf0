package zoo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// The supernet of NAS-Bench-101 (Yu et al., "Evaluating the search phase of neural architecture search", ICLR 2020)
// keeps its weights on vertices: vertex v of a cell, the input being 0, takes those of slot v, the output those of a
// slot of its own. A slot has a projection of the cell's input and a 3x3 and a 1x1 convolution, all as wide as the
// cell's output; a vertex with fewer channels takes the first ones of both sides. The output's projection is never
// narrower.

// outputSlot names the output's slot.
const outputSlot = "output"

// CellSupernet is the supernet of cells of up to so many interior vertices, in the network of a CellNetwork, whose Cell
// is not looked at.
type CellSupernet struct {
	CellNetwork
	Interior int // vertices between input and output: 5 in the whole space
}

// Shared are the supernet's variables: those of a network in which every vertex sums all of its layers.
func (c CellSupernet) Shared() (nn.Shared, error) {
	net, err := c.around(nil, func(b *nn.Builder, input nn.Tensor, out int) nn.Tensor {
		project := func(slot string) nn.Tensor {
			return b.Scope("%s", slot).Scope("projection").ConvNorm(input, nn.Conv2D(1, out), nn.ReLU)
		}
		sum := project(outputSlot)
		for v := range c.Interior {
			slot := fmt.Sprintf("vertex%d", v+1)
			in := []nn.Tensor{sum, project(slot)}
			for _, op := range cellOps[:2] { // those that have weights
				in = append(in, cellOp(b.Scope("%s", slot).Scope("%s", op), op, sum))
			}
			sum = b.Scope("%s", slot).Apply("sum", nn.Add{}, in...)
		}
		return sum
	})
	if err != nil {
		return nn.Shared{}, err
	}
	return nn.Shared{Name: "supernet of nasbench101", Variables: net.Variables()}, nil
}

// Path is the network of a cell over the variables of Shared: its interior vertices, in their order, have the weights
// of some slots, numbers from 1 on. No slots are the first ones.
func (c CellSupernet) Path(cell Cell, shared nn.Shared, slots ...int) (nn.Path, error) {
	n := len(cell.Matrix()) - 2
	for v := 1; v <= n && len(slots) < n; v++ {
		slots = append(slots, v)
	}
	if n > c.Interior {
		return nn.Path{}, fmt.Errorf("a cell of %d interior vertices, and the supernet has %d", n, c.Interior)
	}
	c.Cell = cell
	net, err := c.Build()
	if err != nil {
		return nn.Path{}, err
	}
	ops := cell.OpNames()
	return bind(net, shared, func(name string) string { return slotName(name, ops, slots) })
}

// readingStart is the number that every choice of a vertex to read from begins with, where that to read nothing begins
// with 0 (kcyu2014/eval-nas): what is normalised anew behind it looks the same to the loss however little it reads.
const readingStart = 10

// Rows are those of Mixture: for each vertex what it reads, nothing, the input or a vertex before it, and its
// operation.
func (c CellSupernet) Rows() (rows []nn.Row) {
	from, start := []string{"none", "input"}, []float64{0, readingStart}
	for v := range c.Interior {
		vertex := fmt.Sprintf("vertex%d", v+1)
		rows = append(rows, nn.Row{Name: vertex + "/from", Choices: slices.Clone(from), Start: slices.Clone(start)},
			nn.Row{Name: vertex + "/op", Choices: cellOps})
		from, start = append(from, vertex), append(start, readingStart)
	}
	return rows
}

// Mixture is the network whose cells mix all cells that it searches among, over the variables of Shared: a vertex reads
// the input and all vertices before it, each times its weight, and is the sum of all operations on that, each times
// its weight. As in the sampled cells all of whose vertices live, every vertex feeds the output, and so does the input
// (kcyu2014/eval-nas, its DARTS; there the input has weight 1, vertex 1 the input's weight, and so on, which is taken
// for a mistake).
func (c CellSupernet) Mixture(shared nn.Shared) (nn.Path, error) {
	output := c.Interior + 1
	feeding := make([][]int, output+1) // the edges that say how wide the vertices are
	for v := range feeding {
		feeding[v] = make([]int, output+1)
		if v > 0 && v < output {
			feeding[v][output] = 1
		}
	}
	net, err := c.around(c.Rows(), func(b *nn.Builder, input nn.Tensor, out int) nn.Tensor {
		var vertices []nn.Tensor
		for v, channels := range vertexChannels(feeding, out)[1:output] {
			b := b.Scope("vertex%d", v+1)
			in := []nn.Tensor{b.Scope("projection").ConvNorm(input, nn.Conv2D(1, channels), nn.ReLU)}
			for u, x := range vertices {
				if x.C > channels {
					x = b.Apply(fmt.Sprintf("truncate%d", u+1), nn.Slice{To: channels}, x)
				}
				in = append(in, x)
			}
			x := b.Apply("from", nn.Mix{Row: 2 * v, Rows: 1, Absent: 1}, in...)
			var ops []nn.Tensor
			for _, op := range cellOps {
				ops = append(ops, cellOp(b.Scope("%s", op), op, x))
			}
			vertices = append(vertices, b.Apply("op", nn.Mix{Row: 2*v + 1, Rows: 1}, ops...))
		}
		b = b.Scope(outputSlot)
		return b.Apply("sum", nn.Add{}, join(b, "concat", nn.Concat{}, vertices),
			b.Scope("projection").ConvNorm(input, nn.Conv2D(1, out), nn.ReLU))
	})
	if err != nil {
		return nn.Path{}, err
	}
	return bind(net, shared, func(name string) string { return name })
}

// slotName is the name of the shared variable that a cell's variable is part of: "stack1.module1.vertex2.conv.weight"
// of a vertex with a 3x3 convolution is part of "stack1.module1.vertex2.conv3x3-bn-relu.conv.weight" where the vertex
// has the second slot.
func slotName(name string, ops []string, slots []int) string {
	parts := strings.Split(name, ".")
	var v int
	if len(parts) < 5 {
		return name
	}
	if _, err := fmt.Sscanf(parts[2], "vertex%d", &v); err != nil {
		return name
	}
	if v == len(ops)-1 {
		parts[2] = outputSlot
		return strings.Join(parts, ".")
	}
	parts[2] = fmt.Sprintf("vertex%d", slots[v-1])
	if parts[3] != "projection" {
		parts = slices.Insert(parts, 3, ops[v])
	}
	return strings.Join(parts, ".")
}
