package space

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

var _ Measurable = MobileNetV3{}

// The parts of a width and a resolution: stem, head, and each unit's blocks by whether they are its first, kernel and
// expansion.
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
	return mobileBlockParts + group*mobileBlocks + int(kernelIndex[kernel])*len(mobileExpansions) +
		int(expandIndex[expand])
}

// Parts are, for each resolution, w1.0/r224/stem, w1.0/r224/head and w1.0/r224/unit1/first/k3/e4 with first or other,
// kernel and expansion; w0.5/r32/s8/stem where the stride is not 32.
func (sp MobileNetV3) Parts() []string {
	var names []string
	for _, r := range sp.resolutions {
		size := fmt.Sprintf("w%s/r%d", mobileWidths[sp.width], r)
		if sp.stride > 0 {
			size += fmt.Sprintf("/s%d", mobileStrides[sp.stride])
		}
		names = append(names, size+"/stem", size+"/head")
		for u := range mobileUnits {
			for _, position := range []string{"first", "other"} {
				for _, k := range mobileKernels {
					for _, e := range mobileExpansions {
						names = append(names, fmt.Sprintf("%s/unit%d/%s/k%d/e%d", size, u+1, position, k, e))
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
	if !ok || !sp.has(m) || at < 0 {
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

// Dissect builds once-for-all's network: the stem with the block behind it, the blocks in their order, and the head.
func (sp MobileNetV3) Dissect(a Arch) (net *nn.Network, section, part []int, err error) {
	m, ok := a.(MobileNet)
	at := slices.Index(sp.resolutions, m.resolution)
	if !ok || !sp.has(m) || at < 0 {
		return nil, nil, nil, fmt.Errorf("%v is no architecture of %s", a, sp.Name())
	}
	if net, err = m.Network(NetworkSize{}); err != nil {
		return nil, nil, nil, err
	}
	part = []int{at*mobileParts + mobileStemPart}
	for i := range mobileSlots {
		if m.has(i) {
			part = append(part, at*mobileParts+mobileBlock(i/mobileMaxDepth, i%mobileMaxDepth == 0, m.kernel[i],
				m.expand[i]))
		}
	}
	part = append(part, at*mobileParts+mobileHeadPart)
	section = make([]int, len(net.Nodes))
	for i, node := range net.Nodes {
		scope, _, _ := strings.Cut(node.Name, "/")
		number, isBlock := strings.CutPrefix(scope, "block")
		switch n, err := strconv.Atoi(number); {
		case isBlock && err == nil:
			section[i] = n - 1 // the first stands with the stem
		case scope == "input" || scope == "stem":
		default:
			section[i] = len(part) - 1
		}
	}
	return net, section, part, nil
}

// Cover draws, for each resolution, nine networks of the greatest depth: in every slot each of the nine kinds of block
// comes once.
func (sp MobileNetV3) Cover(s *philox.Stream) []Arch {
	var out []Arch
	for _, r := range sp.resolutions {
		var order [mobileSlots][]int
		for i := range order {
			order[i] = s.Perm(mobileBlocks)
		}
		for k := range mobileBlocks {
			m := sp.network(r)
			for u := range m.depth {
				m.depth[u] = mobileMaxDepth
			}
			for i := range mobileSlots {
				kind := order[i][k]
				m.kernel[i], m.expand[i] = mobileKernels[kind/len(mobileExpansions)],
					mobileExpansions[kind%len(mobileExpansions)]
			}
			out = append(out, m)
		}
	}
	return out
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
