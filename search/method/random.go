package method

import (
	"context"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
)

// Random spends all labels on distinct architectures drawn uniformly.
type Random struct{}

// Name is "random".
func (Random) Name() string { return "random" }

// Run searches.
func (Random) Run(ctx context.Context, p Problem) (Outcome, error) {
	b, err := p.open()
	if err != nil {
		return Outcome{}, err
	}
	if _, err := b.buy(ctx, 0, b.draw(b.Budget, philox.New(b.Seed, philox.PurposeSample, 0)), "random", nil); err != nil {
		return Outcome{}, err
	}
	return b.outcome(nil)
}

// Evolution is regularized evolution (Real et al., AAAI 2019) with the settings of the NAS-Bench-101 paper's (Ying et al., ICML 2019,
// supplement; NASBench.ipynb): a population of 50, tournaments of 10, the winner is mutated and the oldest dies. A child that has been
// labelled already is mutated again, for a repeated label costs nothing here and would teach nothing. With fewer than 150 labels the
// population is a third of them.
type Evolution struct{}

const (
	evolutionPopulation = 50
	evolutionTournament = 10
)

// Name is "evolution".
func (Evolution) Name() string { return "evolution" }

// Run searches.
func (Evolution) Run(ctx context.Context, p Problem) (Outcome, error) {
	b, err := p.open()
	if err != nil {
		return Outcome{}, err
	}
	type member struct {
		arch  space.Arch
		value float64
	}
	first := b.draw(max(1, min(evolutionPopulation, b.Budget/3)), philox.New(b.Seed, philox.PurposeSample, 0))
	values, err := b.buy(ctx, 0, first, "random", nil)
	if err != nil {
		return Outcome{}, err
	}
	population := make([]member, len(first)) // oldest first
	for i, a := range first {
		population[i] = member{a, values[i]}
	}
	stream := philox.New(b.Seed, philox.PurposeMutate, 0)
	for round := 1; b.ledger.Left() > 0 && len(population) > 0; round++ {
		// Distinct contenders, as in the published code: a sample without replacement.
		order := stream.Perm(len(population))
		winner := order[0]
		for _, i := range order[:min(evolutionTournament, len(order))] {
			if population[i].value > population[winner].value {
				winner = i
			}
		}
		child := b.mutate(population[winner].arch, stream)
		if child == nil {
			break
		}
		value, err := b.buy(ctx, round, []space.Arch{child}, "evolution", nil)
		if err != nil {
			return Outcome{}, err
		}
		population = append(population[1:], member{child, value[0]})
	}
	return b.outcome(nil)
}
