package space

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

var _ Mixed = Darts{}

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

// WrittenPath is the path of a genotype in which node n of the text has the weights of node n.
func (sp Darts) WrittenPath(text string, size NetworkSize) (nn.Path, error) {
	g, err := sp.parse(text)
	if err != nil {
		return nn.Path{}, fmt.Errorf("%.300q is not in the supernet of %s: %w", text, sp.Name(), err)
	}
	return sp.Path(g, size)
}

// Mixture is the search network.
func (sp Darts) Mixture(size NetworkSize) (nn.Path, error) {
	n := sp.supernet(size)
	shared, err := n.Shared()
	if err != nil {
		return nn.Path{}, err
	}
	return mixture(sp, func() (nn.Path, error) { return n.Mixture(shared) })
}

// Derive keeps, of each node, the two edges whose largest weight of an operation besides none is the largest, and on
// them that operation; of equal ones the first (quark0/darts, cnn/model_search.py).
func (sp Darts) Derive(weights [][]float32) (string, error) {
	if err := checkWeights(sp, zoo.DARTSRows(), weights); err != nil {
		return "", err
	}
	g := Genotype{macro: sp.macro}
	for i := range g.cells {
		for n := range dartsNodes {
			edges := make([]dartsEdge, dartsInputs+n)
			weight := make([]float32, len(edges))
			for from := range edges {
				op := dartsNone + 1 + largest(weights[from][dartsNone+1:])
				edges[from], weight[from] = dartsEdge{uint8(op), uint8(from)}, weights[from][op]
			}
			slices.SortStableFunc(edges, func(a, b dartsEdge) int {
				return cmp.Compare(weight[b.from], weight[a.from])
			})
			copy(g.cells[i][2*n:], edges[:2])
			weights = weights[len(edges):]
		}
	}
	return g.String(), nil
}
