package zoo

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// A sub-network of once-for-all's MobileNetV3 space (Cai et al. 2020; mit-han-lab/once-for-all) has five units of two to four blocks. Each block has
// a kernel of 3, 5 or 7 and expands its input by 3, 4 or 6.
const (
	ofaUnits = 5
	ofaDepth = 4 // blocks that a unit has room for

	ofaDropout = 0.1 // of the supernet
	maxOFASide = 4096
)

// OnceForAll is a sub-network of once-for-all's MobileNetV3 space. Kernels and ratios have a place for every block that there could be; those of blocks that
// are not there do not count.
type OnceForAll struct {
	Depths          [ofaUnits]int
	Kernels, Ratios [ofaUnits * ofaDepth]int
	Width           float64 // 1.0 or 1.2: the supernet's
	Side            int     // of the images; 0: not given
	Dropout         float64
}

// ParseOnceForAll reads "depths:kernels:ratios@wW,rR": 5, 20 and 20 numbers, the width and, where it is given, the side of the images.
func ParseOnceForAll(text string) (OnceForAll, error) {
	var o OnceForAll
	blocks, suffix, _ := strings.Cut(text, "@")
	width, side, sized := strings.Cut(suffix, ",")
	var err error
	if o.Width, err = strconv.ParseFloat(strings.TrimPrefix(width, "w"), 64); err != nil || o.Width != 1 && o.Width != 1.2 {
		return o, fmt.Errorf("architecture %.200q: want @w1 or @w1.2 behind it", text)
	}
	if o.Side, err = strconv.Atoi(strings.TrimPrefix(side, "r")); sized && (err != nil || o.Side < 1 || o.Side > maxOFASide) {
		return o, fmt.Errorf("architecture %.200q: %.20q is no side of images such as r224", text, side)
	}
	fields := strings.Split(blocks, ":")
	if len(fields) != 3 {
		return o, fmt.Errorf("architecture %.200q: want depths:kernels:ratios", text)
	}
	for i, f := range []struct {
		name    string
		to      []int
		allowed string
	}{{"depths", o.Depths[:], "234"}, {"kernels", o.Kernels[:], "0357"}, {"ratios", o.Ratios[:], "0346"}} {
		numbers := strings.Split(fields[i], ",")
		if len(numbers) != len(f.to) {
			return o, fmt.Errorf("architecture %.200q: %d %s, want %d", text, len(numbers), f.name, len(f.to))
		}
		for k, n := range numbers {
			if len(n) != 1 || !strings.Contains(f.allowed, n) {
				return o, fmt.Errorf("architecture %.200q: number %d of the %s is %.20q, want one of %s", text, k+1, f.name, n, f.allowed)
			}
			f.to[k], _ = strconv.Atoi(n) // a digit
		}
	}
	for u, d := range o.Depths {
		for i := range d {
			if k := u*ofaDepth + i; o.Kernels[k] == 0 || o.Ratios[k] == 0 {
				return o, fmt.Errorf("architecture %.200q: block %d of unit %d has kernel %d and ratio %d", text, i+1, u+1, o.Kernels[k], o.Ratios[k])
			}
		}
	}
	return o, nil
}

