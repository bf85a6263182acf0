package run

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// listedPicks is how many of the architectures that shared weights rank best a result lists.
const listedPicks = 50

// listPicked enters the architectures that shared weights rank best, the pick first of equal ones.
func (r *Run) listPicked(x *Result) {
	p := r.Found.Picked
	x.Shared = &report.Shared{What: p.What, Measured: len(p.All)}
	if p.Drawn > 0 {
		x.Shared.Drawn, x.Shared.Outside = p.Drawn, &p.Outside
	}
	enter := func(m Measured) {
		a := report.Describe(m.Arch, r.Limits)
		a.Accuracy, a.AccuracySource = &m.Accuracy, p.What
		x.Architectures = append(x.Architectures, a)
	}
	enter(p.Measured)
	best := slices.DeleteFunc(slices.Clone(p.All), func(m Measured) bool { return m.Arch == p.Arch })
	slices.SortStableFunc(best, func(a, b Measured) int { return cmp.Compare(b.Accuracy, a.Accuracy) })
	for _, m := range best[:min(len(best), listedPicks-1)] {
		enter(m)
	}
}

// judgePicked says how well shared weights rank, by those of the architectures that the table has.
func (r *Run) judgePicked(x *Result, judge ledger.Judge) (err error) {
	p, s := r.Found.Picked, x.Shared
	if s.TauB, s.TauBParams, s.Over, err = r.taus(judge, p.Sample); err != nil {
		return err
	}
	s.PoolTauB, _, s.PoolOver, err = r.taus(judge, p.Pool)
	return err
}

// taus are tau-b of accuracies with shared weights and of parameters with what judges, over the n architectures that
// the judge knows; nil where they are not defined or, of parameters, not known.
func (r *Run) taus(judge ledger.Judge, all []Measured) (accuracy, params *float64, n int, err error) {
	var shared, counted, truth []float64
	unknown := false
	for _, m := range all {
		value, _, err := judge.Judge(m.Arch)
		if errors.Is(err, ledger.ErrNoLabel) {
			continue
		} else if err != nil {
			return nil, nil, 0, err
		}
		n := r.Limits.Cost(m.Arch).Params
		unknown = unknown || n == space.Unknown
		shared, counted, truth = append(shared, m.Accuracy), append(counted, float64(n)), append(truth, value)
	}
	tau := func(x []float64) *float64 {
		if t := stat.KendallB(x, truth); !math.IsNaN(t) {
			return &t
		}
		return nil
	}
	if unknown {
		return tau(shared), nil, len(truth), nil
	}
	return tau(shared), tau(counted), len(truth), nil
}
