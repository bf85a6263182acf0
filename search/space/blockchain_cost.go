package space

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Network is the network of the blocks by itself, as it was published: with scales and shifts, and its dropout.
func (c BlockChain) Network(s NetworkSize) (*nn.Network, error) {
	net, err := c.of.chain().Network(c.Blocks(), c.of.side(s), c.of.classes(s))
	if err != nil {
		return nil, err
	}
	net.Name = c.String()
	return net, nil
}

func (sp BlockChains) side(s NetworkSize) int { return cmp.Or(s.Side, int(sp.resolution)) }
func (BlockChains) classes(s NetworkSize) int { return cmp.Or(s.Classes, imageNetClasses) }

// Alike: strides and paddings are the same in all networks.
func (BlockChain) Alike() {}

// Cost counts the network by itself for one image of its resolution and 1,000 classes.
func (c BlockChain) Cost() Cost { return c.CostAt(NetworkSize{}) }

// CostAt counts as Cost does.
func (c BlockChain) CostAt(s NetworkSize) Cost {
	t := c.of.costs(s)
	if t == nil {
		return Cost{Unknown, Unknown}
	}
	sum := t.fixed
	for i, layer := range t.blocks {
		sum.MAdds += layer[c.blocks[i]].MAdds
		sum.Params += layer[c.blocks[i]].Params
	}
	return sum
}

// chainCosts are what stands around the layers of a chain's networks, and each layer's blocks, cost.
type chainCosts struct {
	fixed  Cost
	blocks [][]Cost
}

type chainSetting struct {
	of            BlockChains
	side, classes int
}

var chainCostCache sync.Map // of chainSetting; nil where there is no network

// costs counts the blocks of a size once, in a network that has all of them; nil where there is none of the size.
func (sp BlockChains) costs(s NetworkSize) *chainCosts {
	key := chainSetting{sp, sp.side(s), sp.classes(s)}
	if t, ok := chainCostCache.Load(key); ok {
		return t.(*chainCosts)
	}
	var t *chainCosts
	if net, err := sp.chain().All(key.side, key.classes, false, nn.Add{}); err == nil {
		t = &chainCosts{}
		for _, layer := range sp.layers() {
			t.blocks = append(t.blocks, make([]Cost, len(layer)))
		}
		for i, node := range net.Nodes {
			c, sum := net.NodeCost(i), &t.fixed
			if layer, block := sp.place(node.Name); layer >= 0 {
				sum = &t.blocks[layer][block]
			}
			sum.MAdds += c.MAdds
			sum.Params += c.Params
		}
	}
	stored, _ := chainCostCache.LoadOrStore(key, t)
	return stored.(*chainCosts)
}

// place says in which block of which layer a node stands, "layer3/k3e6/expand/conv"; -1 around the layers.
func (sp BlockChains) place(node string) (layer, block int) {
	path := strings.SplitN(node, "/", 3)
	n, err := strconv.Atoi(strings.TrimPrefix(path[0], "layer"))
	if err != nil || len(path) < 3 {
		return -1, -1
	}
	for k, b := range sp.layers()[n-1] {
		if b.Name == path[1] {
			return n - 1, k
		}
	}
	return -1, -1
}

// counted counts the combinations of blocks whose costs and what is fixed sum to least..most; false: there are none.
func (t *chainCosts) counted(fixed, least, most int64, cost func(layer, block int) int64) (*sums, bool) {
	costs := make([][]int64, len(t.blocks))
	for i, layer := range t.blocks {
		for k := range layer {
			costs[i] = append(costs[i], cost(i, k))
		}
	}
	return newSums(costs, least-fixed, most-fixed)
}

// drawn is a draw of architectures of counted combinations of blocks.
func (sp BlockChains) drawn(t *sums) func(s *philox.Stream) Arch {
	return func(s *philox.Stream) Arch {
		blocks := t.draw(s)
		return sp.draw(func(layer, _ int) int { return blocks[layer] })
	}
}

// SampleWithin counts the combinations of blocks within the range.
func (sp BlockChains) SampleWithin(low, high int64, size NetworkSize) (func(s *philox.Stream) Arch, error) {
	none := fmt.Errorf("no architecture of %s was found with %d to %d MAdds", sp.Name(), low, high)
	if size != (NetworkSize{}) {
		none = fmt.Errorf("%w, at %s", none, size)
	}
	t := sp.costs(size)
	if t == nil {
		return nil, none
	}
	counted, ok := t.counted(t.fixed.MAdds, low, high, func(i, k int) int64 { return t.blocks[i][k].MAdds })
	if !ok {
		return nil, none
	}
	draw, found := among(sp.drawn(counted), func(a Arch) bool {
		madds := a.(BlockChain).CostAt(size).MAdds
		return madds >= low && madds <= high
	})
	if !found {
		return nil, none
	}
	return draw, nil
}

// Within draws uniformly over the networks within limits. Costs and times of layers are independent of each other, so
// that the combinations under a limit are counted; of several limits the tightest one is, and the others reject.
func (sp BlockChains) Within(l Limits) (func(s *philox.Stream) Arch, error) {
	if l.None() {
		return sp.Sample, nil
	}
	t := sp.costs(l.Size)
	if t == nil || l.Latency > 0 && l.Times == nil {
		return nil, errNone(sp, l)
	}
	fixedTime := int64(0)
	if l.Times != nil {
		fixedTime = l.Times.parts[chainStemPart] + l.Times.parts[chainHeadPart]
	}
	var tightest *sums
	for _, limit := range []struct {
		most, fixed int64
		cost        func(layer, block int) int64
	}{
		{l.MAdds, t.fixed.MAdds, func(i, k int) int64 { return t.blocks[i][k].MAdds }},
		{l.Params, t.fixed.Params, func(i, k int) int64 { return t.blocks[i][k].Params }},
		{l.Latency, fixedTime, func(i, k int) int64 { return l.Times.parts[sp.part(i, k)] }},
	} {
		if limit.most == 0 {
			continue
		}
		counted, ok := t.counted(limit.fixed, 0, limit.most, limit.cost)
		if !ok {
			return nil, errNone(sp, l)
		}
		if tightest == nil || counted.total() < tightest.total() {
			tightest = counted
		}
	}
	return within(sp, l, sp.drawn(tightest))
}
