package space

import "sync"

// mobileUnit is a unit's fixed part, with channels by width.
var mobileUnitsFixed = [mobileUnits]struct {
	channels [len(mobileWidths)]int64
	stride   int64
	se       bool
}{
	{[...]int64{24, 32, 8, 16, 24}, 2, false},
	{[...]int64{40, 48, 16, 24, 32}, 2, true},
	{[...]int64{80, 96, 32, 40, 64}, 2, false},
	{[...]int64{112, 136, 40, 56, 88}, 1, true},
	{[...]int64{160, 192, 56, 80, 120}, 2, true},
}

// Channels of stem and first block, of the last convolution and of the layer behind the pooling, by width.
var (
	mobileStem = [len(mobileWidths)]int64{16, 24, 8, 8, 16}
	mobileLast = [len(mobileWidths)]int64{960, 1152, 336, 480, 720}
	mobileHead = [len(mobileWidths)]int64{1280, 1536, 448, 640, 960}
)

const imageNetClasses = 1000

// multipleOf8 rounds channels to a multiple of 8, not below 90 % (make_divisible of the MobileNet code).
func multipleOf8(v int64) int64 {
	n := max(8, (v+4)/8*8)
	if 10*n < 9*v {
		n += 8
	}
	return n
}

// convolution adds one that has no bias and a batch norm behind.
func (c *Cost) convolution(in, out, kernel, groups, side int64) {
	weights := out * (in / groups) * kernel * kernel
	c.MAdds += weights * side * side
	c.Params += weights + 2*out
}

// bottleneck adds an inverted bottleneck and returns the side behind it.
func (c *Cost) bottleneck(in, mid, out, kernel, stride, side int64, se bool) int64 {
	if mid != in {
		c.convolution(in, mid, 1, 1, side)
	}
	side = (side + stride - 1) / stride
	c.convolution(mid, mid, kernel, mid, side)
	if se {
		squeezed := multipleOf8(mid / 4)
		c.MAdds += 2 * mid * squeezed
		c.Params += 2*mid*squeezed + mid + squeezed
	}
	c.convolution(mid, out, 1, 1, side)
	return side
}

// mobileCosts are the costs of a width and a resolution: what all networks have, and each possible block.
type mobileCosts struct {
	fixed Cost
	// By unit, whether it is the unit's first, kernel, expansion.
	block [mobileUnits][2][len(mobileKernels)][len(mobileExpansions)]Cost
}

type mobileSetting struct {
	width, stride uint8
	side, classes int
}

var mobileCostCache sync.Map // of mobileSetting

// costTable counts a width, product of strides, size of images and number of classes once.
func costTable(width, stride uint8, imageSide, classes int) *mobileCosts {
	key := mobileSetting{width, stride, imageSide, classes}
	if t, ok := mobileCostCache.Load(key); ok {
		return t.(*mobileCosts)
	}
	t := &mobileCosts{}
	stem := mobileStem[width]
	side := int64(imageSide)
	if stride == 0 {
		side = (side + 1) / 2
	}
	t.fixed.convolution(3, stem, 3, 1, side)
	side = t.fixed.bottleneck(stem, stem, stem, 3, 1, side, false)
	in := stem
	for u, f := range mobileUnitsFixed {
		out, next := f.channels[width], side
		if u+1 < int(stride) { // the stem is the first of the layers that keep their size
			f.stride = 1
		}
		for k, kernel := range mobileKernels {
			for e, expand := range mobileExpansions {
				next = t.block[u][1][k][e].bottleneck(in, multipleOf8(in*int64(expand)), out, int64(kernel), f.stride,
					side, f.se)
				t.block[u][0][k][e].bottleneck(out, multipleOf8(out*int64(expand)), out, int64(kernel), 1, next, f.se)
			}
		}
		in, side = out, next
	}
	t.fixed.convolution(in, mobileLast[width], 1, 1, side)
	head := mobileLast[width] * mobileHead[width]
	t.fixed.MAdds += head + mobileHead[width]*int64(classes)
	t.fixed.Params += head + mobileHead[width]*int64(classes) + int64(classes)
	stored, _ := mobileCostCache.LoadOrStore(key, t)
	return stored.(*mobileCosts)
}

// kernelIndex and expandIndex are the inverses of mobileKernels and mobileExpansions.
var (
	kernelIndex = [...]uint8{3: 0, 5: 1, 7: 2}
	expandIndex = [...]uint8{3: 0, 4: 1, 6: 2}
)

// unit is the cost of one unit.
func (t *mobileCosts) unit(u int, o unit) Cost {
	var sum Cost
	for b := range int(o.depth) {
		first := 0
		if b == 0 {
			first = 1
		}
		c := t.block[u][first][kernelIndex[o.kernel[b]]][expandIndex[o.expand[b]]]
		sum.MAdds += c.MAdds
		sum.Params += c.Params
	}
	return sum
}

// Cost counts the network with its stem and classifier, squeeze-and-excitation included, for one image of its
// resolution.
func (m MobileNet) Cost() Cost { return m.cost(int(m.resolution), imageNetClasses) }

func (m MobileNet) cost(side, classes int) Cost {
	t := costTable(m.width, m.stride, side, classes)
	sum := t.fixed
	for u := range mobileUnits {
		o := unit{depth: m.depth[u]}
		copy(o.kernel[:], m.kernel[u*mobileMaxDepth:])
		copy(o.expand[:], m.expand[u*mobileMaxDepth:])
		c := t.unit(u, o)
		sum.MAdds += c.MAdds
		sum.Params += c.Params
	}
	return sum
}
