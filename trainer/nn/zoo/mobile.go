package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// inverted is a row of a block table, an inverted residual block (Sandler et al. 2018): 1x1 convolution to mid channels
// (left out where they equal the input's), k x k depthwise convolution, squeeze-and-excitation where se > 0, 1x1
// convolution to out channels without activation; the input is added where the shape stays.
type inverted struct {
	k, stride, mid, out int
	se                  int // channels between the two convolutions of squeeze-and-excitation
	act                 nn.Activation
}

// blockStyle is what the blocks of a network have in common.
type blockStyle struct {
	squeeze nn.Activation // within squeeze-and-excitation; Identity: the block's own
	gate    nn.Activation // at its end
	biased  bool          // convolutions have biases although batch norms follow
	expands bool          // the first convolution is there even where mid equals the input's channels
}

func (v inverted) build(b *nn.Builder, input nn.Tensor, style blockStyle) nn.Tensor {
	layer := func(x nn.Tensor, name string, c nn.Conv, act nn.Activation) nn.Tensor {
		c.Bias = style.biased
		return b.Scope("%s", name).ConvNorm(x, c, act)
	}
	x := input
	if v.mid != x.C || style.expands {
		x = layer(x, "expand", nn.Conv2D(1, v.mid), v.act)
	}
	x = layer(x, "depthwise", nn.Depthwise(v.k, v.mid).Strided(v.stride), v.act)
	if v.se > 0 {
		x = style.excite(b, x, v.se, v.act)
	}
	x = layer(x, "project", nn.Conv2D(1, v.out), nn.Identity)
	return addInput(b, input, x)
}

func (style blockStyle) excite(b *nn.Builder, x nn.Tensor, mid int, act nn.Activation) nn.Tensor {
	if style.squeeze != nn.Identity {
		act = style.squeeze
	}
	return b.SqueezeExcite(x, mid, act, style.gate)
}

// addInput is the shortcut of a block: there is one where the shape stays.
func addInput(b *nn.Builder, input, x nn.Tensor) nn.Tensor {
	if x.Shape != input.Shape {
		return x
	}
	return b.Apply("sum", nn.Add{}, input, x)
}

// chain is a network as a table: a 3x3 convolution, mostly with stride 2, blocks, a 1x1 convolution, the pooling and
// what follows it.
type chain struct {
	norm nn.BatchNorm
	act  nn.Activation // of the stem and of the head
	stem int           // channels
	full bool          // the stem keeps the size of the images
	blockStyle
	blocks   []inverted
	before   int     // channels of one more 1x1 convolution before the head, with ReLU; 0: none
	head     int     // channels
	features nn.Conv // between pooling and classifier, without batch norm; zero: none
	dropout  float64 // 0: none
}

func (c chain) build(name string, side, classes int) (*nn.Network, error) {
	b, x := nn.NewBuilder(name, nn.Shape{H: side, W: side, C: 3})
	b.Norm = c.norm
	stem := nn.Conv2D(3, c.stem)
	if !c.full {
		stem = stem.Strided(2)
	}
	x = b.Scope("stem").ConvNorm(x, stem, c.act)
	for i, v := range c.blocks {
		x = v.build(b.Scope("block%d", i+1), x, c.blockStyle)
	}
	if c.before > 0 {
		x = b.Scope("last").ConvNorm(x, nn.Conv2D(1, c.before), nn.ReLU)
	}
	x = b.Scope("head").ConvNorm(x, nn.Conv2D(1, c.head), c.act)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	if c.features != (nn.Conv{}) {
		x = b.Apply("features/act", c.act, b.Apply("features/conv", c.features, x))
	}
	return classify(b, x, nn.Linear{Out: classes, Bias: true}, c.dropout)
}

// classify ends a network: dropout, where there is one, and a linear layer.
func classify(b *nn.Builder, x nn.Tensor, layer nn.Linear, dropout float64) (*nn.Network, error) {
	if dropout > 0 {
		x = b.Apply("dropout", nn.Dropout{P: dropout}, x)
	}
	b.Output(b.Apply("classifier", layer, x), 1)
	return b.Build()
}

// The batch norms of PyTorch's defaults and of TensorFlow's mobile networks.
var (
	torchNorm  = nn.BatchNorm{Eps: 1e-5, Momentum: 0.1}
	mobileNorm = nn.BatchNorm{Eps: 1e-3, Momentum: 0.01}
)

// stage is a row of a table of stages: blocks of one kind, of which the first has the stride.
type stage struct {
	repeat, k, stride, expand, out int
	se                             float64 // channels of squeeze-and-excitation, a share of the block's input channels
}

// unroll lists the blocks of stages that begin at a number of channels.
func unroll(channels int, act nn.Activation, stages []stage) []inverted {
	var blocks []inverted
	for _, s := range stages {
		for i := range s.repeat {
			v := inverted{k: s.k, stride: 1, mid: s.expand * channels, out: s.out, se: int(s.se * float64(channels)),
				act: act}
			if i == 0 {
				v.stride = s.stride
			}
			blocks = append(blocks, v)
			channels = s.out
		}
	}
	return blocks
}

// roundChannels is the nearest multiple of 8, at least 8, and one more where it falls below 90 % of the number (slim
// and timm, make_divisible).
func roundChannels(c float64) int {
	n := max(8, int(c+4)/8*8)
	if float64(n) < 0.9*c {
		n += 8
	}
	return n
}
