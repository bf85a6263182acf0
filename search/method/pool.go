package method

import (
	"context"
	"errors"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trees"
)

// Pool is a listed space, prepared once to be scored many times: the architectures that a table's view keeps, or any list.
type Pool struct {
	space     space.Space
	list      search.Lister
	catalogue *search.Catalogue
}

// NewPool takes the architectures of a list. Nothing is prepared before the first Score. trees may be nil, see search.NewCatalogue.
func NewPool(sp space.Space, list search.Lister, trees func(name string) ([]byte, bool, error)) *Pool {
	return &Pool{sp, list, search.NewCatalogue(sp, list, trees)}
}

// PoolOf takes the architectures that a view of a table keeps, and the shared unfolding trees that the table's file holds.
func PoolOf(v *table.View) *Pool {
	t := v.Table()
	if len(v.Cells()) != t.Len() { // the trees are those of the whole table
		return NewPool(t.Space(), kept{v}, nil)
	}
	return NewPool(t.Space(), t, trees.Stored(t))
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

// Len is the number of architectures.
func (p *Pool) Len() int { return p.list.Len() }

// Arch is architecture i in 0..Len()-1.
func (p *Pool) Arch(i int) space.Arch { return p.list.Arch(i) }

// Catalogue is the pool as a search takes it.
func (p *Pool) Catalogue() *search.Catalogue { return p.catalogue }

// Prepare builds what scoring with a network needs of the space, so that no later Score is charged for it.
func (p *Pool) Prepare(ctx context.Context, c gcn.Config) error {
	if p.Len() == 0 {
		return errors.New("no architecture is listed")
	}
	whole := p.catalogue.Space()
	if whole.Large() { // it is encoded piece by piece, each time
		return nil
	}
	blank := &gcn.Comparator{Config: c}
	width := len(search.Features(p.space, p.Arch(0)))
	blank.Scale = gcn.Standard{Mean: make([]float32, width), SD: slices.Repeat([]float32{1}, width)}
	_, err := whole.Encoding(ctx, blank)
	return err
}

// Score ranks the whole pool.
func (p *Pool) Score(ctx context.Context, c *gcn.Comparator, device exec.Config) (*gcn.Scores, error) {
	return p.catalogue.Space().Score(ctx, c, device)
}

// scoreSome scores architectures of the pool, by index.
func (p *Pool) scoreSome(ctx context.Context, c *gcn.Comparator, device exec.Config, idx []int) (*gcn.Scores, error) {
	return p.catalogue.Space().ScoreSome(ctx, c, device, idx)
}

// describe turns architectures into what a network reads, features only where it uses them.
func describe(sp space.Space, c gcn.Config, archs []space.Arch) gcn.Data {
	d := search.Data(sp, archs, nil)
	if !c.Features {
		d.Features = nil
	}
	return d
}

// train trains a network on labelled architectures. The released network with its own loss is trained by the released code's schedule: a
// thousand epochs of shuffled batches, which at 423 labels are the preset's 2,000 updates.
func train(ctx context.Context, device exec.Config, c gcn.Config, sp space.Space, labels []ledger.Label, seed uint64) (*gcn.Comparator, error) {
	archs, values := make([]space.Arch, len(labels)), make([]float64, len(labels))
	for i, l := range labels {
		archs[i], values[i] = l.Arch, l.Value
	}
	data := describe(sp, c, archs)
	data.Labels = values
	if c.Loss != gcn.Comparison || !c.Pair || c.Pad == 0 {
		return gcn.Train(ctx, device, c, data, seed, nil)
	}
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	r, err := gcn.NewReleased(dev, c, data, seed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for range max(1, c.Steps/2) {
		if _, err := r.Epoch(nil, nil); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return r.Comparator()
}
