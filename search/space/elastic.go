package space

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Elastic is a Sharing space whose networks are ordered: one holds all others, one is held by all.
type Elastic interface {
	Sharing
	// Largest and Smallest hold and are held by all others, for images of a side; 0 is the space's largest and
	// smallest.
	Largest(side int) Arch
	Smallest(side int) Arch
	// SamplePath draws what a training step trains for images of a side, as supernets are trained: every decision is
	// uniform over its choices by itself, those of blocks that turn out to be absent too. Side 0 draws that as well.
	SamplePath(s *philox.Stream, c zoo.Choices, side int) (Arch, error)
}

// Shrinking is an Elastic space whose supernet can be trained by progressive shrinking.
type Shrinking interface {
	Elastic
	// SortChannels says how the channels of the supernet's values go in order of their importance, so that the first
	// ones are worth the most; trained are the expansions trained so far besides the largest, whose channels stay in
	// front.
	SortChannels(s nn.Shared, values [][]float32, trained ...int) (zoo.ChannelOrder, error)
}

var _ Shrinking = MobileNetV3{}

// Supernet is once-for-all's supernet of the width, with the names and the order of its files.
func (sp MobileNetV3) Supernet(size NetworkSize) (nn.Shared, error) {
	return sp.network(0).onceForAll().Supernet(cmp.Or(size.Classes, imageNetClasses))
}

// Path is the sub-network, named by its text, for images of its resolution unless the size says another side.
func (sp MobileNetV3) Path(a Arch, size NetworkSize) (nn.Path, error) {
	m, ok := a.(MobileNet)
	least, most := sp.resolutions[0], sp.resolutions[len(sp.resolutions)-1]
	switch {
	case !ok:
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s: it is none of its networks", a, sp.Name())
	case m.width != sp.width:
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s: its width is %s", m, sp.Name(), m.Width())
	case m.stride != sp.stride:
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s: its stride is %d", m, sp.Name(), m.Stride())
	case m.resolution < least || m.resolution > most:
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s: its resolution is %d, want %d to %d", m,
			sp.Name(), m.resolution, least, most)
	}
	p, err := m.onceForAll().Path(cmp.Or(size.Side, m.Resolution()), cmp.Or(size.Classes, imageNetClasses))
	if err != nil {
		return nn.Path{}, err
	}
	p.Name = m.String()
	return p, nil
}

// Largest has four blocks in each unit, with kernels of 7 and expansions of 6.
func (sp MobileNetV3) Largest(side int) Arch {
	return sp.uniform(cmp.Or(uint16(side), sp.resolutions[len(sp.resolutions)-1]), mobileMaxDepth,
		slices.Max(mobileKernels[:]), slices.Max(mobileExpansions[:]))
}

// Smallest has two blocks in each unit, with kernels and expansions of 3.
func (sp MobileNetV3) Smallest(side int) Arch {
	return sp.uniform(cmp.Or(uint16(side), sp.resolutions[0]), mobileMinDepth, slices.Min(mobileKernels[:]),
		slices.Min(mobileExpansions[:]))
}

// uniform is a network whose blocks are all alike.
func (sp MobileNetV3) uniform(resolution uint16, depth, kernel, expand uint8) MobileNet {
	m := sp.network(resolution)
	for u := range m.depth {
		m.depth[u] = depth
	}
	for i := range mobileSlots {
		m.kernel[i], m.expand[i] = kernel, expand
	}
	m.clear()
	return m
}

// SamplePath draws as once-for-all does (ofa_mbv3.py, sample_active_subnet): the kernels of all 20 blocks, their
// expansions, then the depths of the units; before them the resolution, where it is asked for.
func (sp MobileNetV3) SamplePath(s *philox.Stream, c zoo.Choices, side int) (Arch, error) {
	kernels, err := mobileChoices("kernel", c.Kernels, mobileKernels[:])
	if err != nil {
		return nil, err
	}
	expansions, err := mobileChoices("expansion", c.Expansions, mobileExpansions[:])
	if err != nil {
		return nil, err
	}
	depths, err := mobileChoices("depth", c.Depths, []uint8{2, 3, 4})
	if err != nil {
		return nil, err
	}
	m := sp.network(uint16(side))
	if side == 0 {
		m.resolution = sp.resolutions[s.Intn(len(sp.resolutions))]
	}
	for i := range m.kernel {
		m.kernel[i] = kernels[s.Intn(len(kernels))]
	}
	for i := range m.expand {
		m.expand[i] = expansions[s.Intn(len(expansions))]
	}
	for u := range m.depth {
		m.depth[u] = depths[s.Intn(len(depths))]
	}
	m.clear()
	return m, nil
}

// mobileChoices are the allowed ones of what there is.
func mobileChoices(what string, allowed []int, all []uint8) ([]uint8, error) {
	if len(allowed) == 0 {
		return all, nil
	}
	out := make([]uint8, len(allowed))
	for i, v := range allowed {
		if v != int(uint8(v)) || !slices.Contains(all, uint8(v)) {
			return nil, fmt.Errorf("%s %d is no choice of %s, want some of %v", what, v, mobileName, all)
		}
		out[i] = uint8(v)
	}
	return out, nil
}

// SortChannels is once-for-all's order of the middle channels (zoo.OnceForAll.SortChannels).
func (sp MobileNetV3) SortChannels(s nn.Shared, values [][]float32, trained ...int) (zoo.ChannelOrder, error) {
	return sp.network(0).onceForAll().SortChannels(s, values, trained...)
}
