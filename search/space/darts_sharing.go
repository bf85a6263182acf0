package space

import (
	"errors"
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
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

// dartsRows is how many edges a cell has before any is left out: each node's from all before it.
const dartsRows = dartsNodes * (2*dartsInputs + dartsNodes - 1) / 2

// Derive keeps, for each node, the two edges whose largest weight of an operation besides none is the largest, and on
// them that operation; of equal ones the first (quark0/darts, cnn/model_search.py). Rows are those of the normal cell,
// then of the reduction cell: each node's edges in the order of what they read, each of the eight operations.
func (sp Darts) Derive(weights [][]float32, _ *philox.Stream) (Arch, error) {
	if len(weights) != 2*dartsRows {
		return nil, fmt.Errorf("%s: %d rows of weights, want %d of each of two cells", sp.Name(), len(weights),
			dartsRows)
	}
	g := Genotype{macro: sp.macro}
	row := 0
	for i := range g.cells {
		for n := range dartsNodes {
			var best [2]float32
			pair := g.cells[i][2*n : 2*n+2]
			for from := range dartsInputs + n {
				op, err := dartsStrongest(weights[row])
				if err != nil {
					return nil, fmt.Errorf("%s: row %d %w", sp.Name(), row, err)
				}
				w, e := weights[row][op], dartsEdge{uint8(op), uint8(from)}
				switch {
				case from == 0 || w > best[0]:
					best[0], best[1], pair[0], pair[1] = w, best[0], e, pair[0]
				case from == 1 || w > best[1]:
					best[1], pair[1] = w, e
				}
				row++
			}
		}
		g.cells[i] = g.cells[i].canonical()
	}
	return g, nil
}

// dartsStrongest is the operation of the largest weight besides none, of equal ones the first.
func dartsStrongest(weights []float32) (int, error) {
	if len(weights) != len(dartsOps) {
		return 0, fmt.Errorf("has %d weights, want %d", len(weights), len(dartsOps))
	}
	best := dartsNone + 1
	for op, w := range weights {
		if w != w {
			return 0, errors.New("has a weight that is no number")
		}
		if op != dartsNone && w > weights[best] {
			best = op
		}
	}
	return best, nil
}
