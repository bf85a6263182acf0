package method

import (
	"cmp"
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// NPENAS is an evolution that a predictor guides (Wei et al., "NPENAS: Neural Predictor Guided Evolution for Neural
// Architecture Search", 2020, NPENAS-NP): in every round a graph network learns by regression from all labels; each of
// the ten best labelled architectures is mutated into ten candidates; and the ten that are predicted to be the best are
// labelled. Numbers are the paper's. The network is the run's, where theirs is a graph isomorphism network.
type NPENAS struct{}

const (
	npenasFirst = 10 // random labels
	npenasBatch = 10 // labels a round after that
	npenasEach  = 10 // mutants of a parent, of bananasCandidates in all
)

func init() { run.Register(NPENAS{}) }

// Name is "npenas".
func (NPENAS) Name() string { return "npenas" }

// About is for help.
func (NPENAS) About() string {
	return "an evolution that a predictor guides: ten mutants of each of the ten best, of which ten a round are " +
		"labelled (Wei et al., 2020)"
}

// Run searches.
func (NPENAS) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	first := a.draw(min(npenasFirst, a.Ledger.Left()), philox.New(a.Seed, philox.PurposeSample, 0))
	if _, err := a.buy(ctx, 0, first, "random", nil); err != nil {
		return err
	}
	for round := 1; a.Left() > 0; round++ {
		c, err := a.regress(ctx, round, 1)
		if err != nil {
			return err
		}
		candidates := a.mutants(philox.New(a.Seed, philox.PurposeMutate, uint32(round)), npenasEach)
		scores, err := a.score(c, candidates)
		if err != nil || len(candidates) == 0 { // nothing is left to label
			return err
		}
		best := make([]predicted, len(candidates))
		for i, x := range candidates {
			best[i] = predicted{x, scores.Rank[i]}
		}
		slices.SortStableFunc(best, func(x, y predicted) int { return cmp.Compare(y.score, x.score) })
		var archs []space.Arch
		var means []float64
		for _, p := range best[:min(npenasBatch, a.Left(), len(best))] {
			archs, means = append(archs, p.arch), append(means, p.score)
		}
		if _, err := a.buy(ctx, round, archs, "npenas", means); err != nil {
			return err
		}
	}
	var err error
	a.Found.Predictor, err = a.regress(ctx, 0, 1)
	return err
}
