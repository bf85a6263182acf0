package method

import (
	"context"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

func init() {
	run.Register(Random{})
	run.Register(Evolution{})
}

// Random spends all labels on distinct architectures drawn uniformly.
type Random struct{}

// Name is "random".
func (Random) Name() string { return "random" }

// About is for help.
func (Random) About() string {
	return "distinct architectures drawn uniformly"
}

// Run searches.
func (Random) Run(ctx context.Context, r *run.Run) error {
	a, stream := account{r}, philox.New(r.Seed, philox.PurposeSample, 0)
	for round := 0; a.Left() > 0; round++ {
		drawn := a.draw(a.Ledger.Left(), stream)
		if _, err := a.buy(ctx, round, drawn, "random", nil); err != nil {
			return err
		}
		if a.Ledger.Left() > 0 { // nothing is left to label
			break
		}
	}
	return nil
}

// Evolution is regularized evolution (Real et al., AAAI 2019) with the settings of the NAS-Bench-101 paper's (Ying et
// al., ICML 2019, supplement; NASBench.ipynb): a population of 50, tournaments of 10, the winner is mutated and the
// oldest dies. A child that has been labelled already is mutated again, for a repeated label costs nothing here and
// would teach nothing. With fewer than 150 labels the population is a third of them.
type Evolution struct{}

const (
	evolutionPopulation = 50
	evolutionTournament = 10
)

// Name is "evolution".
func (Evolution) Name() string { return "evolution" }

// About is for help.
func (Evolution) About() string {
	return "regularized evolution, population 50, tournaments of 10"
}

// Run searches.
func (Evolution) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	type member struct {
		arch  space.Arch
		value float64
	}
	first := a.draw(max(1, min(evolutionPopulation, a.Budget/3)), philox.New(a.Seed, philox.PurposeSample, 0))
	values, err := a.buy(ctx, 0, first, "random", nil)
	if err != nil {
		return err
	}
	population := make([]member, len(first)) // oldest first
	for i, x := range first {
		population[i] = member{x, values[i]}
	}
	stream := philox.New(a.Seed, philox.PurposeMutate, 0)
	for round := 1; a.Left() > 0 && len(population) > 0; round++ {
		// Distinct contenders, as in the published code: a sample without replacement.
		order := stream.Perm(len(population))
		winner := order[0]
		for _, i := range order[:min(evolutionTournament, len(order))] {
			if population[i].value > population[winner].value {
				winner = i
			}
		}
		child := a.mutate(population[winner].arch, stream)
		if child == nil {
			break
		}
		value, err := a.buy(ctx, round, []space.Arch{child}, "evolution", nil)
		if err != nil {
			return err
		}
		population = append(population[1:], member{child, value[0]})
	}
	return nil
}
