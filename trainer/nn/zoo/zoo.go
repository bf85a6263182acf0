package zoo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// entries are the networks with names, in the order of the paper's table 3, with their published input size.
var entries = []struct {
	name  string
	side  int
	build func(side, classes int) (*nn.Network, error)
}{
	{"mobilenetv2_1.4", 224, func(side, classes int) (*nn.Network, error) { return MobileNetV2(1.4, side, classes) }},
	{"mobilenetv3_large_1.0", 224, MobileNetV3Large},
}

// Names lists the networks that Open knows.
func Names() []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	return names
}

// Open builds the network of a name for 1000 classes and its published input size.
func Open(name string) (*nn.Network, error) { return Build(name, 0, 1000) }

// Build builds the network of a name for square images of a side, 0 for the published one, and a number of classes.
func Build(name string, side, classes int) (*nn.Network, error) {
	i := slices.Index(Names(), name)
	if i < 0 {
		return nil, fmt.Errorf("unknown network %q; known: %s", name, strings.Join(Names(), ", "))
	}
	if side == 0 {
		side = entries[i].side
	}
	net, err := entries[i].build(side, classes)
	if err != nil {
		return nil, err
	}
	net.Name = name
	return net, nil
}
