package space

import (
	"fmt"
	"slices"
	"sync"
)

// unitOptions lists the 9² + 9³ + 9⁴ = 7,371 units.
var unitOptions = sync.OnceValue(func() []unit {
	var list []unit
	blocks := len(mobileKernels) * len(mobileExpansions)
	for d := mobileMinDepth; d <= mobileMaxDepth; d++ {
		n := 1
		for range d {
			n *= blocks
		}
		for code := range n {
			u := unit{depth: uint8(d)}
			for i := range d {
				u.kernel[i] = mobileKernels[code%blocks/len(mobileExpansions)]
				u.expand[i] = mobileExpansions[code%blocks%len(mobileExpansions)]
				code /= blocks
			}
			list = append(list, u)
		}
	}
	return list
})

// The alphabet: an input of each published width and resolution, for each slot an operation a kernel and one an
// expansion, an end of each unit and depth, the output. In spaces that are not published, whose width and stride their
// names say, the inputs are resolutions alone.
const (
	mobileLowest      = 112 // resolutions are told apart in steps of 16 from here
	mobileResolutions = 9
	mobileSmallLowest = minResolution / 2
	mobileFirstSlot   = mobilePublished * mobileResolutions
	mobileSlotOps     = len(mobileExpansions) + len(mobileKernels)
	mobileFirstEnd    = mobileFirstSlot + mobileSlots*mobileSlotOps
	mobileDepths      = mobileMaxDepth - mobileMinDepth + 1
	mobileOutput      = mobileFirstEnd + mobileUnits*mobileDepths
)

// Alphabet lists the operations of a Graph's nodes. Decisions are operations of their own in every slot: what a kernel
// of 7 is worth depends on where it stands.
func (sp MobileNetV3) Alphabet() []string {
	names := make([]string, 0, mobileOutput+1)
	for i := range mobileFirstSlot {
		if sp.Published() {
			names = append(names, fmt.Sprintf("input w%s r%d", mobileWidths[i/mobileResolutions],
				mobileLowest+resolutionStep*(i%mobileResolutions)))
		} else {
			names = append(names, fmt.Sprintf("input r%d", mobileSmallLowest+resolutionStep*i))
		}
	}
	for i := range mobileSlots {
		at := fmt.Sprintf("%d.%d", i/mobileMaxDepth+1, i%mobileMaxDepth+1)
		for _, e := range mobileExpansions {
			names = append(names, fmt.Sprintf("%s expand %d", at, e))
		}
		for _, k := range mobileKernels {
			names = append(names, fmt.Sprintf("%s kernel %d", at, k))
		}
	}
	for u := range mobileUnits {
		for d := mobileMinDepth; d <= mobileMaxDepth; d++ {
			names = append(names, fmt.Sprintf("%d end of %d blocks", u+1, d))
		}
	}
	return append(names, outputName)
}

// MaxNodes is 47: the input, two nodes a block, an end of every unit, the output.
func (MobileNetV3) MaxNodes() int { return 2*mobileSlots + mobileUnits + 2 }

// Graph is a chain of blocks. A block is two nodes, its expansion and its kernel, that both read the block before; a
// block that is absent is left out; a unit ends with a node that says its depth. This form is this project's own: the
// paper's code has none for this space.
func (m MobileNet) Graph() Graph {
	g := Graph{Ops: []uint16{m.input()}}
	before := []uint8{0}
	for i := range mobileSlots {
		if !m.has(i) {
			continue
		}
		op := mobileFirstSlot + i*mobileSlotOps
		v := uint8(len(g.Ops))
		g.Ops = append(g.Ops, uint16(op+slices.Index(mobileExpansions[:], m.expand[i])),
			uint16(op+len(mobileExpansions)+slices.Index(mobileKernels[:], m.kernel[i])))
		for _, u := range before {
			g.Edges = append(g.Edges, [2]uint8{u, v}, [2]uint8{u, v + 1})
		}
		before = []uint8{v, v + 1}
		if unit := i / mobileMaxDepth; i%mobileMaxDepth == int(m.depth[unit])-1 {
			end := v + 2
			g.Ops = append(g.Ops, uint16(mobileFirstEnd+unit*mobileDepths+int(m.depth[unit])-mobileMinDepth))
			g.Edges = append(g.Edges, [2]uint8{v, end}, [2]uint8{v + 1, end})
			before = []uint8{end}
		}
	}
	g.Edges = append(g.Edges, [2]uint8{before[0], uint8(len(g.Ops))})
	g.Ops = append(g.Ops, uint16(mobileOutput))
	return g
}

