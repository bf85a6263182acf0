package report

import (
	"cmp"
	"slices"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// Front sets Pareto: the labelled architectures that no other one beats in both accuracy and a cost, one of space.Costs. times are needed for latencies.
func (r *Result) Front(cost string, labels []ledger.Label, times *space.Times) {
	r.ParetoCost, r.Pareto = cmp.Or(cost, space.CostMAdds), []string{}
	of := func(l ledger.Label) int64 { return space.CostOf(r.ParetoCost, l.Arch, times) }
	sorted := slices.Clone(labels)
	slices.SortStableFunc(sorted, func(a, b ledger.Label) int { return cmp.Or(cmp.Compare(of(a), of(b)), cmp.Compare(b.Value, a.Value)) })
	best := -1.0
	for _, l := range sorted {
		if l.Value > best && l.Note.Stopped == nil { // what was stopped has an estimate
			best = l.Value
			r.Pareto = append(r.Pareto, l.Arch.String())
		}
	}
}
