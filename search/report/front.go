package report

import (
	"cmp"
	"slices"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Front sets Pareto: the labelled architectures that no other one beats in both accuracy and a cost, one of
// space.Costs as l counts it. Those whose cost is not known are on no front.
func (r *Result) Front(cost string, labels []ledger.Label, l space.Limits) {
	r.ParetoCost, r.Pareto = cmp.Or(cost, space.CostMAdds), []string{}
	type point struct {
		ledger.Label
		cost int64
	}
	var sorted []point
	for _, b := range labels {
		// what was stopped has an estimate
		if c, known := l.CostOf(r.ParetoCost, b.Arch); known && b.Note.Stopped == nil {
			sorted = append(sorted, point{b, c})
		}
	}
	slices.SortStableFunc(sorted, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(b.Value, a.Value))
	})
	best := -1.0
	for _, p := range sorted {
		if p.Value > best {
			best = p.Value
			r.Pareto = append(r.Pareto, p.Arch.String())
		}
	}
}
