package method

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// features describes an architecture by numbers: its graph's features beside the logarithms of MAdds and parameters.
func features(a space.Arch, alphabet int) []float32 {
	cost := a.Cost()
	return gcn.Features(gcn.Graph(a.Graph()), alphabet, math.Log(max(1, float64(cost.MAdds))), math.Log(max(1, float64(cost.Params))))
}

// describe turns architectures into what a network reads.
func describe(sp space.Space, archs []space.Arch) gcn.Data {
	d := gcn.Data{Alphabet: len(sp.Alphabet()), Graphs: make([]gcn.Graph, len(archs)), Features: make([][]float32, len(archs))}
	for i, a := range archs {
		d.Graphs[i], d.Features[i] = gcn.Graph(a.Graph()), features(a, d.Alphabet)
	}
	return d
}

// Pool is a listed space, prepared once to be scored many times.
type Pool struct {
	space    space.Space
	archs    []space.Arch
	prepared *gcn.Space
}

// NewPool takes the architectures of a space. Nothing is prepared before the first Score.
func NewPool(sp space.Space, archs []space.Arch) *Pool {
	alphabet := len(sp.Alphabet())
	return &Pool{sp, archs, gcn.NewSpace(alphabet,
		gcn.GraphSet{N: len(archs), At: func(i int) gcn.Graph { return gcn.Graph(archs[i].Graph()) }},
		func(i int) []float32 { return features(archs[i], alphabet) })}
}

// treesPrefix marks the sections of a table's file that hold shared unfolding trees of all its architectures.
const treesPrefix = "trees/"

// PoolOf takes the architectures that a view of a table keeps, and the shared unfolding trees that the table's file holds.
func PoolOf(v *table.View) (*Pool, error) {
	t := v.Table()
	archs := make([]space.Arch, len(v.Cells()))
	for k, i := range v.Cells() {
		archs[k] = t.Arch(i)
	}
	p := NewPool(t.Space(), archs)
	if len(archs) != t.Len() { // the trees are those of the whole table
		return p, nil
	}
	for _, section := range t.Sections() {
		name, ok := strings.CutPrefix(section, treesPrefix)
		if !ok {
			continue
		}
		data, _, err := t.Section(section)
		if err == nil {
			err = p.prepared.SetTrees(name, data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Path(), err)
		}
	}
	return p, nil
}

// Len is the number of architectures.
func (p *Pool) Len() int { return len(p.archs) }

// Arch is architecture i in 0..Len()-1.
func (p *Pool) Arch(i int) space.Arch { return p.archs[i] }

// Score ranks the whole pool.
func (p *Pool) Score(c *gcn.Comparator, device exec.Config) (*gcn.Scores, error) {
	e, err := p.prepared.Encoding(c)
	if err != nil {
		return nil, err
	}
	return c.Score(device, e)
}

// scoreSome scores architectures of the pool, by index.
func (p *Pool) scoreSome(c *gcn.Comparator, device exec.Config, idx []int) (*gcn.Scores, error) {
	whole, err := p.prepared.Encoding(c)
	if err != nil {
		return nil, err
	}
	return c.Score(device, some(whole, idx))
}

// some is the encoding of a part of a space. The trees stay whole, for nearly all of them are needed; only what is read changes.
func some(whole *gcn.Encoding, idx []int) *gcn.Encoding {
	e := &gcn.Encoding{N: len(idx)}
	for _, f := range whole.Forests {
		part := *f
		part.ReadPtr, part.ReadIdx = make([]int32, 1, len(idx)+1), make([]int32, 0, len(idx)*len(f.ReadIdx)/max(1, whole.N))
		for _, i := range idx {
			part.ReadIdx = append(part.ReadIdx, f.ReadIdx[f.ReadPtr[i]:f.ReadPtr[i+1]]...)
			part.ReadPtr = append(part.ReadPtr, int32(len(part.ReadIdx)))
		}
		e.Forests = append(e.Forests, &part)
	}
	if len(whole.Features) > 0 {
		width := len(whole.Features) / whole.N
		for _, i := range idx {
			e.Features = append(e.Features, whole.Features[i*width:(i+1)*width]...)
		}
	}
	return e
}

// train trains a network on labelled architectures. The released network with its own loss is trained by the released code's schedule: a
// thousand epochs of shuffled batches, which at 423 labels are the preset's 2,000 updates.
func train(ctx context.Context, device exec.Config, c gcn.Config, sp space.Space, labels []ledger.Label, seed uint64) (*gcn.Comparator, error) {
	archs, values := make([]space.Arch, len(labels)), make([]float64, len(labels))
	for i, l := range labels {
		archs[i], values[i] = l.Arch, l.Value
	}
	data := describe(sp, archs)
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
