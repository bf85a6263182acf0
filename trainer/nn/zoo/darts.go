package zoo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Operations of DARTS's cells (Liu et al. 2019; quark0/darts, cnn/operations.py), by their names in genotypes.
const (
	none  = "none"
	skip  = "skip_connect"
	max3  = "max_pool_3x3"
	avg3  = "avg_pool_3x3"
	sep3  = "sep_conv_3x3"
	sep5  = "sep_conv_5x5"
	sep7  = "sep_conv_7x7"
	dil3  = "dil_conv_3x3"
	dil5  = "dil_conv_5x5"
	conv7 = "conv_7x1_1x7"
)

// Node is a node of a cell: the sum of two operations, each on an earlier node. Nodes 0 and 1 are the cell's inputs,
// the outputs of the cell before the last and of the last; a cell's own nodes begin at 2.
type Node struct {
	Left      string
	LeftFrom  int
	Right     string
	RightFrom int
}

// CellGraph is a cell of DARTS's space. Its output is the concatenation of some nodes.
type CellGraph struct {
	Nodes  []Node
	Concat []int
}

// Genotype is an architecture of DARTS's space: a cell that keeps the size and one that halves it.
type Genotype struct{ Normal, Reduce CellGraph }

var allFour = []int{2, 3, 4, 5}

// The genotypes that their authors published; quark0/darts also has NASNet-A's and AmoebaNet-A's in this form.
var (
	dartsV2 = Genotype{
		CellGraph{[]Node{{sep3, 0, sep3, 1}, {sep3, 0, sep3, 1}, {sep3, 1, skip, 0}, {skip, 0, dil3, 2}}, allFour},
		CellGraph{[]Node{{max3, 0, max3, 1}, {skip, 2, max3, 1}, {max3, 0, skip, 2}, {skip, 2, max3, 1}}, allFour},
	}
	dartsV1 = Genotype{
		CellGraph{[]Node{{sep3, 1, sep3, 0}, {skip, 0, sep3, 1}, {skip, 0, sep3, 1}, {sep3, 0, skip, 2}}, allFour},
		CellGraph{[]Node{{max3, 0, max3, 1}, {skip, 2, max3, 0}, {max3, 0, skip, 2}, {skip, 2, avg3, 0}}, allFour},
	}
	pdartsCIFAR10 = Genotype{ // chenxin061/pdarts, genotypes.py
		CellGraph{[]Node{{skip, 0, dil3, 1}, {skip, 0, sep3, 1}, {sep3, 1, sep3, 3}, {sep3, 0, dil5, 4}}, allFour},
		CellGraph{[]Node{{avg3, 0, sep5, 1}, {sep3, 0, dil5, 2}, {max3, 0, dil3, 1}, {dil3, 1, dil5, 3}}, allFour},
	}
	pcdartsImageNet = Genotype{ // yuhuixu1993/PC-DARTS, genotypes.py
		CellGraph{[]Node{{skip, 1, sep3, 0}, {sep3, 0, skip, 1}, {sep3, 1, sep3, 3}, {sep3, 1, dil5, 4}}, allFour},
		CellGraph{[]Node{{sep3, 0, skip, 1}, {dil5, 2, max3, 1}, {sep3, 2, sep3, 1}, {sep5, 0, sep3, 3}}, allFour},
	}
	pcdartsCIFAR10 = Genotype{
		CellGraph{[]Node{{sep3, 1, skip, 0}, {sep3, 0, dil3, 1}, {sep5, 0, sep3, 1}, {avg3, 0, dil3, 1}}, allFour},
		CellGraph{[]Node{{sep5, 1, max3, 0}, {sep5, 1, sep5, 2}, {sep3, 0, sep3, 3}, {sep3, 1, sep3, 2}}, allFour},
	}
	cnas = Genotype{ // guoyongcs/CNAS, cnas/model/genotypes.py
		CellGraph{[]Node{{dil3, 1, sep3, 0}, {sep3, 0, skip, 1}, {sep3, 1, max3, 3}, {sep3, 2, sep3, 4}}, allFour},
		CellGraph{[]Node{{sep3, 0, skip, 1}, {dil5, 2, skip, 1}, {dil3, 2, sep3, 1}, {sep5, 0, sep3, 3}}, allFour},
	}
	nasnetAsDARTS = Genotype{
		CellGraph{[]Node{{sep5, 1, sep3, 0}, {sep5, 0, sep3, 0}, {avg3, 1, skip, 0}, {avg3, 0, avg3, 0},
			{sep3, 1, skip, 1}}, []int{2, 3, 4, 5, 6}},
		CellGraph{[]Node{{sep5, 1, sep7, 0}, {max3, 1, sep7, 0}, {avg3, 1, sep5, 0}, {skip, 3, avg3, 2},
			{sep3, 2, max3, 1}}, []int{4, 5, 6}},
	}
	amoebanetAsDARTS = Genotype{
		CellGraph{[]Node{{avg3, 0, max3, 1}, {sep3, 0, sep5, 2}, {sep3, 0, avg3, 3}, {sep3, 1, skip, 1},
			{skip, 0, avg3, 1}}, []int{4, 5, 6}},
		CellGraph{[]Node{{avg3, 0, sep3, 1}, {max3, 0, sep7, 2}, {sep7, 0, avg3, 1}, {max3, 0, max3, 1},
			{conv7, 0, sep3, 5}}, []int{3, 4, 6}},
	}
)

