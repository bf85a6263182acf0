package zoo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// entries are the networks with names, in the order of the paper's table 3. Each is built for 1000 classes and its published input size.
var entries = []struct {
	name  string
	build func() (*nn.Network, error)
}{
	{"mobilenetv2_1.4", func() (*nn.Network, error) { return MobileNetV2(1.4, 224, 1000) }},
	{"mobilenetv3_large_1.0", func() (*nn.Network, error) { return MobileNetV3Large(224, 1000) }},
}

// Names lists the networks that Open knows.
func Names() []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	return names
}

// Open builds the network of a name.
func Open(name string) (*nn.Network, error) {
	i := slices.Index(Names(), name)
	if i < 0 {
		return nil, fmt.Errorf("unknown network %q; known: %s", name, strings.Join(Names(), ", "))
	}
	net, err := entries[i].build()
	if err != nil {
		return nil, err
	}
	net.Name = name
	return net, nil
}
