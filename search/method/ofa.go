package method

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// OFA is the evolutionary search of once-for-all (Cai et al., ICLR 2020; ofa/nas/search_algorithm/evolution.py): of a
// population the best quarter survives, and each generation adds mutants of survivors and crossovers of two, half of
// each. A child above the limits, or one that has been labelled already, is made again; after 200 times a random
// architecture takes its place.
type OFA struct{}

const (
	ofaName       = "ofa"
	ofaPopulation = 100
	ofaParents    = ofaPopulation / 4
	ofaMutants    = ofaPopulation / 2
	ofaTries      = 200
)

func init() { run.Register(OFA{}) }

// Name is "ofa".
func (OFA) Name() string { return ofaName }

// About is for help.
func (OFA) About() string {
	return "once-for-all's evolution, population 100: a quarter survive, half of the others are mutants, " +
		"half crossovers"
}

// Run searches.
func (OFA) Run(ctx context.Context, r *run.Run) error {
	sp := r.Deps.Space
	crosser, ok := sp.(space.Crosser)
	if !ok {
		return fmt.Errorf("method %s: architectures of %s cannot be crossed", ofaName, sp.Name())
	}
	b := account{r}
	first := b.draw(min(ofaPopulation, b.Budget), philox.New(b.Seed, philox.PurposeSample, 0))
	values, err := b.buy(ctx, 0, first, "random", nil)
	if err != nil {
		return err
	}
	population := make([]predicted, len(first))
	for i, a := range first {
		population[i] = predicted{a, values[i]}
	}
	for round := 1; b.Left() > 0 && len(population) > 0; round++ {
		stream := philox.New(b.Seed, philox.PurposeMutate, uint32(round))
		slices.SortStableFunc(population, func(x, y predicted) int { return cmp.Compare(y.score, x.score) })
		population = population[:min(ofaParents, len(population))]
		parent := func() space.Arch { return population[stream.Intn(len(population))].arch }
		taken := map[space.Arch]bool{}
		var children []space.Arch
		for i := range min(ofaPopulation, b.Ledger.Left()) {
			breed := func() space.Arch { return sp.Mutate(parent(), stream) }
			if i >= ofaMutants {
				breed = func() space.Arch { return crosser.Cross(parent(), parent(), stream) }
			}
			child := breed()
			for tries := 1; tries < ofaTries && (taken[child] || !b.May(child)); tries++ {
				child = breed()
			}
			if taken[child] || !b.May(child) { // a table may lack nearly all children
				if child = b.fresh(taken, stream); child == nil {
					break
				}
			}
			taken[child] = true
			children = append(children, child)
		}
		if len(children) == 0 {
			break
		}
		values, err := b.buy(ctx, round, children, "evolution", nil)
		if err != nil {
			return err
		}
		for i, a := range children {
			population = append(population, predicted{a, values[i]})
		}
	}
	return nil
}

// fresh is a random architecture that may be bought and is not among those taken; nil where there is none.
func (b account) fresh(taken map[space.Arch]bool, s *philox.Stream) space.Arch {
	for _, a := range b.draw(len(taken)+1, s) {
		if !taken[a] {
			return a
		}
	}
	return nil
}
