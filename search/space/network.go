package space

import (
	"cmp"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// NetworkSize is what a trained network depends on beside its architecture. What is 0 is the network's own: the network that Arch.Cost counts.
type NetworkSize struct {
	Side     int // of the square RGB images
	Classes  int
	Channels int // where a space leaves the width open: of a cell network's stem, of the first nodes of DARTS
	Stacks   int // of a network of cells, each but the first of which halves the size and doubles the channels
	Modules  int // cells a stack
}

// Trainable is an architecture that can be trained: a space whose architectures are Trainable can be searched with labels of its own making.
type Trainable interface {
	Arch
	// Network builds what is trained; an error where the size leaves no room for the architecture. Measures that a space does not leave open are not looked at.
	Network(size NetworkSize) (*nn.Network, error)
}

// Alike are architectures whose networks can be built at a size if that of any one of their space can: a search need not build those it only thinks of.
type Alike interface {
	Trainable
	Alike()
}

// Resizing is a space in which the size of the images may be one of the decisions.
type Resizing interface {
	Space
	Resolutions() []int
}

var (
	_ Trainable = Cell(0)
	_ Alike     = MobileNet{}
	_ Alike     = Genotype{}
	_ Resizing  = MobileNetV3{}
)

// Network is the data set's network around the cell.
func (c Cell) Network(s NetworkSize) (*nn.Network, error) {
	side := cmp.Or(s.Side, imageSide)
	return zoo.CellNetwork{Cell: c, Image: nn.Shape{H: side, W: side, C: imageChannels}, Channels: cmp.Or(s.Channels, stemChannels),
		Stacks: cmp.Or(s.Stacks, stacks), Modules: cmp.Or(s.Modules, cellsPerStack), Classes: cmp.Or(s.Classes, classes)}.Build()
}

// Network is once-for-all's network, with its dropout. Channels and blocks are the architecture's own.
func (m MobileNet) Network(s NetworkSize) (*nn.Network, error) {
	return zoo.Build(m.String(), s.Side, cmp.Or(s.Classes, imageNetClasses))
}

// Alike: strides and paddings are the same in all networks.
func (MobileNet) Alike() {}

// Alike: operations keep what they read or halve it.
func (Genotype) Alike() {}

// Network is the network of the DARTS code around the cells, with its auxiliary head where the size leaves 7 or 8 rows for it. Cells are divided among the stacks
// as there: a number of modules makes as many a stack, otherwise the published number is divided.
func (g Genotype) Network(s NetworkSize) (*nn.Network, error) {
	m := dartsMacros[g.macro]
	n := zoo.DARTSNetwork{Small: g.macro != 0, Side: cmp.Or(s.Side, int(m.side)), Classes: cmp.Or(s.Classes, int(m.classes)),
		Channels: cmp.Or(s.Channels, int(m.channels)), Cells: m.layers, Stacks: cmp.Or(s.Stacks, dartsStacks)}
	if s.Modules > 0 {
		n.Cells = n.Stacks * s.Modules
	}
	for i, cell := range []*zoo.CellGraph{&n.Genotype.Normal, &n.Genotype.Reduce} {
		cell.Concat = []int{2, 3, 4, 5}
		for node := range dartsNodes {
			left, right := g.cells[i][2*node], g.cells[i][2*node+1]
			cell.Nodes = append(cell.Nodes, zoo.Node{Left: dartsOps[left.op], LeftFrom: int(left.from), Right: dartsOps[right.op], RightFrom: int(right.from)})
		}
	}
	net, err := n.Build()
	if err != nil {
		return nil, err
	}
	net.Name = g.String()
	return net, nil
}
