package space

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Supernet has the weights of every block of every layer, under the names of the authors' files.
func (sp BlockChains) Supernet(size NetworkSize) (nn.Shared, error) {
	return sp.chain().Supernet(sp.classes(size))
}

// Path is the network of the blocks, for images of the space's resolution unless the size says another side.
func (sp BlockChains) Path(a Arch, size NetworkSize) (nn.Path, error) {
	c, err := sp.own(a)
	if err != nil {
		return nn.Path{}, fmt.Errorf("%w: it is not in its supernet", err)
	}
	p, err := sp.chain().Path(c.Blocks(), sp.side(size), sp.classes(size))
	if err != nil {
		return nn.Path{}, err
	}
	p.Name = c.String()
	return p, nil
}

// StrictPaths are as many as a layer has blocks: each layer's are dealt out to them in an order of its own.
func (sp BlockChains) StrictPaths(s *philox.Stream) []string {
	var out []string
	for _, c := range sp.strict(s) {
		out = append(out, c.String())
	}
	return out
}

// StrictPath is the path of the architecture of a text.
func (sp BlockChains) StrictPath(text string, size NetworkSize) (nn.Path, error) {
	a, err := sp.Parse(text)
	if err != nil {
		return nn.Path{}, err
	}
	return sp.Path(a, size)
}

// Derive has the block of the largest weight in each layer, of equal ones the first.
func (sp BlockChains) Derive(weights [][]float32, _ *philox.Stream) (Arch, error) {
	layers := sp.layers()
	if len(weights) != len(layers) {
		return nil, fmt.Errorf("%s: %d rows of weights, want one for each of %d layers", sp.Name(), len(weights),
			len(layers))
	}
	c := BlockChain{of: sp}
	for i, row := range weights {
		if len(row) != len(layers[i]) {
			return nil, fmt.Errorf("%s: layer %d has %d weights, want %d", sp.Name(), i+1, len(row), len(layers[i]))
		}
		for k, w := range row {
			if w > row[c.blocks[i]] {
				c.blocks[i] = uint8(k)
			}
		}
	}
	return c, nil
}
