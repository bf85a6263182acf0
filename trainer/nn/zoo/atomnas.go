package zoo

import (
	"math"

	"github.com/ctnas/ctnas/trainer/nn"
)

// atomic is a row of AtomNAS's table: an inverted residual block whose expanded channels are split into parts, each
// with a depthwise convolution of its own kernel, 3x3, 5x5 or 7x7.
type atomic struct {
	stride, out int
	mid         [3]int // channels with 3x3, 5x5 and 7x7
}

// atomNASC is AtomNAS-C (Mei et al. 2020; meijieru/AtomNAS, apps/searched/models/atomnas_c.yml).
var atomNASC = []atomic{
	{2, 24, [3]int{15, 23, 13}},
	{1, 24, [3]int{20, 3, 2}},
	{1, 24, [3]int{21, 8, 1}},
	{1, 24, [3]int{21, 4, 0}},
	{2, 40, [3]int{64, 65, 70}},
	{1, 40, [3]int{40, 23, 28}},
	{1, 40, [3]int{36, 21, 9}},
	{1, 40, [3]int{40, 22, 7}},
	{2, 80, [3]int{169, 170, 157}},
	{1, 80, [3]int{45, 55, 74}},
	{1, 80, [3]int{58, 21, 37}},
	{1, 80, [3]int{77, 18, 39}},
	{1, 96, [3]int{393, 263, 247}},
	{1, 96, [3]int{57, 40, 36}},
	{1, 96, [3]int{61, 34, 26}},
	{1, 96, [3]int{87, 38, 33}},
	{2, 192, [3]int{454, 468, 468}},
	{1, 192, [3]int{188, 137, 306}},
	{1, 192, [3]int{253, 187, 314}},
	{1, 192, [3]int{345, 202, 233}},
	{1, 320, [3]int{823, 738, 749}},
}

// atomNAS builds AtomNAS-C, or with excited C+: swish for ReLU, and squeeze-and-excitation to half of each block's
// input channels.
func atomNAS(excited bool, side, classes int) (*nn.Network, error) {
	act, share, style := nn.ReLU, 0.0, blockStyle{gate: nn.Sigmoid}
	if excited {
		act, share = nn.Swish, 0.5
	}
	b, x := nn.NewBuilder("atomnas", nn.Shape{H: side, W: side, C: 3})
	b.Norm = mobileNorm
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 32).Strided(2), act)
	x = inverted{3, 1, 32, 16, int(share * 32), act}.build(b.Scope("block1"), x, style)
	for i, v := range atomNASC {
		x = v.build(b.Scope("block%d", i+2), x, int(math.Round(share*float64(x.C))), act, style)
	}
	x = b.Scope("head").ConvNorm(x, nn.Conv2D(1, 1280), act)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	return classify(b, x, nn.Linear{Out: classes, Bias: true}, 0.28)
}

func (v atomic) build(b *nn.Builder, input nn.Tensor, se int, act nn.Activation, style blockStyle) nn.Tensor {
	x := b.Scope("expand").ConvNorm(input, nn.Conv2D(1, v.mid[0]+v.mid[1]+v.mid[2]), act)
	var parts []nn.Tensor
	at := 0
	for i, n := range v.mid {
		if n == 0 {
			continue
		}
		k := 2*i + 3
		b := b.Scope("depthwise%d", k)
		part := b.Apply("slice", nn.Slice{From: at, To: at + n}, x)
		parts = append(parts, b.ConvNorm(part, nn.Depthwise(k, n).Strided(v.stride), act))
		at += n
	}
	x = b.Apply("concat", nn.Concat{}, parts...)
	if se > 0 {
		x = style.excite(b, x, se, act)
	}
	x = b.Scope("project").ConvNorm(x, nn.Conv2D(1, v.out), nn.Identity)
	return addInput(b, input, x)
}
