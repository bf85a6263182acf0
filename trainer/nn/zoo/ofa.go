package zoo

import (
	"math"

	"github.com/ctnas/ctnas/trainer/nn"
)

// A sub-network of once-for-all's MobileNetV3 space (Cai et al. 2020; mit-han-lab/once-for-all) has five units of two
// to four blocks. Each block has a kernel of 3, 5 or 7 and expands its input by 3, 4 or 6.
const (
	ofaUnits = 5
	ofaDepth = 4 // blocks that a unit has room for

	// OnceForAllDropout is the supernet's.
	OnceForAllDropout = 0.1
)

// OnceForAll is a sub-network of once-for-all's MobileNetV3 space. Kernels and ratios have a place for every block that
// there could be; those of blocks that are not there do not count. Package search/space reads such networks from text.
type OnceForAll struct {
	Depths          [ofaUnits]int
	Kernels, Ratios [ofaUnits * ofaDepth]int
	Width           float64 // the supernet's: 1.0 or 1.2 as published
	Dropout         float64
	// Whole is how many of the four layers that halve the images before the last one keep their size instead, the first
	// ones. None does as published, where 224 pixels become 7; of 32 pixels 1 would be left.
	Whole int
}

// mobileNetV3Space begins the names of the space's networks that are not in the zoo (search/space names them).
const mobileNetV3Space = "mobilenetv3:"

// ofaUnit is what all blocks of a unit have in common, and the stride of the first of them.
type ofaUnit struct {
	stride int
	se     bool
	act    nn.Activation
}

// units are those of the network: as published but for those that keep the size of the images.
func (o OnceForAll) units() [ofaUnits]ofaUnit {
	units := [ofaUnits]ofaUnit{{2, false, nn.ReLU}, {2, true, nn.ReLU}, {2, false, nn.HSwish}, {1, true, nn.HSwish},
		{2, true, nn.HSwish}}
	for u := range o.Whole - 1 { // the stem is the first of these layers
		units[u].stride = 1
	}
	return units
}

// Build builds the network for square images of a side. Its variables have the names of once-for-all's files.
func (o OnceForAll) Build(side, classes int) (*nn.Network, error) {
	widths := [...]int{16, 24, 40, 80, 112, 160, 960, 1280}
	for i, w := range widths {
		widths[i] = roundChannels(float64(w) * o.Width)
	}
	c := chain{norm: torchNorm, act: nn.HSwish, stem: widths[0], full: o.Whole > 0, blockStyle: mobileNetV3Style,
		head: widths[6], features: nn.Conv2D(1, widths[7]), dropout: o.Dropout}
	in := widths[0]
	c.blocks = []inverted{{3, 1, in, in, 0, nn.ReLU}}
	for u, unit := range o.units() {
		for i := range o.Depths[u] {
			at := u*ofaDepth + i
			v := inverted{k: o.Kernels[at], stride: 1, mid: roundChannels(math.Round(float64(in * o.Ratios[at]))),
				out: widths[u+1], act: unit.act}
			if i == 0 {
				v.stride = unit.stride
			}
			if unit.se {
				v.se = roundChannels(float64(v.mid / 4))
			}
			c.blocks = append(c.blocks, v)
			in = v.out
		}
	}
	net, err := c.build("once-for-all", side, classes)
	if err != nil {
		return nil, err
	}
	onceForAllNames(net)
	return net, nil
}

