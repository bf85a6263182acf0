package space

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

var _ Sharing = Darts{}

// The search network of the DARTS code, unless a size says others.
const (
	dartsSearchChannels = 16
	dartsSearchCells    = 8
)

// supernet is the search network.
func (sp Darts) supernet(size NetworkSize) zoo.DARTSSupernet {
	m := dartsMacros[sp.macro]
	m.channels, m.layers = dartsSearchChannels, dartsSearchCells
	return zoo.DARTSSupernet{DARTSNetwork: m.at(size).network(sp.macro)}
}

// Supernet has weights for each operation on each edge of each cell.
func (sp Darts) Supernet(size NetworkSize) (nn.Shared, error) { return sp.supernet(size).Shared() }

// Path is a genotype's search network, smaller than the one it is trained as: it has the search network's channels and
// cells unless the size says others. Node n of the canonical genotype has the weights of node n.
func (sp Darts) Path(a Arch, size NetworkSize) (nn.Path, error) {
	g, ok := a.(Genotype)
	if !ok || g.macro != sp.macro {
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s", a, sp.Name())
	}
	n := sp.supernet(size)
	shared, err := n.Shared()
	if err != nil {
		return nn.Path{}, err
	}
	p, err := n.Path(g.zoo(), shared)
	if err != nil {
		return nn.Path{}, err
	}
	p.Name = g.String()
	return p, nil
}
