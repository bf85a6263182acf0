package zoo

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// OnceForAllPart is a part of once-for-all's networks: a block of a unit, or what stands in every network before and behind the units.
type OnceForAllPart struct {
	Width         float64 // of the network: 1.0 or 1.2
	Side          int     // of the network's images
	Unit          int     // 1 to 5; 0: the stem and the block behind it; 6: from the head to the logits
	First         bool    // the unit's first block, which changes size and channels
	Kernel, Ratio int     // of a block
}

// OnceForAllUnits is the number of units; a part of that and one more is the head.
const OnceForAllUnits = ofaUnits

// Build builds the part as a network by itself: its input is what the part would read. So that there are logits, all parts but the head end in a pooling and
// a small linear layer; these alone, over what the part writes, are tail, which is nil for the head.
func (p OnceForAllPart) Build(classes int) (net, tail *nn.Network, err error) {
	if p.Unit < 0 || p.Unit > ofaUnits+1 {
		return nil, nil, fmt.Errorf("unit %d of a network of %d", p.Unit, ofaUnits)
	}
	widths := ofaChannels(p.Width)
	c := ofaChain(widths, 0)
	half := func(side int) int { return (side + 1) / 2 }
	side, channels := half(p.Side), widths[0] // behind the stem
	for u := range min(p.Unit, ofaUnits+1) - 1 {
		if ofaStages[u].stride == 2 {
			side = half(side)
		}
		channels = widths[u+1]
	}
	switch {
	case p.Unit == 0:
		side, channels = p.Side, 3
	case p.Unit <= ofaUnits && !p.First: // reads what the first block writes
		if ofaStages[p.Unit-1].stride == 2 {
			side = half(side)
		}
		channels = widths[p.Unit]
	}
	b, x := nn.NewBuilder("part", nn.Shape{H: side, W: side, C: channels})
	b.Norm = c.norm
	switch {
	case p.Unit == 0:
		x = c.blocks[0].build(b.Scope("block1"), c.begin(b, x), c.habits)
	case p.Unit > ofaUnits:
		net, err = c.end(b, x, classes)
		return net, nil, err
	default:
		x = ofaBlock(p.Unit-1, p.First, channels, widths[p.Unit], p.Kernel, p.Ratio).build(b, x, c.habits)
	}
	if net, err = partTail(b, x); err != nil {
		return nil, nil, err
	}
	b, x = nn.NewBuilder("tail", x.Shape)
	tail, err = partTail(b, x)
	return net, tail, err
}

// partTail ends a part that has no logits of its own.
func partTail(b *nn.Builder, x nn.Tensor) (*nn.Network, error) {
	return classify(b.Scope("tail"), b.Scope("tail").Apply("pool", nn.GlobalPool{}, x), nn.Linear{Out: 8, Bias: true}, 0)
}
