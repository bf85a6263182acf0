package zoo

import (
	"fmt"
	"sync"

	"github.com/ctnas/ctnas/trainer/nn"
)

// BlockChain is a space of networks: layers one after the other, each of which is one of several blocks. The blocks of
// a layer read and give tensors of the same shapes, so that the layers choose independently of each other, and share no
// weights.
type BlockChain struct {
	Name   string
	Layers [][]Block
	// Like are, of each layer, the first layer whose blocks have the same channels, strides and sizes.
	Like []int

	stem, head func(b *nn.Builder, x nn.Tensor) nn.Tensor
	classifier nn.Linear // but for the number of outputs
	dropout    float64
	plain      bool // norms of the supernet have neither scale nor shift
	// names is the module of a node in files, by its name in its block: layers count from 0, and block is "2." in the
	// supernet and empty in a network by itself. Layer -1 is what stands around the layers.
	names func(layer int, block string, node []string) string
	// at is where the variables of the supernet are.
	at func() map[nodeVariable]int
}

// nodeVariable is a variable by its node, whose name is the same in a network of one block a layer and in that of all.
type nodeVariable struct {
	node string
	role nn.Role
}

// add adds the layers of a stage, of which all but the first are alike.
func (c *BlockChain) add(repeat int, layer func(i int) []Block) {
	for i := range repeat {
		c.Like = append(c.Like, len(c.Layers)-max(0, i-1))
		c.Layers = append(c.Layers, layer(i))
	}
}

// ready is the space with what is found of it once.
func (c BlockChain) ready() BlockChain {
	c.at = sync.OnceValue(func() map[nodeVariable]int {
		net, err := c.All(32, 1, c.plain, nn.Add{})
		if err != nil {
			panic(err)
		}
		at := map[nodeVariable]int{}
		for i, v := range net.Variables() {
			at[nodeVariable{net.Nodes[v.Node].Name, v.Role}] = i
		}
		return at
	})
	return c
}

// Block is one of the blocks that a layer chooses from.
type Block struct {
	Name  string   // "k3e6"; unique in its layer
	Parts []string // what it is by itself, decision by decision: {"expand 6", "kernel 3"}
	Build func(b *nn.Builder, x nn.Tensor) nn.Tensor
}

// ChainSize is the size of a BlockChain's networks beside that of their images.
type ChainSize struct {
	Width float64 // times the channels, rounded to multiples of 8; 1 as published
	// Whole is how many of the five layers that halve the images keep their size instead, the first ones: none as
	// published, where 224 pixels become 7.
	Whole int
}

// channels are a number of channels at the width.
func (s ChainSize) channels(published int) int {
	if s.Width == 1 {
		return published
	}
	return roundChannels(s.Width * float64(published))
}

// stride is that of the k-th of the five layers that halve the images.
func (s ChainSize) stride(k int) int {
	if k < s.Whole {
		return 1
	}
	return 2
}

// Network is the network of some blocks, the number of one for each layer, by itself: norms have scale and shift.
func (c BlockChain) Network(blocks []int, side, classes int) (*nn.Network, error) {
	net, err := c.build(side, classes, false, nil, c.single(blocks))
	if err != nil {
		return nil, err
	}
	c.rename(net, false)
	return net, nil
}

// Plain tells whether the supernet's norms have neither scale nor shift.
func (c BlockChain) Plain() bool { return c.plain }

// Supernet is what the networks share: the weights of every block of every layer.
func (c BlockChain) Supernet(classes int) (nn.Shared, error) {
	net, err := c.All(32, classes, c.plain, nn.Add{}) // variables do not depend on the side
	if err != nil {
		return nn.Shared{}, err
	}
	return nn.Shared{Name: "supernet of " + c.Name, Variables: net.Variables(), Branches: net.Branches()}, nil
}

// Path is the network of some blocks over the variables of Supernet. Its own have the names of a network by itself.
func (c BlockChain) Path(blocks []int, side, classes int) (nn.Path, error) {
	net, err := c.build(side, classes, c.plain, nil, c.single(blocks))
	if err != nil {
		return nn.Path{}, err
	}
	at := c.at()
	c.rename(net, false)
	p := nn.Path{Network: net}
	for _, v := range net.Variables() {
		p.Bindings = append(p.Bindings, nn.Binding{Shared: at[nodeVariable{net.Nodes[v.Node].Name, v.Role}]})
	}
	return p, nil
}

