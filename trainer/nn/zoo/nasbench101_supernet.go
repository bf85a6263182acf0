package zoo

import (
	"fmt"
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

// layers are the operations of a slot that have weights, by their names in cells.
var layers = map[string]nn.Conv{"conv3x3-bn-relu": nn.Conv2D(3, 0), "conv1x1-bn-relu": nn.Conv2D(1, 0)}

// Shared are the supernet's variables: those of a network in which every vertex sums all of its layers.
func (c CellSupernet) Shared() (nn.Shared, error) {
	net, err := c.around(func(b *nn.Builder, input nn.Tensor, out int) nn.Tensor {
		project := func(slot string) nn.Tensor {
			return b.Scope("%s", slot).Scope("projection").ConvNorm(input, nn.Conv2D(1, out), nn.ReLU)
		}
		sum := project(outputSlot)
		for v := range c.Interior {
			slot := fmt.Sprintf("vertex%d", v+1)
			in := []nn.Tensor{sum, project(slot)}
			for _, name := range []string{"conv3x3-bn-relu", "conv1x1-bn-relu"} {
				conv := layers[name]
				conv.Out = out
				in = append(in, b.Scope("%s", slot).Scope("%s", name).ConvNorm(sum, conv, nn.ReLU))
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

// Path is the network of a cell of no more interior vertices, over the variables of Shared.
func (c CellSupernet) Path(cell Cell, shared nn.Shared) (nn.Path, error) {
	if n := len(cell.Matrix()) - 2; n > c.Interior {
		return nn.Path{}, fmt.Errorf("a cell of %d interior vertices, and the supernet has %d", n, c.Interior)
	}
	c.Cell = cell
	net, err := c.Build()
	if err != nil {
		return nn.Path{}, err
	}
	ops := cell.OpNames()
	return bind(net, shared, func(name string) string { return slotName(name, ops) })
}

// slotName is the name of the shared variable that a cell's variable is part of: "stack1.module1.vertex2.conv.weight"
// of a vertex with a 3x3 convolution is part of "stack1.module1.vertex2.conv3x3-bn-relu.conv.weight".
func slotName(name string, ops []string) string {
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
	} else if parts[3] != "projection" {
		parts = append(parts[:3], append([]string{ops[v]}, parts[3:]...)...)
	}
	return strings.Join(parts, ".")
}
