package zoo

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// bind is a network as a path of a supernet: each of its variables is the first part of the shared one of the name that
// slot gives it.
func bind(net *nn.Network, shared nn.Shared, slot func(name string) string) (nn.Path, error) {
	at := map[string]int{}
	for i, v := range shared.Variables {
		at[v.Name] = i
	}
	p := nn.Path{Network: net}
	for _, v := range net.Variables() {
		i, found := at[slot(v.Name)]
		if !found {
			return p, fmt.Errorf("%s: the supernet has no %s", v.Name, slot(v.Name))
		}
		p.Bindings = append(p.Bindings, nn.Binding{Shared: i})
	}
	return p, shared.Check(p)
}
