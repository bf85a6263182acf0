package method

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// TPE is the tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS
// 2011): of every decision it counts what the best labelled architectures chose and what the others did, draws
// candidates as the best ones are, and labels the one whose choices are more likely among the best than among the
// others by the largest factor. Numbers are those of Optuna's TPESampler: ten random labels, a tenth of the labels, at
// most 25, are the best ones, 24 candidates a label, a prior of weight 1 over the choices of a decision. Decisions are
// independent but for the first one of a space where it says which ones follow.
type TPE struct{}

const (
	tpeFirst      = 10
	tpeShare      = 0.1
	tpeMost       = 25
	tpeCandidates = 24
)

func init() { run.Register(TPE{}) }

// Name is "tpe".
func (TPE) Name() string { return "tpe" }

// About is for help.
func (TPE) About() string {
	return "tree-structured Parzen estimator: decisions that the best tenth made and the others did not, one label " +
		"at a time (Bergstra et al., NeurIPS 2011)"
}

// Run searches.
func (TPE) Run(ctx context.Context, r *run.Run) error {
	a := account{r}
	first := a.draw(min(tpeFirst, a.Left()), philox.New(a.Seed, philox.PurposeSample, 0))
	if _, err := a.buy(ctx, 0, first, "random", nil); err != nil {
		return err
	}
	for round := 1; a.Left() > 0; round++ {
		x, err := a.likely(philox.New(a.Seed, philox.PurposeMutate, uint32(round)))
		if err != nil || x == nil {
			return err
		}
		if _, err := a.buy(ctx, round, []space.Arch{x}, "tpe", nil); err != nil {
			return err
		}
	}
	return nil
}

// likely is the candidate whose decisions are more likely among the best labels by the largest factor; nil where
// nothing is left.
func (a account) likely(s *philox.Stream) (space.Arch, error) {
	labels := slices.Clone(a.Ledger.Labels())
	slices.SortStableFunc(labels, func(x, y ledger.Label) int { return cmp.Compare(y.Score, x.Score) })
	best := min(int(math.Ceil(tpeShare*float64(len(labels)))), tpeMost)
	grammar := a.Deps.Space.Grammar()
	good, err := a.chosen(labels[:best])
	if err != nil {
		return nil, err
	}
	bad, err := a.chosen(labels[best:])
	if err != nil {
		return nil, err
	}
	var found space.Arch
	most := math.Inf(-1)
	for n, failed := 0, 0; n < tpeCandidates && failed < tries/100; {
		actions, factor := good.draw(grammar, bad, s)
		x, err := a.Deps.Space.Decode(actions)
		if err != nil || !a.May(x) { // decisions that make no architecture, or one that has a label
			failed++
			continue
		}
		if n++; factor > most {
			found, most = x, factor
		}
	}
	if found == nil {
		if rest := a.draw(1, s); len(rest) == 1 {
			return rest[0], nil
		}
	}
	return found, nil
}

// parzen counts decisions: of each first one how often, and of each step behind it and choice. Steps belong to a first
// decision, or to all behind which the same ones follow: else each would have learned from a part of the labels only.
type parzen struct {
	first  []float64
	behind map[int][][]float64 // by the lowest first decision of those that share them
}

// chosen counts the decisions of labels.
func (a account) chosen(labels []ledger.Label) (p parzen, err error) {
	g := a.Deps.Space.Grammar()
	p = parzen{make([]float64, g.First.Choices), map[int][][]float64{}}
	for _, l := range labels {
		actions, err := a.Deps.Space.Encode(l.Arch)
		if err != nil {
			return p, err
		}
		p.first[actions[0]]++
		steps := p.steps(g, actions[0])
		for i, k := range actions[1:] {
			steps[i][k]++
		}
	}
	return p, nil
}

// steps are the counts behind a first decision.
func (p parzen) steps(g *space.Grammar, first int) [][]float64 {
	first = slices.IndexFunc(g.Variants, func(v []space.Step) bool { return slices.Equal(v, g.Variants[first]) })
	if p.behind[first] == nil {
		for _, step := range g.Variants[first] {
			p.behind[first] = append(p.behind[first], make([]float64, step.Choices))
		}
	}
	return p.behind[first]
}

// draw draws decisions as these were made, and says by which factor, its logarithm, they are more likely than as others
// were.
func (p parzen) draw(g *space.Grammar, others parzen, s *philox.Stream) (actions []int, factor float64) {
	take := func(counts, beside []float64) {
		k := drawCounted(counts, s)
		actions = append(actions, k)
		factor += math.Log(likelihood(counts, k) / likelihood(beside, k))
	}
	take(p.first, others.first)
	mine, theirs := p.steps(g, actions[0]), others.steps(g, actions[0])
	for i := range mine {
		take(mine[i], theirs[i])
	}
	return actions, factor
}

// likelihood is that of a choice, with a prior that has the weight of one observation spread over all choices.
func likelihood(counts []float64, k int) float64 {
	sum := 1.0
	for _, n := range counts {
		sum += n
	}
	return (counts[k] + 1/float64(len(counts))) / sum
}

// drawCounted draws a choice with its likelihood.
func drawCounted(counts []float64, s *philox.Stream) int {
	x := s.Float64()
	for k := range counts {
		if x -= likelihood(counts, k); x < 0 {
			return k
		}
	}
	return len(counts) - 1
}
