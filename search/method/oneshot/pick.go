package oneshot

import (
	"cmp"
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// pick picks by what was trained.
func (w *work) pick(ctx context.Context) error {
	w.Found.Picked = &run.Picked{What: what}
	if w.recipe.Recalibrate == 0 {
		w.Found.Picked.What = byBatches
	}
	if w.policy != nil {
		if err := w.logPolicy(); err != nil {
			return err
		}
	}
	switch {
	case w.protocol != nil:
		return w.protocol.found(w)
	case w.picks == evolves:
		return w.evolve(ctx)
	case w.picks == derives:
		return w.derived(ctx)
	}
	return w.sampled(ctx)
}

// sample measures an unselected sample of the space, which says how well shared weights rank.
func (w *work) sample(ctx context.Context) error {
	found, err := w.measure(ctx, w.random(w.SupernetCells, nil, philox.New(w.Seed, philox.PurposeSample, 0)))
	if err != nil {
		return err
	}
	w.Found.Picked.Sample = found
	return w.generation(0, found)
}

// choose makes the best of some the pick; nil: of all that was measured.
func (w *work) choose(among []run.Measured) (err error) {
	p := w.Found.Picked
	for _, text := range w.state.Archs { // in the order in which they were measured
		a, err := w.Deps.Space.Parse(text)
		if err != nil {
			return err
		}
		p.All = append(p.All, w.known[a])
	}
	if among == nil {
		among = p.All
	}
	p.Measured, err = best(among)
	return err
}

// The evolution of SPOS (megvii-model/SinglePathOneShot, src/Search): of the population the best are kept, half of the
// next one are their crossovers and half their mutations.
const (
	population = 50
	rounds     = 20
	parents    = 10 // a population
)

// evolve picks the best of a random sample and of an evolution from its best, of as many architectures. The population
// is SPOS's where the sample has SPOS's 1,000.
func (w *work) evolve(ctx context.Context) error {
	if err := w.sample(ctx); err != nil {
		return err
	}
	n := min(population, max(4, w.SupernetCells/rounds))
	kept := max(2, n*parents/population)
	alive := slices.Clone(w.Found.Picked.Sample)
	stream := philox.New(w.Seed, philox.PurposeMutate, 0)
	for round := 1; round <= rounds; round++ {
		slices.SortStableFunc(alive, func(a, b run.Measured) int { return cmp.Compare(b.Accuracy, a.Accuracy) })
		alive = alive[:min(kept, len(alive))]
		children, err := w.children(alive, n, stream)
		if err != nil {
			return err
		}
		if len(children) == 0 { // all of a small space has been measured
			break
		}
		found, err := w.measure(ctx, children)
		if err != nil {
			return err
		}
		if err := w.generation(round, found); err != nil {
			return err
		}
		alive = append(alive, found...)
	}
	return w.choose(nil)
}

// children are up to n architectures that have not been measured.
func (w *work) children(alive []run.Measured, n int, s *philox.Stream) ([]space.Arch, error) {
	parents := make([]space.Arch, len(alive))
	for i, m := range alive {
		parents[i] = m.Arch
	}
	return space.Breed(w.Deps.Space, parents, n, s, func(a space.Arch) bool {
		return !w.asked[a] && w.Allowed(a)
	})
}

// drawn is how many samples of the controller the pick is one of (Yu et al. 2020).
const drawn = 200

// sampled picks the best of what the controller draws when it has learned.
func (w *work) sampled(ctx context.Context) error {
	candidates, err := w.policy.Candidates(drawn)
	if err != nil {
		return err
	}
	candidates = slices.DeleteFunc(candidates, func(a space.Arch) bool { return !w.Allowed(a) })
	found, err := w.measure(ctx, candidates)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errNothing
	}
	if err := w.sample(ctx); err != nil {
		return err
	}
	return w.choose(found)
}

// logPolicy logs how the controller learned.
func (w *work) logPolicy() error {
	for _, e := range w.policy.Epochs() {
		if err := w.log(report.EventPolicy, e.Epoch, e.Ops, map[string]float64{"reward": e.Reward,
			"entropy": e.Entropy}); err != nil {
			return err
		}
	}
	return nil
}