// Specialised networks that once-for-all's authors published (han-cai/files, ofa/ofa_specialized) and those that PNAG's
// did in the same space (guoyongcs/PNAG, core/pnag.py).
var (
	ofa230M = OnceForAll{
		Depths:  [ofaUnits]int{2, 3, 3, 3, 4},
		Kernels: [ofaUnits * ofaDepth]int{3, 3, 0, 0, 7, 5, 3, 0, 5, 5, 5, 0, 3, 7, 5, 0, 5, 7, 3, 3},
		Ratios:  [ofaUnits * ofaDepth]int{3, 3, 0, 0, 4, 3, 3, 0, 6, 4, 3, 0, 4, 4, 3, 0, 6, 6, 6, 4},
		Width:   1, Dropout: 0.1,
	}
	ofa389M = OnceForAll{
		Depths:  [ofaUnits]int{2, 3, 3, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{3, 3, 0, 0, 5, 5, 3, 0, 5, 5, 3, 0, 5, 5, 3, 3, 3, 3, 7, 3},
		Ratios:  [ofaUnits * ofaDepth]int{3, 3, 0, 0, 3, 6, 3, 0, 4, 4, 3, 0, 6, 4, 4, 4, 6, 6, 6, 3},
		Width:   1.2, Dropout: 0.2,
	}
	ofa482M = OnceForAll{
		Depths:  [ofaUnits]int{3, 4, 4, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{5, 3, 3, 0, 5, 3, 5, 3, 5, 5, 3, 3, 5, 7, 3, 5, 7, 3, 3, 3},
		Ratios:  [ofaUnits * ofaDepth]int{3, 3, 3, 0, 4, 4, 4, 3, 4, 6, 3, 3, 6, 6, 6, 4, 6, 6, 6, 3},
		Width:   1.2, Dropout: 0.2,
	}
	ofa595M = OnceForAll{
		Depths:  [ofaUnits]int{3, 4, 4, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{3, 5, 3, 0, 5, 5, 3, 5, 7, 5, 3, 5, 3, 5, 7, 3, 3, 3, 5, 3},
		Ratios:  [ofaUnits * ofaDepth]int{3, 4, 3, 0, 4, 4, 6, 3, 6, 6, 3, 4, 6, 6, 6, 4, 6, 6, 6, 3},
		Width:   1.2, Dropout: 0.2,
	}

	pnagCPU30 = OnceForAll{
		Depths:  [ofaUnits]int{2, 2, 3, 3, 3},
		Kernels: [ofaUnits * ofaDepth]int{5, 5, 0, 0, 5, 5, 0, 0, 7, 5, 7, 0, 3, 5, 5, 0, 7, 5, 5, 0},
		Ratios:  [ofaUnits * ofaDepth]int{3, 3, 0, 0, 4, 3, 0, 0, 4, 3, 3, 0, 6, 4, 4, 0, 6, 6, 6, 0},
		Width:   1.2, Dropout: 0.1,
	}
	pnagCPU40 = OnceForAll{
		Depths:  [ofaUnits]int{2, 3, 4, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{5, 3, 0, 0, 7, 5, 7, 0, 5, 5, 3, 3, 5, 7, 7, 7, 3, 3, 3, 7},
		Ratios:  [ofaUnits * ofaDepth]int{4, 4, 0, 0, 4, 4, 4, 0, 4, 6, 6, 4, 6, 4, 6, 6, 6, 6, 6, 4},
		Width:   1.2, Dropout: 0.1,
	}
	pnagGPU90 = OnceForAll{
		Depths:  [ofaUnits]int{2, 2, 3, 3, 4},
		Kernels: [ofaUnits * ofaDepth]int{3, 3, 0, 0, 5, 3, 0, 0, 5, 5, 3, 0, 3, 7, 3, 0, 5, 3, 3, 7},
		Ratios:  [ofaUnits * ofaDepth]int{3, 3, 0, 0, 3, 4, 0, 0, 3, 3, 3, 0, 4, 3, 4, 0, 6, 6, 6, 3},
		Width:   1.2, Dropout: 0.1,
	}
	pnagMobile110 = OnceForAll{
		Depths:  [ofaUnits]int{2, 3, 3, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{5, 3, 0, 0, 5, 3, 3, 0, 3, 5, 5, 0, 5, 5, 5, 3, 7, 5, 7, 5},
		Ratios:  [ofaUnits * ofaDepth]int{3, 4, 0, 0, 3, 4, 4, 0, 3, 3, 6, 0, 4, 6, 6, 6, 6, 6, 6, 6},
		Width:   1.2, Dropout: 0.1,
	}
	pnagMobile140 = OnceForAll{
		Depths:  [ofaUnits]int{2, 4, 4, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{5, 3, 0, 0, 5, 5, 5, 3, 5, 5, 5, 5, 3, 5, 5, 5, 7, 5, 5, 5},
		Ratios:  [ofaUnits * ofaDepth]int{4, 3, 0, 0, 4, 4, 4, 6, 6, 3, 6, 3, 6, 6, 4, 6, 6, 6, 6, 3},
		Width:   1.2, Dropout: 0.1,
	}
	pnagMobile200 = OnceForAll{
		Depths:  [ofaUnits]int{4, 4, 4, 4, 4},
		Kernels: [ofaUnits * ofaDepth]int{5, 5, 5, 5, 5, 7, 3, 5, 7, 5, 5, 3, 3, 5, 5, 3, 5, 3, 3, 5},
		Ratios:  [ofaUnits * ofaDepth]int{6, 6, 6, 6, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6},
		Width:   1.2, Dropout: 0.1,
	}
)
