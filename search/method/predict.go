package method

import (
	"context"
	"sort"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

func init() {
	run.Register(Regression{})
	run.Register(ReNAS{})
}

// share is the part of the budget that the predictors of the literature keep for the architectures they predict best:
// all other labels are drawn at random beforehand, as RegressionNAS and ReNAS do.
func share(budget int) int { return max(1, budget/8) }

// learn trains the run's network on what has been bought.
func (a account) learn(ctx context.Context, loss gcn.Loss) (*gcn.Comparator, error) {
	c, err := Train(ctx, a.Device, withLoss(a.Network, loss), a.Deps.Space, a.Ledger.Labels(), a.Seed)
	a.Spent("train")
	return c, err
}

// withLoss is a network that learns by regression or by ranking: these need one score an architecture, the noise of
// labels is known to the comparison only, and there is nobody but the network.
func withLoss(c gcn.Config, loss gcn.Loss) gcn.Config {
	c.Loss, c.Pair, c.Process = loss, false, 0
	c.NoiseFloor, c.NoiseSlope = 0, 0
	if loss == gcn.Ranking && c.Margin == 0 {
		c.Margin = rankingMargin
	}
	return c
}

// predicted is an architecture with its score.
type predicted struct {
	arch  space.Arch
	score float64
}

// sortBest orders by score, best first; equal ones keep their order.
func sortBest(list []predicted) {
	sort.SliceStable(list, func(i, j int) bool { return list[i].score > list[j].score })
}

// rank scores architectures.
func (b account) rank(c *gcn.Comparator, archs []space.Arch) ([]predicted, error) {
	e, err := c.Prepare(catalogue.Describe(b.Deps.Space, c.Config.Network, archs, nil))
	if err != nil {
		return nil, err
	}
	scores, err := c.Score(b.Device, e)
	if err != nil {
		return nil, err
	}
	list := make([]predicted, len(archs))
	for i, a := range archs {
		list[i] = predicted{a, scores.Rank[i]}
	}
	return list, nil
}

// buyBest buys the n best of a list that may be bought, and returns how many there were.
func (b account) buyBest(ctx context.Context, round, n int, list []predicted, proposer string) (int, error) {
	sortBest(list)
	var archs []space.Arch
	var scores []float64
	taken := map[space.Arch]bool{}
	for _, c := range list {
		if len(archs) == n {
			break
		}
		if !taken[c.arch] && b.May(c.arch) {
			taken[c.arch] = true
			archs, scores = append(archs, c.arch), append(scores, c.score)
		}
	}
	_, err := b.buy(ctx, round, archs, proposer, scores)
	return len(archs), err
}

// Regression is RegressionNAS, the paper's comparison: the same network learns accuracies (mean squared error of
// standardised labels) of architectures drawn at random; the last eighth of the budget goes to those it predicts best,
// of the listed space, or of 20,000 random ones where the space must not be listed. At the end it learns from all
// labels.
type Regression struct{}

// regressionCandidates is how many random architectures are ranked where a space must not be listed.
const regressionCandidates = 20000

// Name is "regression".
func (Regression) Name() string { return "regression" }

// About is for help.
func (Regression) About() string {
	return "random labels train the comparator's network to predict accuracies; the last eighth goes to its best " +
		"(RegressionNAS)"
}

// Run searches.
func (Regression) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	return a.predictThenBuy(ctx, gcn.Regression, "regression", func(stage int, c *gcn.Comparator) ([]predicted, error) {
		all := a.Listed()
		if all == nil {
			return a.rank(c, a.draw(regressionCandidates, philox.New(a.Seed, philox.PurposePropose, uint32(stage))))
		}
		scores, err := all.Score(ctx, c, a.Device)
		if err != nil {
			return nil, err
		}
		list := make([]predicted, all.Len())
		for i := range list {
			list[i] = predicted{all.Arch(i), scores.Rank[i]}
		}
		return list, nil
	})
}

