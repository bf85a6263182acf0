package supernet

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// NewSampler is the sampler of a method of single paths that learns nothing: one path an update (Guo et al. 2020), by
// the recipe's Sample uniform over the space's distinct architectures or in each decision by itself, or uniform over
// those of a bin of multiply-adds, which networks of the size take; or the paths of an update of strict fairness (Chu
// et al. 2021).
func NewSampler(sp space.Space, r trainer.SupernetRecipe, size space.NetworkSize, seed uint64) (trainer.Sampler,
	error) {
	switch r.Method {
	case trainer.MethodSPOS:
		draw := func(s *philox.Stream) (space.Arch, error) { return sp.Sample(s), nil }
		if r.Sample == trainer.SampleDecisions {
			g := sp.Grammar()
			draw = func(s *philox.Stream) (space.Arch, error) { return sp.Decode(g.Draw(s)) }
		}
		if r.Binned() {
			within, err := (space.Bins{Low: r.BinsLow, High: r.BinsHigh, Width: r.BinsWidth}).Sampler(sp, size)
			if err != nil {
				return nil, err
			}
			draw = func(s *philox.Stream) (space.Arch, error) { return within(s), nil }
		}
		return drawing{seed, func(s *philox.Stream) ([]string, error) {
			a, err := draw(s)
			if err != nil {
				return nil, err
			}
			return []string{a.String()}, nil
		}}, nil
	case trainer.MethodFairNAS:
		strict, ok := sp.(space.Strict)
		if !ok {
			return nil, fmt.Errorf("%s has no strict fairness", sp.Name())
		}
		return drawing{seed, func(s *philox.Stream) ([]string, error) { return strict.StrictPaths(s), nil }}, nil
	}
	return nil, fmt.Errorf("method %s draws no single paths", r.Method)
}

// drawing draws the paths of each update from a stream of its own.
type drawing struct {
	seed uint64
	draw func(*philox.Stream) ([]string, error)
}

// Paths are those of an update.
func (d drawing) Paths(update int) ([]string, error) {
	s := philox.Key{Seed: d.seed, Purpose: philox.PurposePath}.From(uint32(update), 0)
	return d.draw(&s)
}

// Learn learns nothing.
func (drawing) Learn(context.Context, int, trainer.Measure) error { return nil }

// State is nothing.
func (drawing) State() ([]byte, error) { return nil, nil }

// Restore takes nothing.
func (drawing) Restore([]byte) error { return nil }
