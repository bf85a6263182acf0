package space

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

var _ Measurable = MobileNetV3{}

// The parts of a width and a resolution: stem, head, and each unit's blocks by whether they are its first, kernel and expansion.
const (
	mobileStemPart = iota
	mobileHeadPart
	mobileBlockParts
	mobileBlocks = len(mobileKernels) * len(mobileExpansions)
	mobileParts  = mobileBlockParts + mobileUnits*2*mobileBlocks
)

// mobileBlock is the part of a block among those of its width and resolution.
func mobileBlock(unit int, first bool, kernel, expand uint8) int {
	group := 2 * unit
	if !first {
		group++
	}
	return mobileBlockParts + group*mobileBlocks + int(kernelIndex[kernel])*len(mobileExpansions) + int(expandIndex[expand])
}

// Parts are, for each resolution, w1.0/r224/stem, w1.0/r224/head and w1.0/r224/unit1/first/k3/e4 with first or other, kernel and expansion.
func (sp MobileNetV3) Parts() []string {
	var names []string
	for _, r := range sp.resolutions {
		size := fmt.Sprintf("w%s/r%d", mobileWidths[sp.width], r)
		names = append(names, size+"/stem", size+"/head")
		for u := range mobileUnits {
			for _, place := range []string{"first", "other"} {
				for _, k := range mobileKernels {
					for _, e := range mobileExpansions {
						names = append(names, fmt.Sprintf("%s/unit%d/%s/k%d/e%d", size, u+1, place, k, e))
					}
				}
			}
		}
	}
	return names
}

// EachPart visits stem, head and blocks.
func (sp MobileNetV3) EachPart(a Arch, visit func(part int)) bool {
	m, ok := a.(MobileNet)
	at := slices.Index(sp.resolutions, m.resolution)
	if !ok || m.width != sp.width || at < 0 {
		return false
	}
	at *= mobileParts
	visit(at + mobileStemPart)
	visit(at + mobileHeadPart)
	for i := range mobileSlots {
		if m.has(i) {
			visit(at + mobileBlock(i/mobileMaxDepth, i%mobileMaxDepth == 0, m.kernel[i], m.expand[i]))
		}
	}
	return true
}

// PartNetwork builds a part of once-for-all's networks.
func (sp MobileNetV3) PartNetwork(part int) (net, tail *nn.Network, err error) {
	if part < 0 || part >= len(sp.resolutions)*mobileParts {
		return nil, nil, fmt.Errorf("part %d of %s", part, sp.Name())
	}
	width, err := strconv.ParseFloat(mobileWidths[sp.width], 64)
	if err != nil {
		return nil, nil, err
	}
	p := zoo.OnceForAllPart{Width: width, Side: int(sp.resolutions[part/mobileParts])}
	switch part %= mobileParts; part {
	case mobileStemPart:
	case mobileHeadPart:
		p.Unit = zoo.OnceForAllUnits + 1
	default:
		part -= mobileBlockParts
		group, block := part/mobileBlocks, part%mobileBlocks
		p.Unit, p.First = 1+group/2, group%2 == 0
		p.Kernel, p.Ratio = int(mobileKernels[block/len(mobileExpansions)]), int(mobileExpansions[block%len(mobileExpansions)])
	}
	return p.Build(imageNetClasses)
}

// WholeNetwork is once-for-all's network.
func (sp MobileNetV3) WholeNetwork(a Arch) (*nn.Network, error) {
	return zoo.Build(a.String(), 0, imageNetClasses)
}

// unitTime is how long a unit takes.
func (sp MobileNetV3) unitTime(t *Times, resolution, u int, o unit) int64 {
	sum := int64(0)
	for b := range int(o.depth) {
		sum += t.parts[resolution*mobileParts+mobileBlock(u, b == 0, o.kernel[b], o.expand[b])]
	}
	return sum
}

// fixedTime is how long what all networks of a resolution have takes.
func (sp MobileNetV3) fixedTime(t *Times, resolution int) int64 {
	return t.parts[resolution*mobileParts+mobileStemPart] + t.parts[resolution*mobileParts+mobileHeadPart]
}