// predictThenBuy spends each budget in two rounds: labels drawn at random, and the best of those that propose lists
// with the scores of a network that has learned from all labels so far. At the end it learns from all of them.
func (a account) predictThenBuy(ctx context.Context, loss gcn.Loss, name string,
	propose func(stage int, c *gcn.Comparator) ([]predicted, error)) error {
	stream := philox.New(a.Seed, philox.PurposeSample, 0)
	for stage := 0; a.Left() > 0; stage++ {
		final := share(a.Ledger.Left())
		drawn := a.draw(a.Ledger.Left()-final, stream)
		if _, err := a.buy(ctx, 2*stage, drawn, "random", nil); err != nil {
			return err
		}
		c, err := a.learn(ctx, loss)
		if err != nil {
			return err
		}
		list, err := propose(stage, c)
		if err != nil {
			return err
		}
		bought, err := a.buyBest(ctx, 2*stage+1, final, list, name)
		if err != nil {
			return err
		}
		if a.Found.Predictor, err = a.learn(ctx, loss); err != nil {
			return err
		}
		if len(drawn)+bought == 0 || a.Ledger.Left() > 0 && !a.More() { // nothing is left to label
			break
		}
	}
	return nil
}

// ReNAS is relativistic evaluation (Xu et al., CVPR 2021): the network learns by a hinge loss on all pairs of
// architectures drawn at random, an evolution that costs no labels searches with its scores as fitness, and the last
// eighth of the budget goes to the best it has met. At the end it learns from all labels.
type ReNAS struct{}

// The evolution on predicted scores: each generation the fitter half of a tournament-selected population stays, and
// mutants replace the rest.
const (
	rankingMargin    = 0.1 // in the unit of the scores, where the noise of initial weights is about 1
	renasPopulation  = 200
	renasGenerations = 40
	renasTournament  = 10
)

// Name is "renas".
func (ReNAS) Name() string { return "renas" }

// About is for help.
func (ReNAS) About() string {
	return "as regression with a pairwise ranking loss; an evolution on the predicted scores proposes the " +
		"last eighth (ReNAS)"
}

// Run searches.
func (ReNAS) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	return a.predictThenBuy(ctx, gcn.Ranking, "renas", func(stage int, c *gcn.Comparator) ([]predicted, error) {
		return a.evolve(ctx, stage, c)
	})
}

// evolve breeds architectures by their predicted score and returns all it has met. What has been labelled may be a
// parent, too.
func (b account) evolve(ctx context.Context, stage int, c *gcn.Comparator) ([]predicted, error) {
	var archs []space.Arch
	for _, l := range b.Ledger.Labels() {
		archs = append(archs, l.Arch)
	}
	archs = append(archs, b.draw(max(0, renasPopulation-len(archs)),
		philox.New(b.Seed, philox.PurposePropose, uint32(stage)))...)
	population, err := b.rank(c, archs)
	if err != nil {
		return nil, err
	}
	sortBest(population)
	population = population[:min(renasPopulation, len(population))]
	met := append([]predicted(nil), population...)
	known := map[space.Arch]bool{}
	for _, m := range population {
		known[m.arch] = true
	}
	for generation := range renasGenerations {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stream := philox.New(b.Seed, philox.PurposeMutate, uint32(stage*renasGenerations+generation))
		var children []space.Arch
		for range renasPopulation / 2 {
			winner := len(population)
			for range renasTournament {
				winner = min(winner, stream.Intn(len(population))) // sorted: the lowest index is the best
			}
			child := b.mutate(population[winner].arch, stream)
			if child == nil || known[child] {
				continue
			}
			known[child] = true
			children = append(children, child)
		}
		if len(children) == 0 {
			continue
		}
		scored, err := b.rank(c, children)
		if err != nil {
			return nil, err
		}
		met = append(met, scored...)
		population = append(population, scored...)
		sortBest(population)
		population = population[:min(renasPopulation, len(population))]
	}
	return met, nil
}
