package zoo

import (
	"cmp"

	"github.com/ctnas/ctnas/internal/names"
	"github.com/ctnas/ctnas/trainer/nn"
)

type build = func(side, classes int) (*nn.Network, error)

func ofChain(c chain) build {
	return func(side, classes int) (*nn.Network, error) { return c.build("chain", side, classes) }
}

func ofGenotype(g Genotype, channels int) build {
	return func(side, classes int) (*nn.Network, error) {
		return DARTSNetwork{Genotype: g, Side: side, Classes: classes, Channels: channels, Cells: 14, Stacks: 3}.Build()
	}
}

// Names lists the networks that Open knows.
func Names() []string {
	var names []string
	for _, n := range networks {
		if n.build != nil {
			names = append(names, n.Name)
		}
	}
	return names
}

// Open builds the network of a name for 1000 classes and its published input size.
func Open(name string) (*nn.Network, error) { return Build(name, 0, 1000) }

// Build builds the network of a name, ours or that of a program whose weights are known (Variant.Model), for square
// images of a side, 0 for the published one, and a number of classes.
func Build(name string, side, classes int) (*nn.Network, error) {
	n := lookup(name)
	if n == nil {
		return nil, names.Unknown("network", name, Names())
	}
	net, err := n.build(cmp.Or(side, n.side), classes)
	if err != nil {
		return nil, err
	}
	net.Name = n.Name
	if n.names != nil {
		n.names(net)
	}
	return net, nil
}
