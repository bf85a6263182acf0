package method

import (
	"cmp"
	"errors"
	"slices"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
)

// Result is an outcome as result.json says it: the labelled architectures, best first, judged where the source can judge. It ends the search:
// a sealed source is unsealed.
func Result(name string, p Problem, out Outcome) (*report.Result, error) {
	r := &report.Result{
		Space: p.Space.Name(), Method: name, LabelsUsed: len(out.Labels), Seed: p.Seed, Pick: out.Pick.Arch.String(),
	}
	r.Describe(p.Source)
	limits, facts := p.limits(), p.Source.Facts()
	judge, judged := p.Source.(ledger.Judge)
	if judged {
		judge.Unseal()
		r.Ranked = judge.Total()
	}
	sorted := slices.Clone(out.Labels)
	slices.SortStableFunc(sorted, func(a, b ledger.Label) int { return cmp.Compare(b.Value, a.Value) })
	for _, l := range sorted {
		x := report.Describe(l.Arch, limits)
		x.Label(l, facts)
		if judged {
			accuracy, rank, err := judge.Judge(l.Arch)
			if err == nil {
				x.Judged, x.Rank = &accuracy, rank
			} else if !errors.Is(err, ledger.ErrNoLabel) {
				return nil, err
			}
		}
		r.Architectures = append(r.Architectures, x)
	}
	r.Front(p.ParetoCost, out.Labels, limits)
	return r, nil
}
