package method

import (
	"cmp"
	"context"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// Bananas is Bayesian optimisation with a neural predictor (White, Neiswanger, Savani: BANANAS, AAAI 2021, algorithm
// 1): in every round an ensemble of networks learns by regression from all labels; the best labelled architecture is
// mutated into candidates; and by independent Thompson sampling those are labelled whose draw from the normal
// distribution with the ensemble's mean and deviation is highest. Numbers are those of the authors' code
// (github.com/naszilla/naszilla, nas_algorithms.py). What differs is the network: theirs is a perceptron over the paths
// of a cell, here it is the run's graph network, as in their variant "bonas", so that it reads every space.
type Bananas struct{}

const (
	bananasFirst      = 10 // random labels
	bananasBatch      = 10 // labels a round after that
	bananasMembers    = 5
	bananasCandidates = 100
	bananasPatience   = 5 // mutations for every candidate before the next best architecture is mutated
)

func init() { run.Register(Bananas{}) }

// Name is "bananas".
func (Bananas) Name() string { return "bananas" }

// About is for help.
func (Bananas) About() string {
	return "Bayesian optimisation: an ensemble learns from all labels, mutants of the best are labelled " +
		"10 a round by Thompson sampling (White et al., AAAI 2021)"
}

// Run searches.
func (Bananas) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	first := a.draw(min(bananasFirst, a.Ledger.Left()), philox.New(a.Seed, philox.PurposeSample, 0))
	if _, err := a.buy(ctx, 0, first, "random", nil); err != nil {
		return err
	}
	for round := 1; a.Left() > 0; round++ {
		c, err := a.regress(ctx, round, bananasMembers)
		if err != nil {
			return err
		}
		archs, scores, err := a.acquire(c, round, min(bananasBatch, a.Ledger.Left()))
		if err != nil || len(archs) == 0 { // nothing is left to label
			return err
		}
		if _, err := a.buy(ctx, round, archs, "bananas", scores); err != nil {
			return err
		}
	}
	var err error
	a.Found.Predictor, err = a.regress(ctx, 0, bananasMembers)
	return err
}

// regress trains an ensemble on all labels.
func (a account) regress(ctx context.Context, round, members int) (*gcn.Comparator, error) {
	network := withLoss(a.Network, gcn.Regression)
	network.Members = members
	seed := philox.New(a.Seed, philox.PurposeTrain, uint32(round)).Uint64()
	c, err := Train(ctx, a.Device, network, a.Deps.Space, a.Ledger.Labels(), seed)
	a.Spent("train")
	return c, err
}

// acquire chooses n of the candidates by independent Thompson sampling, and returns them with the ensemble's means.
func (a account) acquire(c *gcn.Comparator, round, n int) (archs []space.Arch, means []float64, err error) {
	candidates := a.mutants(philox.New(a.Seed, philox.PurposeMutate, uint32(round)), bananasCandidates)
	scores, err := a.score(c, candidates)
	if err != nil || len(candidates) == 0 {
		return nil, nil, err
	}
	noise := philox.New(a.Seed, philox.PurposeExplore, uint32(round))
	drawn, order := make([]float64, len(candidates)), make([]int, len(candidates))
	for i := range candidates {
		drawn[i], order[i] = scores.Rank[i]+scores.SD(i)*noise.NormFloat64(), i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(drawn[j], drawn[i]) })
	for _, i := range order[:min(n, len(order))] {
		archs, means = append(archs, candidates[i]), append(means, scores.Rank[i])
	}
	return archs, means, nil
}

// score has an ensemble predict what architectures reach; nil where there are none.
func (a account) score(c *gcn.Comparator, archs []space.Arch) (*gcn.Scores, error) {
	if len(archs) == 0 {
		return nil, nil
	}
	e, err := c.Prepare(catalogue.Describe(a.Deps.Space, c.Config.Network, archs, nil))
	if err != nil {
		return nil, err
	}
	return c.Score(a.Device, e)
}

// mutants are candidates: distinct mutants of the best labelled architecture that may be bought, of the next best where
// there are each of it, and random ones where nobody has enough.
func (a account) mutants(s *philox.Stream, each int) []space.Arch {
	labels := slices.Clone(a.Ledger.Labels())
	slices.SortStableFunc(labels, func(x, y ledger.Label) int { return cmp.Compare(y.Score, x.Score) })
	taken := map[space.Arch]bool{}
	var out []space.Arch
	for _, l := range labels {
		until := min(len(out)+each, bananasCandidates)
		for range bananasPatience * each {
			if len(out) == bananasCandidates {
				return out
			}
			if len(out) == until {
				break
			}
			if x := a.Deps.Space.Mutate(l.Arch, s); !taken[x] && a.May(x) {
				taken[x] = true
				out = append(out, x)
			}
		}
	}
	for _, x := range a.draw(bananasCandidates, s) {
		if !taken[x] && len(out) < bananasCandidates {
			out = append(out, x)
		}
	}
	return out
}