// single is how a layer of one block is built.
func (c BlockChain) single(blocks []int) func(b *nn.Builder, x nn.Tensor, layer int) nn.Tensor {
	return func(b *nn.Builder, x nn.Tensor, layer int) nn.Tensor {
		if len(blocks) != len(c.Layers) || blocks[layer] < 0 || blocks[layer] >= len(c.Layers[layer]) {
			b.Fail("blocks %v, want a number in each of %d layers", blocks, len(c.Layers))
			return x
		}
		block := c.Layers[layer][blocks[layer]]
		return block.Build(b.Scope("%s", block.Name), x)
	}
}

// All is the network in which every layer has all of its blocks and joins what they give. Plain norms have neither
// scale nor shift. Variables have the supernet's names.
func (c BlockChain) All(side, classes int, plain bool, join nn.Op) (*nn.Network, error) {
	return c.all(side, classes, plain, nil, func(int) nn.Op { return join })
}

// Rows are those of Mixture: a layer's blocks.
func (c BlockChain) Rows() (rows []nn.Row) {
	for i, layer := range c.Layers {
		row := nn.Row{Name: fmt.Sprintf("layer%d", i+1)}
		for _, block := range layer {
			row.Choices = append(row.Choices, block.Name)
		}
		rows = append(rows, row)
	}
	return rows
}

// Mixture is the network in which every layer is the sum of all of its blocks, each times its weight, over the
// variables of Supernet (Wu et al., "FBNet", CVPR 2019).
func (c BlockChain) Mixture(shared nn.Shared, side, classes int) (nn.Path, error) {
	net, err := c.all(side, classes, c.plain, c.Rows(), func(layer int) nn.Op { return nn.Mix{Row: layer, Rows: 1} })
	if err != nil {
		return nn.Path{}, err
	}
	return bind(net, shared, func(name string) string { return name })
}

// all is the network of all blocks, with some rows, in which each layer's are joined by an operation of its own.
func (c BlockChain) all(side, classes int, plain bool, rows []nn.Row, join func(layer int) nn.Op) (*nn.Network,
	error) {
	net, err := c.build(side, classes, plain, rows, func(b *nn.Builder, x nn.Tensor, layer int) nn.Tensor {
		var given []nn.Tensor
		for _, block := range c.Layers[layer] {
			given = append(given, block.Build(b.Scope("%s", block.Name), x))
		}
		return b.Apply("join", join(layer), given...)
	})
	if err != nil {
		return nil, err
	}
	c.rename(net, true)
	return net, nil
}

// build builds a network, with some rows, of layers between stem and head. Nodes of a block are named
// "layer3/k3e6/expand/conv".
func (c BlockChain) build(side, classes int, plain bool, rows []nn.Row,
	layer func(b *nn.Builder, x nn.Tensor, layer int) nn.Tensor) (*nn.Network, error) {
	b, x := nn.NewBuilder(c.Name, nn.Shape{H: side, W: side, C: 3})
	for _, r := range rows {
		b.Row(r)
	}
	b.Norm = torchNorm
	b.Norm.NoAffine = plain
	x = c.stem(b, x)
	for i := range c.Layers {
		x = layer(b.Scope("layer%d", i+1), x, i)
	}
	x = b.Apply("pool", nn.GlobalPool{}, c.head(b, x))
	last := c.classifier
	last.Out = classes
	return classify(b, x, last, c.dropout)
}

// rename gives modules the names of the space's files, those of the supernet or of a network by itself.
func (c BlockChain) rename(net *nn.Network, supernet bool) {
	rename(net, func(path []string) string {
		layer, inLayer := numbered(path[0], "layer")
		if !inLayer {
			return c.names(-1, "", path)
		}
		number := ""
		for i, block := range c.Layers[layer-1] {
			if supernet && block.Name == path[1] {
				number = fmt.Sprintf("%d.", i)
			}
		}
		return c.names(layer-1, number, path[2:])
	})
}