// DARTSNetwork is a network that DARTS trains around a genotype (quark0/darts, cnn/model.py). In the published ones,
// NetworkImageNet of 14 cells and NetworkCIFAR of 20, there are three stacks. Behind the cell that begins the last one
// there is an auxiliary head of weight 0.4 where images have the published size, or another that leaves as many pixels
// there (7 or 8 rows of the large images, 8 of the small ones). Every operation but an identity ends in a drop path of
// probability 0, which a recipe may raise (nn.Network.Regularized).
type DARTSNetwork struct {
	Genotype Genotype
	Small    bool // images of CIFAR's size, which the first layer keeps; the first layers for ImageNet divide it by 8
	Side     int
	Classes  int
	Channels int // of the nodes of the first stack's cells; the small network's first layer has three times as many
	Cells    int
	Stacks   int // each but the first begins with a reducing cell, which halves the size and doubles the channels
}

// Build builds the network.
func (d DARTSNetwork) Build() (*nn.Network, error) {
	b, before, x := d.stem()
	var heads []nn.Tensor
	x = d.stack(b, before, x, func(b *nn.Builder, before, x nn.Tensor, at dartsPlace) nn.Tensor {
		cell := d.Genotype.Normal
		if at.stride == 2 {
			cell = d.Genotype.Reduce
		}
		return cell.build(b, before, x, at)
	}, func(x nn.Tensor) {
		if x.H == 8 || x.H == 7 && !d.Small {
			heads = append(heads, d.auxiliary(b.Scope("auxiliary"), x))
		}
	})
	b.Output(b.Apply("classifier", nn.Linear{Out: d.Classes, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	for _, x := range heads {
		b.Output(x, 0.4)
	}
	net, err := b.Build()
	if err != nil {
		return nil, err
	}
	dartsNames(net)
	return net, nil
}

// stem is the first layers and what the first cell reads.
func (d DARTSNetwork) stem() (b *nn.Builder, before, x nn.Tensor) {
	b, x = nn.NewBuilder("darts", nn.Shape{H: d.Side, W: d.Side, C: 3})
	if d.Small {
		x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 3*d.Channels), nn.Identity)
		return b, x, x
	}
	x = b.Scope("stem/first").ConvNorm(x, nn.Conv2D(3, d.Channels/2).Strided(2), nn.ReLU)
	before = b.Scope("stem/second").ConvNorm(x, nn.Conv2D(3, d.Channels).Strided(2), nn.Identity)
	return b, before, reluConvNorm(b.Scope("stem/third"), before, nn.Conv2D(3, d.Channels).Strided(2))
}

// dartsPlace is where in the network a cell stands.
type dartsPlace struct {
	channels, stride int
	reduced          bool // its two inputs differ in size
}

// stack puts the cells one behind another; last sees the output of the cell that begins the last stack.
func (d DARTSNetwork) stack(b *nn.Builder, before, x nn.Tensor, cell func(b *nn.Builder, before, x nn.Tensor,
	at dartsPlace) nn.Tensor, last func(x nn.Tensor)) nn.Tensor {
	at := dartsPlace{channels: d.Channels, reduced: !d.Small}
	stack := 0
	for i := range d.Cells {
		at.stride = 1
		if i == (stack+1)*d.Cells/d.Stacks {
			at.stride = 2
			at.channels *= 2
			stack++
		}
		before, x = x, cell(b.Scope("cell%d", i), before, x, at)
		at.reduced = at.stride == 2
		if at.reduced && stack == d.Stacks-1 {
			last(x)
		}
	}
	return x
}

// auxiliary is DARTS's auxiliary head. In the large network its second convolution has no batch norm, as in the
// published code.
func (d DARTSNetwork) auxiliary(b *nn.Builder, x nn.Tensor) nn.Tensor {
	stride := 2
	if d.Small {
		stride = 3
	}
	x = b.Apply("pool", nn.AvgPool{Kernel: nn.Square(5), Stride: nn.Square(stride)}, b.Apply("relu", nn.ReLU, x))
	x = b.Scope("first").ConvNorm(x, nn.Conv2D(1, 128), nn.ReLU)
	x = b.Apply("second/conv", nn.Conv2D(2, 768).Padded(nn.Pad{}), x)
	if d.Small {
		x = b.Apply("second/bn", b.Norm, x)
	}
	return b.Apply("classifier", nn.Linear{Out: d.Classes, Bias: true}, b.Apply("second/act", nn.ReLU, x))
}

// reluConvNorm is an activation, a convolution and a batch norm.
func reluConvNorm(b *nn.Builder, x nn.Tensor, c nn.Conv) nn.Tensor {
	return b.ConvNorm(b.Apply("relu", nn.ReLU, x), c, nn.Identity)
}

// inputs brings what a cell reads to its channels and to one size.
func (at dartsPlace) inputs(b *nn.Builder, before, x nn.Tensor) []nn.Tensor {
	if at.reduced {
		before = b.Scope("before").FactorizedReduce(before, at.channels)
	} else {
		before = reluConvNorm(b.Scope("before"), before, nn.Conv2D(1, at.channels))
	}
	return []nn.Tensor{before, reluConvNorm(b.Scope("last"), x, nn.Conv2D(1, at.channels))}
}

// strideFrom is the stride of an operation on a node: only a cell's inputs are halved.
func (at dartsPlace) strideFrom(node int) int {
	if node > 1 {
		return 1
	}
	return at.stride
}

func (c CellGraph) build(b *nn.Builder, before, x nn.Tensor, at dartsPlace) nn.Tensor {
	nodes := at.inputs(b, before, x)
	for i, node := range c.Nodes {
		b := b.Scope("node%d", i+2)
		apply := func(name, op string, from int) nn.Tensor {
			b := b.Scope("%s", name)
			if from < 0 || from >= len(nodes) {
				b.Fail("an operation on node %d", from)
				return nn.Tensor{}
			}
			stride := at.strideFrom(from)
			y := dartsOperation(b, op, nodes[from], stride)
			if op == none || op == skip && stride == 1 {
				return y
			}
			return b.Apply("path", nn.DropPath{}, y) // with the probability that a recipe gives it
		}
		nodes = append(nodes, b.Apply("sum", nn.Add{}, apply("left", node.Left, node.LeftFrom),
			apply("right", node.Right, node.RightFrom)))
	}
	var out []nn.Tensor
	for _, i := range c.Concat {
		if i < 2 || i >= len(nodes) {
			b.Fail("concatenation of node %d", i)
			break
		}
		out = append(out, nodes[i])
	}
	return b.Apply("concat", nn.Concat{}, out...)
}

// dartsOperation applies an operation that keeps the channels.
func dartsOperation(b *nn.Builder, op string, x nn.Tensor, stride int) nn.Tensor {
	switch op {
	case none:
		return b.Apply("zero", nn.Zero{Stride: stride}, x)
	case skip:
		if stride == 1 {
			return x
		}
		return b.FactorizedReduce(x, x.C)
	case max3:
		return b.Apply("pool", nn.NewMaxPool(3, stride), x)
	case avg3:
		return b.Apply("pool", nn.NewAvgPool(3, stride), x)
	case conv7:
		row, column := nn.ConvRect(nn.Size{H: 1, W: 7}, x.C), nn.ConvRect(nn.Size{H: 7, W: 1}, x.C)
		row.Stride.W, column.Stride.H = stride, stride
		x = b.Apply("row", row, b.Apply("relu", nn.ReLU, x))
		return b.Apply("bn", b.Norm, b.Apply("column", column, x))
	}
	name, size, _ := strings.Cut(op, "_conv_")
	k, err := strconv.Atoi(size[:min(1, len(size))])
	switch {
	case err != nil || size != fmt.Sprintf("%dx%d", k, k):
	case name == "sep":
		x = separable(b.Scope("first"), x, nn.Depthwise(k, x.C).Strided(stride), x.C)
		return separable(b.Scope("second"), x, nn.Depthwise(k, x.C), x.C)
	case name == "dil":
		return separable(b, x, nn.Depthwise(k, x.C).Dilated(2).Strided(stride), x.C)
	}
	b.Fail("unknown operation %q", op)
	return nn.Tensor{}
}

// separable is an activation, a depthwise convolution, a 1x1 convolution and a batch norm.
func separable(b *nn.Builder, x nn.Tensor, depthwise nn.Conv, out int) nn.Tensor {
	x = b.Apply("depthwise", depthwise, b.Apply("relu", nn.ReLU, x))
	return b.Apply("bn", b.Norm, b.Apply("pointwise", nn.Conv2D(1, out), x))
}
