package zoo

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// nasCell is a cell of NASNet's space (Zoph et al. 2018), whose operations are named as in slim, nasnet_utils.py. Node
// 0 is the cell's own input and node 1 the one before: the opposite of DARTS's genotypes.
type nasCell struct {
	nodes  []Node
	concat []int
}

// Operations of NASNet's cells. Nothing is nasNothing only where size and channels stay.
const (
	nasSep3    = "separable_3x3_2"
	nasSep5    = "separable_5x5_2"
	nasSep7    = "separable_7x7_2"
	nasConv7   = "1x7_7x1"
	nasNothing = "none"
)

// nasNet is a NASNet for ImageNet (slim, nasnet.py, mobile_imagenet_config): two stem cells, which reduce at a quarter
// and half of the channels, and three times four cells with a reducing one in between that doubles the channels.
type nasNet struct {
	normal, reduce nasCell
	channels       int
}

var (
	nasNetA = nasNet{ // slim, nasnet_utils.py
		nasCell{[]Node{{nasSep5, 0, nasSep3, 1}, {nasSep5, 1, nasSep3, 1}, {avg3, 0, nasNothing, 1}, {avg3, 1, avg3, 1},
			{nasSep3, 0, nasNothing, 0}}, []int{1, 2, 3, 4, 5, 6}},
		nasCell{[]Node{{nasSep5, 0, nasSep7, 1}, {max3, 0, nasSep7, 1}, {avg3, 0, nasSep5, 1}, {nasNothing, 3, avg3, 2},
			{nasSep3, 2, max3, 0}}, []int{3, 4, 5, 6}},
		44,
	}
	// AmoebaNet-A (Real et al. 2019): the cells are those of tensorflow/tpu, model_specs.py; four cells between
	// reductions and 50 channels are the paper's.
	amoebaNetA = nasNet{
		nasCell{[]Node{{avg3, 0, max3, 0}, {nasSep3, 1, nasNothing, 1}, {nasNothing, 0, avg3, 1},
			{nasSep3, 0, nasSep5, 2}, {avg3, 5, nasSep3, 0}}, []int{1, 3, 4, 6}},
		nasCell{[]Node{{nasSep3, 1, avg3, 0}, {max3, 0, nasSep7, 2}, {max3, 1, max3, 0}, {nasSep3, 4, nasConv7, 0},
			{avg3, 1, nasSep7, 0}}, []int{2, 3, 4, 5, 6}},
		50,
	}
)

func (n nasNet) build(side, classes int) (*nn.Network, error) {
	b, x := nn.NewBuilder("nasnet", nn.Shape{H: side, W: side, C: 3})
	b.Norm = nn.BatchNorm{Eps: 1e-3, Momentum: 0.0003} // TensorFlow's 0.9997
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 32).Strided(2).Padded(nn.Pad{}), nn.Identity)
	before := nn.Tensor{} // there is none at first
	add := func(cell nasCell, name string, channels, stride int) {
		before, x = x, cell.build(b.Scope("%s", name), before, x, channels, stride)
	}
	add(n.reduce, "stem1", n.channels/4, 2)
	add(n.reduce, "stem2", n.channels/2, 2)
	channels := n.channels
	for i := range 12 {
		if i == 4 || i == 8 {
			channels *= 2
			add(n.reduce, fmt.Sprintf("reduce%d", i/4), channels, 2)
		}
		add(n.normal, fmt.Sprintf("cell%d", i+1), channels, 1)
	}
	x = b.Apply("pool", nn.GlobalPool{}, b.Apply("relu", nn.ReLU, x))
	return classify(b, x, nn.Linear{Out: classes, Bias: true}, 0.5)
}

