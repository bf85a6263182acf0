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

// WrittenPath is the path of the architecture of a text.
func (sp BlockChains) WrittenPath(text string, size NetworkSize) (nn.Path, error) {
	a, err := sp.Parse(text)
	if err != nil {
		return nn.Path{}, err
	}
	return sp.Path(a, size)
}

// Mixture is the network in which each layer mixes all of its blocks, for images of the space's resolution unless the
// size says another side.
func (sp BlockChains) Mixture(size NetworkSize) (nn.Path, error) {
	shared, err := sp.Supernet(size)
	if err != nil {
		return nn.Path{}, err
	}
	return mixture(sp, func() (nn.Path, error) {
		return sp.chain().Mixture(shared, sp.side(size), sp.classes(size))
	})
}

// Derive takes each layer's block of the largest weight, of equal ones the first.
func (sp BlockChains) Derive(weights [][]float32) (string, error) {
	if err := checkWeights(sp, sp.chain().Rows(), weights); err != nil {
		return "", err
	}
	return sp.draw(func(layer, _ int) int { return largest(weights[layer]) }).String(), nil
}
