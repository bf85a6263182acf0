package zoo

import (
	"cmp"
	"fmt"
	"strings"

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

// mobileNetV3Space begins the text of a sub-network of once-for-all's MobileNetV3 space.
const mobileNetV3Space = "mobilenetv3:"

// Build builds the network of a name, or of a text that begins with mobileNetV3Space, for square images of a side, 0 for
// the published one, and a number of classes.
func Build(name string, side, classes int) (*nn.Network, error) {
	build, names, published, err := find(name)
	if err != nil {
		return nil, err
	}
	if side == 0 {
		side = published
	}
	net, err := build(side, classes)
	if err != nil {
		return nil, err
	}
	net.Name = name
	if names != nil {
		names(net)
	}
	return net, nil
}

// find returns how a network is built and named, and its published size.
func find(name string) (build, naming, int, error) {
	if text, found := strings.CutPrefix(name, mobileNetV3Space); found {
		o, err := ParseOnceForAll(text)
		o.Dropout = ofaDropout
		return o.Build, onceForAllNames, cmp.Or(o.Side, 224), err
	}
	if n := lookup(name); n != nil {
		return n.build, n.names, n.side, nil
	}
	return nil, nil, 0, fmt.Errorf("unknown network %q; known: %s, or %sdepths:kernels:ratios@w1.2,r224", name,
		strings.Join(Names(), ", "), mobileNetV3Space)
}
