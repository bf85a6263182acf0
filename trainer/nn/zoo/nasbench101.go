package zoo

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Cell is a NAS-Bench-101 cell, as space.Cell gives it.
type Cell interface {
	Matrix() [][]int   // adjacency, row = from, strictly upper triangular
	OpNames() []string // "input", then conv3x3-bn-relu, conv1x1-bn-relu or maxpool3x3, then "output"
}

// CellNetwork is the network that NAS-Bench-101 trains around a cell (Ying et al. 2019, section 2.1;
// nasbench/lib/model_builder.py): a 3x3 convolution, stacks of cells with a 2x2 max-pooling and twice the channels
// before every stack but the first, global average pooling, a linear layer with bias. Every convolution is followed by
// batch norm and ReLU.
type CellNetwork struct {
	Cell     Cell
	Image    nn.Shape
	Channels int // of the first convolution
	Stacks   int
	Modules  int // cells a stack
	Classes  int
}

// NASBench101 is the benchmark's network for 32x32 images: three stacks of three cells. The benchmark has 128 channels
// and 10 classes.
func NASBench101(cell Cell, channels, classes int) (*nn.Network, error) {
	return CellNetwork{cell, nn.Shape{H: 32, W: 32, C: 3}, channels, 3, 3, classes}.Build()
}

// Build builds the network.
func (c CellNetwork) Build() (*nn.Network, error) {
	matrix, ops := c.Cell.Matrix(), c.Cell.OpNames()
	if len(ops) != len(matrix) || len(matrix) < 2 {
		return nil, fmt.Errorf("cell of %d vertices with %d operations", len(matrix), len(ops))
	}
	for i, row := range matrix {
		if len(row) != len(matrix) {
			return nil, fmt.Errorf("row %d of the cell's matrix has %d columns, want %d", i, len(row), len(matrix))
		}
	}
	return c.around(nil, func(b *nn.Builder, input nn.Tensor, channels int) nn.Tensor {
		return buildCell(b, input, matrix, ops, channels)
	})
}

// around builds the network, with some rows, around cells.
func (c CellNetwork) around(rows []nn.Row, cell func(b *nn.Builder, input nn.Tensor,
	channels int) nn.Tensor) (*nn.Network, error) {
	b, x := nn.NewBuilder("nasbench101", c.Image)
	for _, r := range rows {
		b.Row(r)
	}
	b.Norm = nn.BatchNorm{Eps: 1e-5, Momentum: 0.003} // TensorFlow's 0.997
	channels := c.Channels
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, channels), nn.ReLU)
	for stack := range c.Stacks {
		s := b.Scope("stack%d", stack+1)
		if stack > 0 {
			x = s.Apply("pool", nn.NewMaxPool(2, 2), x)
			channels *= 2
		}
		for module := range c.Modules {
			x = cell(s.Scope("module%d", module+1), x, channels)
		}
	}
	x = b.Apply("pool", nn.GlobalPool{}, x)
	b.Output(b.Apply("classifier", nn.Linear{Out: c.Classes, Bias: true}, x), 1)
	return b.Build()
}

// buildCell adds one cell. An edge from the input is a 1x1 projection to the channels of its target; an interior vertex
// sums what comes in, of which it takes the first channels where there is one too many; the output concatenates what
// comes from interior vertices and adds what comes from the input.
func buildCell(b *nn.Builder, input nn.Tensor, matrix [][]int, ops []string, out int) nn.Tensor {
	last := len(matrix) - 1
	channels := vertexChannels(matrix, out)
	tensors := make([]nn.Tensor, len(matrix))
	var outputs []nn.Tensor
	for v := 1; v <= last; v++ {
		b := b.Scope("vertex%d", v)
		var in []nn.Tensor
		for u := 1; u < v && v < last; u++ {
			if matrix[u][v] == 1 {
				t := tensors[u]
				if t.C > channels[v] {
					t = b.Apply(fmt.Sprintf("truncate%d", u), nn.Slice{To: channels[v]}, t)
				}
				in = append(in, t)
			}
		}
		if v == last && len(outputs) > 0 {
			in = append(in, join(b, "concat", nn.Concat{}, outputs))
		}
		if matrix[0][v] == 1 {
			in = append(in, b.Scope("projection").ConvNorm(input, nn.Conv2D(1, channels[v]), nn.ReLU))
		}
		if len(in) == 0 {
			b.Fail("nothing leads to this vertex")
			break
		}
		x := join(b, "sum", nn.Add{}, in)
		if v < last {
			x = cellOp(b, ops[v], x)
		}
		tensors[v] = x
		if matrix[v][last] == 1 {
			outputs = append(outputs, x)
		}
	}
	return tensors[last]
}

// cellOps are the operations of vertices in the data set's order.
var cellOps = []string{"conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"}

// cellOp applies an operation that keeps the channels.
func cellOp(b *nn.Builder, op string, x nn.Tensor) nn.Tensor {
	switch op {
	case cellOps[0]:
		return b.ConvNorm(x, nn.Conv2D(3, x.C), nn.ReLU)
	case cellOps[1]:
		return b.ConvNorm(x, nn.Conv2D(1, x.C), nn.ReLU)
	case cellOps[2]:
		return b.Apply("pool", nn.NewMaxPool(3, 1), x)
	}
	b.Fail("unknown operation %q", op)
	return x
}

// join applies an operation of several tensors where there is more than one.
func join(b *nn.Builder, name string, op nn.Op, in []nn.Tensor) nn.Tensor {
	if len(in) == 1 {
		return in[0]
	}
	return b.Apply(name, op, in...)
}

// vertexChannels gives each vertex its channels (model_builder.py, compute_vertex_channels): those that feed the output
// share its channels, the first ones taking one more where they do not divide evenly; any other has as many as the
// largest of the vertices it feeds.
func vertexChannels(matrix [][]int, out int) []int {
	last := len(matrix) - 1
	channels := make([]int, last+1)
	channels[last] = out
	feeding := 0
	for v := 1; v < last; v++ {
		feeding += matrix[v][last]
	}
	for v, first := 1, 0; v < last; v++ {
		if matrix[v][last] == 1 {
			channels[v] = out / feeding
			if first < out%feeding {
				channels[v]++
			}
			first++
		}
	}
	for v := last - 1; v > 0; v-- {
		for to := v + 1; to < last && matrix[v][last] == 0; to++ {
			if matrix[v][to] == 1 {
				channels[v] = max(channels[v], channels[to])
			}
		}
	}
	return channels
}
