package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Count is what a network takes for one image of its published size, and the part of squeeze-and-excitation in it.
type Count struct{ MAdds, Params, Squeeze int64 }

// Measure counts a network.
func Measure(net *nn.Network) Count {
	cost := net.Cost()
	c := Count{cost.MAdds, cost.Params, 0}
	for i, node := range net.Nodes {
		if strings.Contains(node.Name, "/se/") {
			c.Squeeze += net.NodeCost(i).MAdds
		}
	}
	return c
}

// Check builds the network of a name and compares what it takes with what was counted independently.
func Check(name string) (Count, error) {
	net, err := Open(name)
	if err != nil {
		return Count{}, err
	}
	got := Measure(net)
	if want := lookup(name).count; got != want {
		return got, fmt.Errorf("%s: %d MAdds (%d of squeeze-and-excitation) and %d parameters, want %d (%d) and %d",
			name, got.MAdds, got.Squeeze, got.Params, want.MAdds, want.Squeeze, want.Params)
	}
	return got, nil
}
