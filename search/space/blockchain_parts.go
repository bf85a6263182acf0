package space

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The parts of a space: stem, head, and the blocks of each kind of layer. Layers with the same channels, strides and
// sizes are of one kind, and the first of them names it.
const (
	chainStemPart = iota
	chainHeadPart
	chainBlockParts
)

// part is that of a layer's block.
func (sp BlockChains) part(layer, block int) int {
	at := chainBlockParts + block
	like := sp.chain().Like
	for i, l := range sp.layers()[:like[layer]] {
		if like[i] == i {
			at += len(l)
		}
	}
	return at
}

// Parts are w1.0/r224/stem, w1.0/r224/head, w1.0/r224/layer1/shuffle3 and so on, with w0.5/r32/s8 where the stride is
// not 32.
func (sp BlockChains) Parts() []string {
	size := strings.ReplaceAll(sp.size(), ",", "/")
	names := []string{size + "/stem", size + "/head"}
	like := sp.chain().Like
	for i, layer := range sp.layers() {
		for _, name := range blockNames(layer) {
			if like[i] == i {
				names = append(names, fmt.Sprintf("%s/layer%d/%s", size, i+1, name))
			}
		}
	}
	return names
}

// EachPart visits stem, head and blocks.
func (sp BlockChains) EachPart(a Arch, visit func(part int)) bool {
	c, err := sp.own(a)
	if err != nil {
		return false
	}
	visit(chainStemPart)
	visit(chainHeadPart)
	for i, block := range c.Blocks() {
		visit(sp.part(i, block))
	}
	return true
}

// Dissect builds the network of the blocks: the stem, the blocks in their order, and the head.
func (sp BlockChains) Dissect(a Arch) (net *nn.Network, section, part []int, err error) {
	c, err := sp.own(a)
	if err != nil {
		return nil, nil, nil, err
	}
	if net, err = c.Network(NetworkSize{}); err != nil {
		return nil, nil, nil, err
	}
	part = []int{chainStemPart}
	for i, block := range c.Blocks() {
		part = append(part, sp.part(i, block))
	}
	part = append(part, chainHeadPart)
	section = make([]int, len(net.Nodes))
	last := 0
	for i, node := range net.Nodes {
		scope, _, _ := strings.Cut(node.Name, "/")
		switch n, err := strconv.Atoi(strings.TrimPrefix(scope, "layer")); {
		case err == nil:
			last = n
		case last > 0:
			last = len(part) - 1
		}
		section[i] = last
	}
	return net, section, part, nil
}

// Cover draws as many networks as there are blocks: in each layer each block comes once.
func (sp BlockChains) Cover(s *philox.Stream) []Arch {
	var out []Arch
	for _, c := range sp.strict(s) {
		out = append(out, c)
	}
	return out
}

// strict draws a permutation of the blocks of each layer; the k-th network has the k-th of each. Of a layer with fewer
// blocks than others some come again.
func (sp BlockChains) strict(s *philox.Stream) []BlockChain {
	var orders [][]int
	most := 0
	for _, layer := range sp.layers() {
		orders = append(orders, s.Perm(len(layer)))
		most = max(most, len(layer))
	}
	out := make([]BlockChain, most)
	for k := range out {
		out[k] = sp.draw(func(layer, blocks int) int { return orders[layer][k%blocks] })
	}
	return out
}
