package method

import (
	"cmp"
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// SPOS is the evolution of SPOS (Guo et al., ECCV 2020; megvii-model/SinglePathOneShot, src/Search) with labels that
// are bought: those of a supernet make it the search of SPOS, within the budget of others that search there.
type SPOS struct{}

const (
	sposName       = "spos-evolution"
	sposPopulation = 50
	sposParents    = 10
)

func init() { run.Register(SPOS{}) }

// Name is "spos-evolution".
func (SPOS) Name() string { return sposName }

// About is for help.
func (SPOS) About() string {
	return "SPOS's evolution with labels, population 50: the best 10 so far breed, half crossovers, half mutants"
}

// Run searches.
func (SPOS) Run(ctx context.Context, r *run.Run) error {
	b := account{r}
	children := b.draw(min(sposPopulation, b.Budget), philox.New(b.Seed, philox.PurposeSample, 0))
	var best []predicted
	for round := 0; len(children) > 0; round++ {
		proposer := "evolution"
		if round == 0 {
			proposer = "random"
		}
		values, err := b.buy(ctx, round, children, proposer, nil)
		if err != nil {
			return err
		}
		for i, a := range children {
			best = append(best, predicted{a, values[i]})
		}
		slices.SortStableFunc(best, func(x, y predicted) int { return cmp.Compare(y.score, x.score) })
		best = best[:min(sposParents, len(best))]
		parents := make([]space.Arch, len(best))
		for i, p := range best {
			parents[i] = p.arch
		}
		stream, n := philox.New(b.Seed, philox.PurposeMutate, uint32(round+1)), min(sposPopulation, b.Left())
		if children, err = space.Breed(r.Deps.Space, parents, n, stream, b.May); err != nil {
			return err
		}
		if len(children) < n { // SPOS fills a population up
			taken := map[space.Arch]bool{}
			for _, a := range children {
				taken[a] = true
			}
			for _, a := range b.draw(n, stream) {
				if len(children) < n && !taken[a] {
					children = append(children, a)
				}
			}
		}
	}
	return nil
}
