package zoo

import "github.com/ctnas/ctnas/trainer/nn"

// inverted is an inverted residual block (Sandler et al. 2018): 1x1 convolution to mid channels (left out where they equal the input's),
// k x k depthwise convolution, squeeze-and-excitation where se > 0, 1x1 convolution to out channels without activation; the input is added
// where the shape stays.
type inverted struct {
	k, stride, mid, out int
	se                  int // channels between the two convolutions of squeeze-and-excitation
	act                 nn.Activation
}

func (v inverted) build(b *nn.Builder, input nn.Tensor) nn.Tensor {
	x := input
	if v.mid != x.C {
		x = b.Scope("expand").ConvNorm(x, nn.Conv2D(1, v.mid), v.act)
	}
	x = b.Scope("depthwise").ConvNorm(x, nn.Depthwise(v.k, v.mid).Strided(v.stride), v.act)
	if v.se > 0 {
		x = b.SqueezeExcite(x, v.se, nn.ReLU, nn.HSigmoid)
	}
	x = b.Scope("project").ConvNorm(x, nn.Conv2D(1, v.out), nn.Identity)
	if x.Shape == input.Shape {
		x = b.Apply("sum", nn.Add{}, input, x)
	}
	return x
}

// classify ends a network: dropout and a linear layer.
func classify(b *nn.Builder, x nn.Tensor, dropout float64, classes int) (*nn.Network, error) {
	x = b.Apply("dropout", nn.Dropout{P: dropout}, x)
	b.Output(b.Apply("classifier", nn.Linear{Out: classes, Bias: true}, x), 1)
	return b.Build()
}

// roundChannels is the nearest multiple of 8, at least 8, and one more where it falls below 90 % of the number (slim and timm, make_divisible).
func roundChannels(c float64) int {
	n := max(8, int(c+4)/8*8)
	if float64(n) < 0.9*c {
		n += 8
	}
	return n
}

// MobileNetV2 is MobileNet-V2 (Sandler et al. 2018, table 2) with channels multiplied by width and rounded; the last convolution does not become
// narrower than 1280. Batch norms and dropout are timm's mobilenetv2_140.
func MobileNetV2(width float64, side, classes int) (*nn.Network, error) {
	b, x := nn.NewBuilder("mobilenetv2", nn.Shape{H: side, W: side, C: 3})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, roundChannels(32*width)).Strided(2), nn.ReLU6)
	block := 0
	for _, s := range []struct{ expand, out, repeat, stride int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	} {
		for i := range s.repeat {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			block++
			v := inverted{k: 3, stride: stride, mid: s.expand * x.C, out: roundChannels(float64(s.out) * width), act: nn.ReLU6}
			x = v.build(b.Scope("block%d", block), x)
		}
	}
	x = b.Scope("head").ConvNorm(x, nn.Conv2D(1, max(1280, roundChannels(1280*width))), nn.ReLU6)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	return classify(b, x, 0.2, classes)
}

// MobileNetV3Large is MobileNetV3-Large 1.0 (Howard et al. 2019, table 1) as timm and slim have it: squeeze-and-excitation to a quarter of the
// expanded channels, and a last 1x1 convolution with bias and without batch norm after the pooling.
func MobileNetV3Large(side, classes int) (*nn.Network, error) {
	b, x := nn.NewBuilder("mobilenetv3_large", nn.Shape{H: side, W: side, C: 3})
	b.Norm = nn.BatchNorm{Eps: 1e-3, Momentum: 0.01}
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 16).Strided(2), nn.HSwish)
	for i, v := range []inverted{
		{3, 1, 16, 16, 0, nn.ReLU},
		{3, 2, 64, 24, 0, nn.ReLU},
		{3, 1, 72, 24, 0, nn.ReLU},
		{5, 2, 72, 40, 24, nn.ReLU},
		{5, 1, 120, 40, 32, nn.ReLU},
		{5, 1, 120, 40, 32, nn.ReLU},
		{3, 2, 240, 80, 0, nn.HSwish},
		{3, 1, 200, 80, 0, nn.HSwish},
		{3, 1, 184, 80, 0, nn.HSwish},
		{3, 1, 184, 80, 0, nn.HSwish},
		{3, 1, 480, 112, 120, nn.HSwish},
		{3, 1, 672, 112, 168, nn.HSwish},
		{5, 2, 672, 160, 168, nn.HSwish},
		{5, 1, 960, 160, 240, nn.HSwish},
		{5, 1, 960, 160, 240, nn.HSwish},
	} {
		x = v.build(b.Scope("block%d", i+1), x)
	}
	x = b.Scope("head").ConvNorm(x, nn.Conv2D(1, 960), nn.HSwish)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	x = b.Apply("features/act", nn.HSwish, b.Apply("features/conv", nn.Conv2D(1, 1280).Biased(), x))
	return classify(b, x, 0.2, classes)
}
