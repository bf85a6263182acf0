package oneshot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// published is the protocol of Yu et al. 2020 (kcyu2014/eval-nas, NasBenchNetOneShotPolicy): a pool of random cells is
// measured every 20 epochs with the statistics of each batch, the worst ones make room for random ones, and the pick is
// the pool's best. Two things of it are left out: there the pool is measured on test images, and tau is over the pool
// alone, which the supernet has selected. Here it is measured on held-out images, and a sample of all cells, none of
// them ever in the pool, is measured beside it at the end. Of ENAS the pool is what the controller draws at the end, of
// which the sample may have some too.
type published struct {
	trainer.Sampler
	w       *work
	batches int // of held-out images, as large as training's, on which a cell is measured
	state   protocolState
}

// protocolState is JSON, of which the same state has the same bytes.
type protocolState struct {
	Sampler []byte     `json:"sampler,omitempty"`
	Pool    []standing `json:"pool"`
	Sample  []standing `json:"sample"`
}

// standing is a cell with its latest accuracy.
type standing struct {
	Path     string  `json:"path"`
	Accuracy float64 `json:"accuracy"`
}

const (
	poolCells   = 160
	poolRenewed = 20 // of which are replaced
	poolEvery   = 20 // epochs
	// poolImages is how many held-out images measure a cell: as many as there are test images, which measure there.
	poolImages = 10000
)

func (w *work) publishedProtocol(sampler trainer.Sampler) *published {
	n := cmp.Or(min(cmp.Or(w.SupernetImages, poolImages), w.recipe.HeldOut), poolImages)
	return &published{Sampler: sampler, w: w, batches: max(1, n/w.recipe.Batch)}
}

// draw draws up to n cells from a stream of their own, none of them known.
func (p *published) draw(n, index int, known ...[]standing) ([]standing, error) {
	all := map[space.Arch]bool{}
	for _, s := range slices.Concat(known...) {
		a, err := p.w.Deps.Space.Parse(s.Path)
		if err != nil {
			return nil, err
		}
		all[a] = true
	}
	var out []standing
	for _, a := range p.w.random(n, all, philox.New(p.w.Seed, philox.PurposeSample, uint32(index))) {
		out = append(out, standing{Path: a.String()})
	}
	return out, nil
}

// Learn lets the sampler learn, and looks at the pool.
func (p *published) Learn(ctx context.Context, epoch int, measure trainer.Measure) (err error) {
	if err := p.Sampler.Learn(ctx, epoch, measure); err != nil {
		return err
	}
	last := epoch == p.w.recipe.Epochs
	if !last && (epoch%poolEvery != 0 || p.w.policy != nil) {
		return nil
	}
	s := &p.state
	if s.Sample == nil { // drawn first: what is in it never gets into the pool
		if err := p.begin(); err != nil {
			return err
		}
	}
	if p.w.policy != nil {
		if err := p.drawPolicy(); err != nil {
			return err
		}
	}
	if err := p.look(ctx, s.Pool, measure); err != nil {
		return err
	}
	slices.SortStableFunc(s.Pool, func(a, b standing) int { return cmp.Compare(b.Accuracy, a.Accuracy) })
	if last {
		return p.look(ctx, s.Sample, measure)
	}
	renewed := min(poolRenewed, len(s.Pool)/2)
	fresh, err := p.draw(renewed, 1+epoch, s.Pool, s.Sample)
	if err != nil {
		return err
	}
	s.Pool = append(s.Pool[:len(s.Pool)-len(fresh)], fresh...)
	return nil
}

// begin draws the sample and the pool. Of a space that has too few cells for both the sample is all of them.
func (p *published) begin() (err error) {
	s := &p.state
	all, err := p.draw(p.w.SupernetCells+poolCells, 0)
	if err != nil {
		return err
	}
	if s.Pool = slices.Clone(all[:min(poolCells, len(all))]); len(all) < p.w.SupernetCells+poolCells {
		s.Sample = all
		return nil
	}
	s.Sample = all[poolCells:]
	return nil
}

// drawPolicy makes what the controller draws the pool.
func (p *published) drawPolicy() error {
	candidates, err := p.w.policy.Candidates(drawn)
	if err != nil {
		return err
	}
	p.state.Pool = p.state.Pool[:0]
	for _, a := range candidates {
		if p.w.Allowed(a) {
			p.state.Pool = append(p.state.Pool, standing{Path: a.String()})
		}
	}
	return nil
}

// look measures cells.
func (p *published) look(ctx context.Context, cells []standing, measure trainer.Measure) error {
	var paths []string
	for _, c := range cells {
		paths = append(paths, c.Path)
	}
	accuracies, err := measure(ctx, paths, 0, p.batches)
	if err != nil {
		return err
	}
	for i, a := range accuracies {
		cells[i].Accuracy = a
	}
	return nil
}

// State is what Restore takes.
func (p *published) State() ([]byte, error) {
	s := p.state
	var err error
	if s.Sampler, err = p.Sampler.State(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// Restore goes on from a State.
func (p *published) Restore(state []byte) error {
	var s protocolState
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("the state of the published protocol: %w", err)
	}
	if err := p.Sampler.Restore(s.Sampler); err != nil {
		return err
	}
	p.state = s
	return nil
}

// found makes the pool's best the pick.
func (p *published) found(w *work) error {
	if p.state.Sample == nil {
		return fmt.Errorf("--supernet-data %s: no images are held out, and the published protocol measures on none "+
			"that were trained on", w.SupernetData)
	}
	pool, err := p.measured(p.state.Pool)
	if err != nil {
		return err
	}
	found := w.Found.Picked
	if found.Sample, err = p.measured(p.state.Sample); err != nil {
		return err
	}
	found.Pool, found.All, found.What = pool, slices.Concat(pool, found.Sample), byBatches
	if err := w.generation(0, found.Sample); err != nil {
		return err
	}
	if err := w.generation(1, pool); err != nil {
		return err
	}
	found.Measured, err = best(pool)
	return err
}

func (p *published) measured(cells []standing) ([]run.Measured, error) {
	out := make([]run.Measured, len(cells))
	for i, s := range cells {
		a, err := p.w.Deps.Space.Parse(s.Path)
		if err != nil {
			return nil, err
		}
		out[i] = run.Measured{Arch: a, Accuracy: s.Accuracy}
	}
	return out, nil
}