// Build builds the network.
func (o OnceForAll) Build(side, classes int) (*nn.Network, error) {
	widths := [...]int{16, 24, 40, 80, 112, 160, 960, 1280}
	for i, w := range widths {
		widths[i] = roundChannels(float64(w) * o.Width)
	}
	c := chain{norm: torchNorm, act: nn.HSwish, stem: widths[0], blockStyle: mobileNetV3Style, head: widths[6], features: nn.Conv2D(1, widths[7]), dropout: o.Dropout}
	in := widths[0]
	c.blocks = []inverted{{3, 1, in, in, 0, nn.ReLU}}
	for u, unit := range [ofaUnits]struct {
		stride int
		se     bool
		act    nn.Activation
	}{{2, false, nn.ReLU}, {2, true, nn.ReLU}, {2, false, nn.HSwish}, {1, true, nn.HSwish}, {2, true, nn.HSwish}} {
		for i := range o.Depths[u] {
			at := u*ofaDepth + i
			v := inverted{k: o.Kernels[at], stride: 1, mid: roundChannels(math.Round(float64(in * o.Ratios[at]))), out: widths[u+1], act: unit.act}
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
	return c.build("once-for-all", side, classes)
}

// onceForAll builds a sub-network from its text, which is known to be right.
func onceForAll(text string, dropout float64) build {
	return func(side, classes int) (*nn.Network, error) {
		o, err := ParseOnceForAll(text)
		if err != nil {
			return nil, err
		}
		o.Dropout = dropout
		return o.Build(side, classes)
	}
}

// Specialised networks that once-for-all's authors published (han-cai/files, ofa/ofa_specialized) and those that PNAG's did in the same space
// (guoyongcs/PNAG, core/pnag.py).
var (
	ofa230M = onceForAll("2,3,3,3,4:3,3,0,0,7,5,3,0,5,5,5,0,3,7,5,0,5,7,3,3:3,3,0,0,4,3,3,0,6,4,3,0,4,4,3,0,6,6,6,4@w1", 0.1)
	ofa389M = onceForAll("2,3,3,4,4:3,3,0,0,5,5,3,0,5,5,3,0,5,5,3,3,3,3,7,3:3,3,0,0,3,6,3,0,4,4,3,0,6,4,4,4,6,6,6,3@w1.2", 0.2)
	ofa482M = onceForAll("3,4,4,4,4:5,3,3,0,5,3,5,3,5,5,3,3,5,7,3,5,7,3,3,3:3,3,3,0,4,4,4,3,4,6,3,3,6,6,6,4,6,6,6,3@w1.2", 0.2)
	ofa595M = onceForAll("3,4,4,4,4:3,5,3,0,5,5,3,5,7,5,3,5,3,5,7,3,3,3,5,3:3,4,3,0,4,4,6,3,6,6,3,4,6,6,6,4,6,6,6,3@w1.2", 0.2)

	pnagCPU30     = onceForAll("2,2,3,3,3:5,5,0,0,5,5,0,0,7,5,7,0,3,5,5,0,7,5,5,0:3,3,0,0,4,3,0,0,4,3,3,0,6,4,4,0,6,6,6,0@w1.2", 0.1)
	pnagCPU40     = onceForAll("2,3,4,4,4:5,3,0,0,7,5,7,0,5,5,3,3,5,7,7,7,3,3,3,7:4,4,0,0,4,4,4,0,4,6,6,4,6,4,6,6,6,6,6,4@w1.2", 0.1)
	pnagGPU90     = onceForAll("2,2,3,3,4:3,3,0,0,5,3,0,0,5,5,3,0,3,7,3,0,5,3,3,7:3,3,0,0,3,4,0,0,3,3,3,0,4,3,4,0,6,6,6,3@w1.2", 0.1)
	pnagMobile110 = onceForAll("2,3,3,4,4:5,3,0,0,5,3,3,0,3,5,5,0,5,5,5,3,7,5,7,5:3,4,0,0,3,4,4,0,3,3,6,0,4,6,6,6,6,6,6,6@w1.2", 0.1)
	pnagMobile140 = onceForAll("2,4,4,4,4:5,3,0,0,5,5,5,3,5,5,5,5,3,5,5,5,7,5,5,5:4,3,0,0,4,4,4,6,6,3,6,3,6,6,4,6,6,6,6,3@w1.2", 0.1)
	pnagMobile200 = onceForAll("4,4,4,4,4:5,5,5,5,5,7,3,5,7,5,5,3,3,5,5,3,5,3,3,5:6,6,6,6,4,6,6,6,6,6,6,6,6,6,6,6,6,6,6,6@w1.2", 0.1)
)
