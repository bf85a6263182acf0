package space

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// NetworkSize is what a trained network depends on beside its architecture. What is 0 is the network's own: the network
// that Arch.Cost counts.
type NetworkSize struct {
	Side    int `json:"side,omitempty"` // of the square RGB images
	Classes int `json:"classes,omitempty"`
	// Channels count where a space leaves the width open: of a cell network's stem, of the first nodes of DARTS.
	Channels int `json:"channels,omitempty"`
	// Stacks are those of a network of cells, each but the first of which halves the size and doubles the channels.
	Stacks  int `json:"stacks,omitempty"`
	Modules int `json:"modules,omitempty"` // cells a stack
}

// String says what is not the network's own: "16x16 images, 10 classes, 8 channels".
func (s NetworkSize) String() string {
	var said []string
	if s.Side > 0 {
		said = append(said, fmt.Sprintf("%dx%d images", s.Side, s.Side))
	}
	for _, part := range []struct {
		n    int
		name string
	}{{s.Classes, "classes"}, {s.Channels, "channels"}, {s.Stacks, "stacks"}, {s.Modules, "modules"}} {
		if part.n > 0 {
			said = append(said, fmt.Sprintf("%d %s", part.n, part.name))
		}
	}
	return strings.Join(said, ", ")
}

// Trainable is an architecture that can be trained: a space whose architectures are Trainable can be searched with
// labels of its own making.
type Trainable interface {
	Arch
	// Network builds what is trained; an error where the size leaves no room for the architecture. Measures that a
	// space does not leave open are not looked at.
	Network(size NetworkSize) (*nn.Network, error)
	// CostAt is what that network takes, as its own Cost counts it, without building it; Unknown where it cannot be
	// built.
	CostAt(size NetworkSize) Cost
}

// Network is the network that a text names: an architecture of a space, behind the space's name and a colon, or a
// network of the zoo.
func Network(text string, size NetworkSize) (*nn.Network, error) {
	kind, _, ofSpace := strings.Cut(text, ":")
	if !ofSpace {
		return zoo.Build(text, size.Side, cmp.Or(size.Classes, imageNetClasses))
	}
	sp, err := Open(kind)
	if err != nil {
		return nil, fmt.Errorf("architecture %.200q: %w; other networks are those of the zoo", text, err)
	}
	a, err := sp.Parse(text)
	if err != nil {
		return nil, err
	}
	t, trainable := a.(Trainable)
	if !trainable {
		return nil, fmt.Errorf("architecture %.200q: %w", text, ErrNotTrainable(sp))
	}
	return t.Network(size)
}

// ErrNotTrainable says that a space's architectures are no networks.
func ErrNotTrainable(sp Space) error {
	return fmt.Errorf("architectures of %s cannot be trained: nothing says what layers their operations are", sp.Name())
}

// mostTries is after how many random architectures that cannot be built a size is taken for one that leaves no room for
// any.
const mostTries = 20

// Buildable tells whether a space's architectures are networks at all, and why none can be built at a size.
func Buildable(sp Space, size NetworkSize, random *philox.Stream) (trainable bool, err error) {
	for range mostTries {
		t, ok := sp.Sample(random).(Trainable)
		if !ok {
			return false, nil
		}
		if _, err = t.Network(size); err == nil {
			break
		}
	}
	return true, err
}

// Alike are architectures whose networks can be built at a size if that of any one of their space can: a search need
// not build those it only thinks of.
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
	return zoo.CellNetwork{Cell: c, Image: nn.Shape{H: side, W: side, C: imageChannels},
		Channels: cmp.Or(s.Channels, stemChannels), Stacks: cmp.Or(s.Stacks, stacks),
		Modules: cmp.Or(s.Modules, cellsPerStack), Classes: cmp.Or(s.Classes, classes)}.Build()
}

// CostAt counts as Cost does.
func (c Cell) CostAt(s NetworkSize) Cost {
	m := cellMacro{side: cmp.Or(s.Side, imageSide), channels: cmp.Or(s.Channels, stemChannels),
		stacks:  cmp.Or(s.Stacks, stacks),
		modules: cmp.Or(s.Modules, cellsPerStack), classes: cmp.Or(s.Classes, classes)}
	if m.channels < maxVertices || m.side < 1 { // a vertex may be without channels
		if _, err := c.Network(s); err != nil {
			return Cost{Unknown, Unknown}
		}
	}
	return c.cost(m)
}

// Network is once-for-all's network, with its dropout. Channels and blocks are the architecture's own.
func (m MobileNet) Network(s NetworkSize) (*nn.Network, error) {
	net, err := m.onceForAll().Build(cmp.Or(s.Side, m.Resolution()), cmp.Or(s.Classes, imageNetClasses))
	if err != nil {
		return nil, err
	}
	net.Name = m.String()
	return net, nil
}

func (m MobileNet) onceForAll() zoo.OnceForAll {
	o := zoo.OnceForAll{Width: mobileMultipliers[m.width], Whole: int(m.stride), Dropout: zoo.OnceForAllDropout}
	copy(o.Depths[:], m.Depths())
	copy(o.Kernels[:], m.Kernels())
	copy(o.Ratios[:], m.Expansions())
	return o
}

// CostAt counts as Cost does.
func (m MobileNet) CostAt(s NetworkSize) Cost {
	if s.Side < 0 {
		return Cost{Unknown, Unknown}
	}
	return m.cost(cmp.Or(s.Side, int(m.resolution)), cmp.Or(s.Classes, imageNetClasses))
}

// Alike: strides and paddings are the same in all networks.
func (MobileNet) Alike() {}

// Alike: operations keep what they read or halve it.
func (Genotype) Alike() {}

// Network is the network of the DARTS code around the cells, with its auxiliary head where the size leaves 7 or 8 rows
// for it. Cells are divided among the stacks as there: a number of modules makes as many a stack, otherwise the
// published number is divided.
func (g Genotype) Network(s NetworkSize) (*nn.Network, error) {
	n := dartsMacros[g.macro].at(s).network(g.macro)
	n.Genotype = g.zoo()
	net, err := n.Build()
	if err != nil {
		return nil, err
	}
	net.Name = g.String()
	return net, nil
}

// network is the network around no cells yet.
func (m dartsMacro) network(macro uint8) zoo.DARTSNetwork {
	return zoo.DARTSNetwork{Small: macro != 0, Side: int(m.side), Classes: int(m.classes), Channels: int(m.channels),
		Cells: m.layers, Stacks: m.stacks}
}

// zoo is the genotype as networks are built of it.
func (g Genotype) zoo() zoo.Genotype {
	var out zoo.Genotype
	for i, cell := range []*zoo.CellGraph{&out.Normal, &out.Reduce} {
		cell.Concat = []int{2, 3, 4, 5}
		for node := range dartsNodes {
			left, right := g.cells[i][2*node], g.cells[i][2*node+1]
			cell.Nodes = append(cell.Nodes, zoo.Node{Left: dartsOps[left.op], LeftFrom: int(left.from),
				Right: dartsOps[right.op], RightFrom: int(right.from)})
		}
	}
	return out
}

// CostAt counts as Cost does.
func (g Genotype) CostAt(s NetworkSize) Cost {
	m := dartsMacros[g.macro].at(s)
	if m.side < 1 || m.channels < 2 { // half of them may be none
		if _, err := g.Network(s); err != nil {
			return Cost{Unknown, Unknown}
		}
	}
	return g.cost(m)
}
