package search

import (
	"math"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/space"
)

// Catalogue is an enumerated space, prepared so that a comparator ranks all of it. Several searches may share one.
type Catalogue struct {
	n     int
	at    func(i int) space.Arch
	index func(a space.Arch) (int, bool)
	space *gcn.Space
}

// Lister is a numbered list of distinct architectures, such as a table.
type Lister interface {
	Len() int
	Arch(i int) space.Arch
	Index(a space.Arch) (int, bool)
}

// NewCatalogue prepares the architectures of a list. trees, which may be nil, looks up shared unfolding trees stored for the same list (package trees).
func NewCatalogue(sp space.Space, list Lister, trees func(name string) ([]byte, bool, error)) *Catalogue {
	alphabet := len(sp.Alphabet())
	c := &Catalogue{n: list.Len(), at: list.Arch, index: list.Index}
	graphs := gcn.GraphSet{N: c.n, At: func(i int) gcn.Graph { return gcn.Graph(list.Arch(i).Graph()) }}
	c.space = gcn.NewSpace(alphabet, graphs, func(i int) []float32 { return Features(sp, list.Arch(i)) })
	c.space.UseTrees(trees)
	return c
}

// List is a Lister over a slice.
type List struct {
	archs []space.Arch
	at    map[space.Arch]int
}

// NewList numbers architectures in their order.
func NewList(archs []space.Arch) *List {
	l := &List{archs, make(map[space.Arch]int, len(archs))}
	for i, a := range archs {
		l.at[a] = i
	}
	return l
}

// Len is the number of architectures.
func (l *List) Len() int { return len(l.archs) }

// Arch is architecture i.
func (l *List) Arch(i int) space.Arch { return l.archs[i] }

// Index finds an architecture.
func (l *List) Index(a space.Arch) (int, bool) { i, ok := l.at[a]; return i, ok }

// Space is the prepared space, for whoever scores it with a comparator of their own.
func (c *Catalogue) Space() *gcn.Space { return c.space }

// Len is the number of architectures.
func (c *Catalogue) Len() int { return c.n }

// Arch is architecture i.
func (c *Catalogue) Arch(i int) space.Arch { return c.at(i) }

// Features describes an architecture of a space for a comparator. Where operations say where they stand
// (space.Positional) these are the counts of operations and no costs, elsewhere the graph's numbers and the logarithms
// of the costs.
func Features(sp space.Space, a space.Arch) []float32 {
	alphabet := len(sp.Alphabet())
	if space.IsPositional(sp) {
		return gcn.Counts(gcn.Graph(a.Graph()), alphabet)
	}
	cost := a.Cost()
	return gcn.Features(gcn.Graph(a.Graph()), alphabet, math.Log(float64(max(cost.MAdds, 1))), math.Log(float64(max(cost.Params, 1))))
}

// Data turns architectures into what a comparator trains on or scores; labels may be nil.
func Data(sp space.Space, archs []space.Arch, labels []float64) gcn.Data {
	return describe(sp, gcn.Network{Features: true}, archs, labels)
}

// describe is Data with features only where the network uses them.
func describe(sp space.Space, net gcn.Network, archs []space.Arch, labels []float64) gcn.Data {
	d := gcn.Data{Alphabet: len(sp.Alphabet()), Labels: labels}
	for _, a := range archs {
		add(&d, sp, net, a)
	}
	return d
}

// add appends a graph.
func add(d *gcn.Data, sp space.Space, net gcn.Network, a space.Arch) {
	d.Graphs = append(d.Graphs, gcn.Graph(a.Graph()))
	if net.Features {
		d.Features = append(d.Features, Features(sp, a))
	}
}
