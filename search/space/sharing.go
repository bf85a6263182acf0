package space

import (
	"cmp"
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Sharing is a space whose networks can be paths of one supernet: they share its weights.
type Sharing interface {
	Space
	// Supernet is what they share. Variables do not depend on the side of the images.
	Supernet(size NetworkSize) (nn.Shared, error)
	// Path is the network of an architecture with where its variables are in the supernet's; an error where it is none
	// of the supernet's.
	Path(a Arch, size NetworkSize) (nn.Path, error)
}

// Strict is a Sharing space whose supernet can be trained with strict fairness (Chu et al., "FairNAS", ICCV 2021).
type Strict interface {
	Sharing
	// StrictPaths draws the paths of one update, as texts: each choice of each decision is in exactly one of them.
	StrictPaths(s *philox.Stream) []string
	// StrictPath is the path of such a text. It need not be that of the architecture which Parse makes of the text: of
	// a
	// cell the vertices stand in the order in which they are written.
	StrictPath(text string, size NetworkSize) (nn.Path, error)
}

// Mixed is a Sharing space whose decisions can be relaxed to mixtures of all of their choices (Liu et al., "DARTS",
// ICLR 2019).
type Mixed interface {
	Sharing
	// Mixture is the network in which each decision is a row of weights (nn.Mix), over the variables of Supernet.
	Mixture(size NetworkSize) (nn.Path, error)
	// Derive is the architecture that rows of weights stand for, [row][choice] as Mixture has them; by draws from the
	// stream where the space's published protocol samples it.
	Derive(weights [][]float32, s *philox.Stream) (Arch, error)
}

var _ Sharing = NASBench101{}

// supernet is the benchmark's network around cells whose weights lie on vertices.
func (sp NASBench101) supernet(s NetworkSize) zoo.CellSupernet {
	side := cmp.Or(s.Side, imageSide)
	return zoo.CellSupernet{Interior: sp.MaxNodes() - 2, CellNetwork: zoo.CellNetwork{
		Image:    nn.Shape{H: side, W: side, C: imageChannels},
		Channels: cmp.Or(s.Channels, stemChannels), Stacks: cmp.Or(s.Stacks, stacks),
		Modules: cmp.Or(s.Modules, cellsPerStack), Classes: cmp.Or(s.Classes, classes)}}
}

// Supernet has weights for each vertex that a cell may have, as wide as the cell's output.
func (sp NASBench101) Supernet(size NetworkSize) (nn.Shared, error) {
	return sp.supernet(size).Shared()
}

// Path is a cell's network: vertex i of its canonical form has the weights of slot i.
func (sp NASBench101) Path(a Arch, size NetworkSize) (nn.Path, error) {
	c, ok := a.(Cell)
	if !ok || !sp.Contains(c) {
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s", a, sp.Name())
	}
	n := sp.supernet(size)
	shared, err := n.Shared()
	if err != nil {
		return nn.Path{}, err
	}
	p, err := n.Path(c, shared)
	if err != nil {
		return nn.Path{}, err
	}
	p.Name = c.String()
	return p, nil
}
