package method

import (
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// LocalSearch climbs (White, Nolen, Savani: Exploring the Loss Landscape in Neural Architecture Search, UAI 2021,
// algorithm 1): of some random architectures it takes the best, labels its neighbours and moves to a better one, until
// none is better; then it begins again elsewhere. It moves as soon as it meets a better one, which the paper calls
// query_until_lower: labels of the rest of a large neighbourhood would be spent on what is left behind. A neighbour
// differs in one decision of the space's grammar, mostly an operation or an edge.
type LocalSearch struct{}

// localStart is how many random architectures a climb begins with the best of.
const localStart = 10

func init() { run.Register(LocalSearch{}) }

// Name is "local-search".
func (LocalSearch) Name() string { return "local-search" }

// About is for help.
func (LocalSearch) About() string {
	return "climbs from the best of 10 random architectures to ever better neighbours, again and again (White " +
		"et al., UAI 2021)"
}

// Run searches.
func (LocalSearch) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	random, order := philox.New(a.Seed, philox.PurposeSample, 0), philox.New(a.Seed, philox.PurposeMutate, 0)
	for round := 0; a.Left() > 0; round++ {
		start := a.draw(min(localStart, a.Ledger.Left()), random)
		values, err := a.buy(ctx, round, start, "random", nil)
		if err != nil || len(start) == 0 { // nothing is left to label
			return err
		}
		top := 0
		for i, v := range values {
			if v > values[top] {
				top = i
			}
		}
		if round, err = a.climb(ctx, round, start[top], values[top], order); err != nil {
			return err
		}
	}
	return nil
}

// climb moves to better neighbours until there is none or no label is left, a round a label, and returns the last
// round.
func (a account) climb(ctx context.Context, round int, here space.Arch, value float64,
	order *philox.Stream) (int, error) {
	for {
		around, err := neighbours(a.Deps.Space, here)
		if err != nil {
			return round, err
		}
		better := false
		for _, i := range order.Perm(len(around)) {
			next := around[i]
			if a.Left() == 0 {
				return round, nil
			}
			if !a.May(next) {
				continue
			}
			round++
			seen, err := a.buy(ctx, round, []space.Arch{next}, "neighbour", nil)
			if err != nil {
				return round, err
			}
			if better = seen[0] > value; better {
				here, value = next, seen[0]
				break
			}
		}
		if !better { // the top of a hill
			return round, nil
		}
	}
}

// neighbours are the distinct architectures that differ from one in a decision. The first decision, on which the others
// depend, keeps of them what fits.
func neighbours(sp space.Space, of space.Arch) ([]space.Arch, error) {
	actions, err := sp.Encode(of)
	if err != nil {
		return nil, err
	}
	var out []space.Arch
	seen := map[space.Arch]bool{of: true}
	for i, step := range sp.Grammar().Steps(actions[0]) {
		for choice := range step.Choices {
			changed := slices.Clone(actions)
			if changed[i] = choice; i == 0 {
				changed = fit(actions, sp.Grammar().Steps(choice), choice)
			}
			x, err := sp.Decode(changed)
			if err != nil {
				return nil, err
			}
			if !seen[x] {
				seen[x] = true
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// fit makes a sequence of decisions follow other steps.
func fit(actions []int, steps []space.Step, first int) []int {
	out := make([]int, len(steps))
	for i, s := range steps[:min(len(steps), len(actions))] {
		out[i] = min(actions[i], s.Choices-1)
	}
	out[0] = first
	return out
}
