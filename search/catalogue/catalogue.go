// Package catalogue prepares a list of architectures once, so that comparators rank all of it many times: the whole of
// a space, or what a table has labels of.
package catalogue

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

// Catalogue is a listed space, prepared to be scored. Several searches may share one.
type Catalogue struct {
	Lister
	sp    space.Space
	graph *gcn.Space
}

// Lister is a numbered list of distinct architectures, such as a table.
type Lister interface {
	Len() int
	Arch(i int) space.Arch
	Index(a space.Arch) (int, bool)
}

// New takes the architectures of a list. Nothing is prepared before the first Score. trees, which may be nil, looks up
// shared unfolding trees stored for the same list (package trees).
func New(sp space.Space, list Lister, trees func(name string) ([]byte, bool, error)) *Catalogue {
	graphs := gcn.GraphSet{N: list.Len(), At: func(i int) gcn.Graph { return gcn.Graph(list.Arch(i).Graph()) }}
	c := &Catalogue{list, sp, gcn.NewSpace(len(sp.Alphabet()), graphs, func(i int) []float32 {
		return Features(sp, list.Arch(i))
	})}
	c.graph.UseTrees(trees)
	return c
}

// Of takes the architectures that a view of a table keeps, and the shared unfolding trees that the table's file holds.
func Of(v *table.View) *Catalogue {
	t := v.Table()
	if len(v.Cells()) != t.Len() { // the trees are those of the whole table
		return New(t.Space(), kept{v}, nil)
	}
	return New(t.Space(), t, trees.Stored(t))
}

// kept lists the rows of a view that leaves some out.
type kept struct{ *table.View }

func (k kept) Len() int              { return len(k.Cells()) }
func (k kept) Arch(i int) space.Arch { return k.Table().Arch(k.Cells()[i]) }
func (k kept) Index(a space.Arch) (int, bool) {
	row, ok := k.Table().Index(a)
	if !ok {
		return 0, false
	}
	return slices.BinarySearch(k.Cells(), row)
}

// Space is the prepared space, for whoever scores it with a comparator of their own.
func (c *Catalogue) Space() *gcn.Space { return c.graph }

// Prepare builds what scoring with a network needs of the space, so that no later Score is charged for it.
func (c *Catalogue) Prepare(ctx context.Context, g gcn.Config) error {
	if c.Len() == 0 {
		return errors.New("no architecture is listed")
	}
	if c.graph.Large() { // it is encoded piece by piece, each time
		return nil
	}
	blank := &gcn.Comparator{Config: g}
	width := len(Features(c.sp, c.Arch(0)))
	blank.Scale = gcn.Standard{Mean: make([]float32, width), SD: slices.Repeat([]float32{1}, width)}
	_, err := c.graph.Encoding(ctx, blank)
	return err
}

// Score ranks all of it.
func (c *Catalogue) Score(ctx context.Context, by *gcn.Comparator, device exec.Config) (*gcn.Scores, error) {
	return c.graph.Score(ctx, by, device)
}

// ScoreSome scores some of it, by index.
func (c *Catalogue) ScoreSome(ctx context.Context, by *gcn.Comparator, device exec.Config,
	idx []int) (*gcn.Scores, error) {
	return c.graph.ScoreSome(ctx, by, device, idx)
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

// Features describes an architecture of a space for a comparator, by what the space's Encoder says: the logarithms of
// its costs, what is known of the network at initialisation (space.Initialised), and what paths and walks through its
// graph meet or how many nodes of each kind there are.
func Features(sp space.Space, a space.Arch) []float32 {
	e, g := space.EncoderOf(sp), a.Graph()
	graph, kinds := gcn.Graph(g), len(sp.Alphabet())
	if places := Places(sp); places != nil {
		graph, kinds = places.Of(graph), places.Kinds()
	}
	if !e.Walks {
		return gcn.Counts(graph, kinds)
	}
	var extra []float64
	if e.Costs {
		cost := a.Cost()
		extra = append(extra, math.Log(float64(max(cost.MAdds, 1))), math.Log(float64(max(cost.Params, 1))))
	}
	if s, ok := sp.(space.Initialised); ok {
		for _, rule := range s.MeanField() {
			extra = rule.Numbers(extra, g.Ops, g.Edges)
		}
	}
	return gcn.Features(graph, kinds, extra...)
}

// Places are those of a space's operations, nil where they are not taken apart.
func Places(sp space.Space) *gcn.Places {
	e := space.EncoderOf(sp)
	if e.Kind == nil {
		return nil
	}
	return &gcn.Places{Kind: e.Kind, Place: e.Place}
}

// Data turns architectures into what a comparator trains on or scores; labels may be nil.
func Data(sp space.Space, archs []space.Arch, labels []float64) gcn.Data {
	return Describe(sp, gcn.Network{Features: true}, archs, labels)
}

// Describe is Data with features only where the network uses them.
func Describe(sp space.Space, net gcn.Network, archs []space.Arch, labels []float64) gcn.Data {
	d := gcn.Data{Alphabet: len(sp.Alphabet()), Places: Places(sp), Labels: labels}
	for _, a := range archs {
		Add(&d, sp, net, a)
	}
	return d
}

// Add appends a graph.
func Add(d *gcn.Data, sp space.Space, net gcn.Network, a space.Arch) {
	d.Graphs = append(d.Graphs, gcn.Graph(a.Graph()))
	if net.Features {
		d.Features = append(d.Features, Features(sp, a))
	}
}
