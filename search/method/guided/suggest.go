package guided

import (
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Suggest says which up to n architectures, of those that a rule lets be, are worth a label next by this round's
// comparator: of the list where there is one and it is asked for, else of what is bred from the labelled ones. Where
// operations say where they stand they differ in apart decisions at first. It costs no labels.
func (s *Search) Suggest(n int, rule func(space.Arch) bool, listed bool, apart int) ([]report.Suggestion, error) {
	c := &selection{s: s, taken: make(map[space.Arch]bool, n), rule: rule}
	if space.IsPositional(s.Deps.Space) {
		c.apart = apart
	}
	var among catalogue.Lister
	var rank []float64
	if listed && s.List != nil {
		whole := s.Scorer.whole
		among, rank = s.List, whole.Rank
		proposer := func(int) string { return ProposerSpace }
		s.rank(c, n, rank, whole.Member, s.List.Arch, proposer)
	} else {
		pool, from, err := s.pool(rule, true)
		if err != nil {
			return nil, err
		}
		among = catalogue.NewList(pool)
		if len(pool) > 0 {
			scores, err := s.Scorer.Score(pool)
			if err != nil {
				return nil, err
			}
			rank = scores.Rank
			s.rank(c, n, rank, scores.Member, among.Arch, func(i int) string { return from[i] })
		}
	}
	return s.reasons(c.list, among, rank)
}

// rank chooses n of one list: along the front where that is looked for, else those that are ranked best.
func (s *Search) rank(c *selection, n int, rank []float64, member func(m int) []float64, at func(int) space.Arch,
	proposer func(int) string) {
	if s.Pareto {
		c.front(n, rank, at, proposer)
	}
	s.choose(c, n-len(c.list), rank, member, at, proposer)
}

// reasons say of what was chosen from a list how probably it beats the best label, its rank in the list, and why it was
// chosen.
func (s *Search) reasons(chosen []ledger.Request, among catalogue.Lister, rank []float64) ([]report.Suggestion, error) {
	best, any := s.Best()
	asked := make([]space.Arch, len(chosen), len(chosen)+1)
	for i, r := range chosen {
		asked[i] = r.Arch
	}
	if any {
		asked = append(asked, best.Arch)
	}
	scores, err := s.Scorer.Ask(asked)
	if err != nil {
		return nil, err
	}
	sorted := slices.Clone(rank)
	slices.Sort(sorted)
	list := make([]report.Suggestion, len(chosen))
	for i, r := range chosen {
		x := report.Suggestion{Arch: r.Arch.String(), Hash: r.Arch.Hash(), Proposer: r.Proposer}
		if any {
			p := scores[i].Beats(scores[len(chosen)])
			x.Probability = &p
		}
		if at, ok := among.Index(r.Arch); ok {
			above, _ := slices.BinarySearch(sorted, math.Nextafter(rank[at], math.Inf(1)))
			k := len(sorted) - above + 1
			x.PredictedRank = &k
		}
		x.Reason = s.reason(r, best.Arch, x.PredictedRank, len(rank))
		list[i] = x
	}
	return list, nil
}

// reason says in words why an architecture was chosen.
func (s *Search) reason(r ledger.Request, best space.Arch, rank *int, among int) string {
	text := fmt.Sprintf("ranked %d of %d", *rank, among)
	switch {
	case r.Proposer == ProposerThompson:
		text += fmt.Sprintf(", better by one of the %d networks than by all: exploration", s.Members)
	case s.Pareto:
		text += ", on the predicted front"
	}
	if best == nil {
		return text
	}
	if x, err := s.Deps.Space.Encode(r.Arch); err == nil {
		if y, err := s.Deps.Space.Encode(best); err == nil && len(x) == len(y) {
			text += fmt.Sprintf("; %d of %d decisions differ from the best measured one", differences(x, y), len(x))
		}
	}
	return text
}
