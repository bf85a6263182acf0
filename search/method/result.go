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
		Space: p.Space.Name(), Method: name, LabelsUsed: len(out.Labels), Seed: p.Seed, Labels: p.Source.Describe(),
		Pick: out.Pick.Arch.String(),
	}
	judge, judged := p.Source.(ledger.Judge)
	if judged {
		judge.Unseal()
	}
	sorted := slices.Clone(out.Labels)
	slices.SortStableFunc(sorted, func(a, b ledger.Label) int { return cmp.Compare(b.Value, a.Value) })
	for _, l := range sorted {
		cost := l.Arch.Cost()
		x := report.Architecture{
			Arch: l.Arch.String(), Hash: l.Arch.Hash(), Accuracy: &l.Value, AccuracySource: p.Source.Facts().String(), Note: l.Note.String(), MAdds: cost.MAdds, Params: cost.Params,
			LatencyMS: p.Latency.Known().Milliseconds(l.Arch),
		}
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
	r.Front(p.ParetoCost, out.Labels, p.Latency.Known())
	return r, nil
}