// input is the operation of a Graph's first node: the nearest resolution that there is.
func (m MobileNet) input() uint16 {
	lowest, resolutions, first := mobileLowest, mobileResolutions, int(m.width)*mobileResolutions
	if !m.Published() {
		lowest, resolutions, first = mobileSmallLowest, mobileFirstSlot, 0
	}
	r := (int(m.resolution) - lowest + resolutionStep/2) / resolutionStep
	return uint16(first + min(max(r, 0), resolutions-1))
}

// Grammar is the released code's sequence (train_mb.py): for each unit its depth, then four times expansion and kernel,
// whatever the depth; before all, the resolution where there are several. Every decision has a head of its own.
func (sp MobileNetV3) Grammar() *Grammar {
	g := &Grammar{}
	var steps []Step
	add := func(name string, choices int) {
		steps = append(steps, Step{len(g.Heads), choices})
		g.Heads = append(g.Heads, Head{name, choices})
	}
	if len(sp.resolutions) > 1 {
		add("resolution", len(sp.resolutions))
	}
	for u := range mobileUnits {
		add(fmt.Sprintf("depth%d", u+1), mobileMaxDepth-mobileMinDepth+1)
		for b := range mobileMaxDepth {
			add(fmt.Sprintf("expand%d.%d", u+1, b+1), len(mobileExpansions))
			add(fmt.Sprintf("kernel%d.%d", u+1, b+1), len(mobileKernels))
		}
	}
	g.fixed(steps)
	return g
}

// fixed makes the grammar the same list of steps whatever the first choice is.
func (g *Grammar) fixed(steps []Step) {
	g.First = steps[0]
	for range steps[0].Choices {
		g.Variants = append(g.Variants, steps[1:])
	}
}

// Decode returns the network of a sequence of decisions; those of absent blocks do not matter.
func (sp MobileNetV3) Decode(actions []int) (Arch, error) {
	if err := sp.Grammar().Check(actions); err != nil {
		return nil, err
	}
	m := sp.network(sp.resolutions[0])
	if len(sp.resolutions) > 1 {
		m.resolution, actions = sp.resolutions[actions[0]], actions[1:]
	}
	for i := range mobileSlots {
		if i%mobileMaxDepth == 0 {
			m.depth[i/mobileMaxDepth], actions = uint8(mobileMinDepth+actions[0]), actions[1:]
		}
		m.expand[i], m.kernel[i], actions = mobileExpansions[actions[0]], mobileKernels[actions[1]], actions[2:]
	}
	m.clear()
	return m, nil
}

// Encode returns the decisions of a network; those of absent blocks are 0.
func (sp MobileNetV3) Encode(a Arch) ([]int, error) {
	m, ok := a.(MobileNet)
	if !ok {
		return nil, fmt.Errorf("%T is no network of %s", a, sp.Name())
	}
	at := slices.Index(sp.resolutions, m.resolution)
	if at < 0 || !sp.has(m) {
		return nil, fmt.Errorf("%v is not of the width, resolution and stride of %s", m, sp.Name())
	}
	var actions []int
	if len(sp.resolutions) > 1 {
		actions = append(actions, at)
	}
	for i := range mobileSlots {
		if i%mobileMaxDepth == 0 {
			actions = append(actions, int(m.depth[i/mobileMaxDepth])-mobileMinDepth)
		}
		actions = append(actions, max(0, slices.Index(mobileExpansions[:], m.expand[i])),
			max(0, slices.Index(mobileKernels[:], m.kernel[i])))
	}
	return actions, nil
}