// build brings both inputs to the cell's channels, except that the first cell of all takes its one input raw for the
// second.
func (c nasCell) build(b *nn.Builder, before, x nn.Tensor, channels, stride int) nn.Tensor {
	switch {
	case before == nn.Tensor{}:
		before = x
	case before.H != x.H:
		before = b.Scope("before").FactorizedReduce(before, channels)
	case before.C != channels:
		before = reluConvNorm(b.Scope("before"), before, nn.Conv2D(1, channels))
	}
	nodes := []nn.Tensor{reluConvNorm(b.Scope("last"), x, nn.Conv2D(1, channels)), before}
	for i, node := range c.nodes {
		b := b.Scope("node%d", i+2)
		apply := func(name, op string, from int) nn.Tensor {
			if from > 1 {
				return nasOperation(b.Scope("%s", name), op, nodes[from], channels, 1)
			}
			return nasOperation(b.Scope("%s", name), op, nodes[from], channels, stride)
		}
		nodes = append(nodes, b.Apply("sum", nn.Add{}, apply("left", node.Left, node.LeftFrom),
			apply("right", node.Right, node.RightFrom)))
	}
	var out []nn.Tensor
	for _, i := range c.concat {
		out = append(out, nodes[i])
	}
	return b.Apply("concat", nn.Concat{}, out...)
}

// nasOperation applies an operation to a number of channels.
func nasOperation(b *nn.Builder, op string, x nn.Tensor, channels, stride int) nn.Tensor {
	depthwise := func(k, stride int, x nn.Tensor) nn.Conv {
		return sameConv(nn.Depthwise(k, x.C), nn.Square(stride), x)
	}
	switch op {
	case nasNothing:
		if stride == 1 && x.C == channels {
			return x
		}
		return reluConvNorm(b, x, sameConv(nn.Conv2D(1, channels), nn.Square(stride), x))
	case max3:
		x = b.Apply("pool", nn.MaxPool{Kernel: nn.Square(3), Stride: nn.Square(stride),
			Pad: samePad(nn.Square(3), nn.Square(stride), x)}, x)
	case avg3:
		x = b.Apply("pool", nn.AvgPool{Kernel: nn.Square(3), Stride: nn.Square(stride),
			Pad: samePad(nn.Square(3), nn.Square(stride), x)}, x)
	case nasConv7:
		x = reluConvNorm(b.Scope("reduce"), x, nn.Conv2D(1, channels/4))
		x = reluConvNorm(b.Scope("row"), x, sameConv(nn.ConvRect(nn.Size{H: 1, W: 7}, channels/4),
			nn.Size{H: 1, W: stride}, x))
		x = reluConvNorm(b.Scope("column"), x, sameConv(nn.ConvRect(nn.Size{H: 7, W: 1}, channels/4),
			nn.Size{H: stride, W: 1}, x))
		return reluConvNorm(b.Scope("expand"), x, nn.Conv2D(1, channels))
	default:
		k := map[string]int{nasSep3: 3, nasSep5: 5, nasSep7: 7}[op]
		x = separable(b.Scope("first"), x, depthwise(k, stride, x), channels)
		return separable(b.Scope("second"), x, depthwise(k, 1, x), channels)
	}
	if x.C != channels { // after a pooling
		x = b.ConvNorm(x, nn.Conv2D(1, channels), nn.Identity)
	}
	return x
}

// sameConv is a convolution with a stride and TensorFlow's padding "SAME".
func sameConv(c nn.Conv, stride nn.Size, x nn.Tensor) nn.Conv {
	c.Stride, c.Pad = stride, samePad(c.Kernel, stride, x)
	return c
}

// samePad is TensorFlow's padding "SAME": as little as makes the output's size the input's divided by the stride,
// rounded up; of an odd number the larger part lies below and to the right.
func samePad(kernel, stride nn.Size, x nn.Tensor) nn.Pad {
	pad := func(n, k, stride int) (before, after int) {
		total := max(0, ((n+stride-1)/stride-1)*stride+k-n)
		return total / 2, total - total/2
	}
	var p nn.Pad
	p.Top, p.Bottom = pad(x.H, kernel.H, stride.H)
	p.Left, p.Right = pad(x.W, kernel.W, stride.W)
	return p
}
