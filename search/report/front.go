package report

import (
	"cmp"
	"math"
	"slices"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Front sets Pareto: the labelled architectures that no other one beats in both what labels measure and a cost, one of
// space.Costs as l counts it or a metric that was measured with the labels. Those whose cost is not known, and those
// outside of limits and bounds, are on no front.
func (r *Result) Front(cost string, labels []ledger.Label, f ledger.Facts, l space.Limits) {
	r.ParetoCost, r.Pareto = cmp.Or(cost, space.CostMAdds), []string{}
	type point struct {
		ledger.Label
		cost float64
	}
	var sorted []point
	for _, b := range labels {
		// what was stopped has an estimate
		if c, known := costOf(r.ParetoCost, b, f, l); known && b.Note.Stopped == nil && b.Fits() && l.Allow(b.Arch) {
			sorted = append(sorted, point{b, c})
		}
	}
	slices.SortStableFunc(sorted, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(b.Score, a.Score))
	})
	best := math.Inf(-1)
	for _, p := range sorted {
		if p.Score > best {
			best = p.Score
			r.Pareto = append(r.Pareto, p.Arch.String())
		}
	}
}

// costOf is a cost of a labelled architecture, of which less is better; false where nobody knows it.
func costOf(cost string, b ledger.Label, f ledger.Facts, l space.Limits) (float64, bool) {
	if !slices.Contains(space.Costs, cost) {
		return b.Measured(f, cost)
	}
	c, known := l.CostOf(cost, b.Arch)
	return float64(c), known
}
