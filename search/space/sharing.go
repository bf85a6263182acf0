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

// Written is a Sharing space that builds paths of architectures as they are written: in its supernet an architecture
// may lie in several places, of which the canonical text names one.
type Written interface {
	Sharing
	// WrittenPath is the path of a text. Nodes of a cell have the weights of the places in which they are written,
	// which need not be those of the architecture that Parse makes of the text.
	WrittenPath(text string, size NetworkSize) (nn.Path, error)
}

// AsWritten is an architecture of a Written space with the text whose path is its own. It equals no other, not even
// one of another text.
type AsWritten struct {
	Arch
	Text string
}

// String is the text.
func (a AsWritten) String() string { return a.Text }

// PathOf is the path of an architecture, which may be AsWritten.
func PathOf(sp Sharing, a Arch, size NetworkSize) (nn.Path, error) {
	if a, ok := a.(AsWritten); ok {
		written, ok := sp.(Written)
		if !ok {
			return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s", a, sp.Name())
		}
		return written.WrittenPath(a.Text, size)
	}
	return sp.Path(a, size)
}

// Strict is a space whose supernet can be trained with strict fairness (Chu et al., "FairNAS", ICCV 2021).
type Strict interface {
	Written
	// StrictPaths draws the paths of one update, as texts: each choice of each decision is in exactly one of them.
	StrictPaths(s *philox.Stream) []string
}

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
	if !ok {
		return nn.Path{}, fmt.Errorf("%v is not in the supernet of %s: it is none of its cells", a, sp.Name())
	}
	return sp.path(c.unpack(), c.String(), size)
}

// path is the network of a cell, whose vertices stand as they do, under a name. Vertex i has the weights of slot i;
// those that lie on no path from input to output are left out.
func (sp NASBench101) path(d dag, name string, size NetworkSize) (nn.Path, error) {
	if d.n > sp.MaxNodes() {
		return nn.Path{}, fmt.Errorf("%s is not in the supernet of %s: it has %d vertices, want at most %d", name,
			sp.Name(), d.n, sp.MaxNodes())
	}
	live := d.live()
	var slots []int
	for v := 1; v < d.n-1; v++ {
		if live>>v&1 == 1 {
			slots = append(slots, v)
		}
	}
	pruned := d.keep(live)
	n := sp.supernet(size)
	shared, err := n.Shared()
	if err != nil {
		return nn.Path{}, err
	}
	p, err := n.Path(pruned.pack(), shared, slots...)
	p.Name = name
	return p, err
}
