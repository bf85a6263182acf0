package method

import (
	"context"
	"errors"

	"github.com/ctnas/ctnas/search"
)

// CTNAS is this project's search behind the methods' interface.
type CTNAS struct {
	Config search.Config // budget, seed and limits are the problem's; in a space that may not be listed the controller proposes
}

// Name is "ctnas".
func (CTNAS) Name() string { return "ctnas" }

// Run searches.
func (m CTNAS) Run(ctx context.Context, p Problem) (Outcome, error) {
	c := m.Config
	c.Space, c.Budget, c.Seed, c.MaxMAdds, c.MaxParams = p.Space.Name(), p.Budget, p.Seed, p.MaxMAdds, p.MaxParams
	c.MaxLatency = p.MaxLatency
	if p.Latency != nil {
		c.Latency = p.Latency.Table.Path
	}
	c.Init = min(c.Init, p.Budget)
	d := search.Deps{Space: p.Space, Source: p.Source, Device: p.Device, Latency: p.Latency}
	if p.Listed && p.All != nil {
		d.List = p.All.Catalogue()
	} else {
		c.Propose = search.ProposeController
	}
	labels := 0
	if p.Progress != nil {
		d.Progress = func(s search.Progress) {
			if s.Labels > labels {
				labels = s.Labels
				p.Progress(s.Labels, s.Best)
			}
		}
	}
	r, err := search.Run(ctx, c, d)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Labels: r.Ledger, Predictor: r.Comparator}
	for _, l := range r.Ledger {
		if l.Arch.String() == r.Pick {
			out.Pick = l
		}
	}
	if out.Pick.Arch == nil {
		return Outcome{}, errors.New("the search picked what it has no label of")
	}
	if r.Controller != nil {
		c := r.Controller
		out.Curriculum = &Curriculum{Start: c.First, End: c.Last, StartSamples: c.FirstKnown, EndSamples: c.LastKnown}
	}
	return out, nil
}

// Ablations are the variants that the paper compares: CTNAS as it is, with the predicted performance itself as reward, with the first
// baseline kept, and without data exploration.
func Ablations(c search.Config) []Variant {
	absolute, fixed, blind := c, c, c
	absolute.Reward = search.RewardAbsolute
	fixed.Baseline = search.BaselineFixed
	blind.Explore = false
	return []Variant{
		{"ctnas", CTNAS{Config: c}},
		{"absolute reward", CTNAS{Config: absolute}},
		{"fixed baseline", CTNAS{Config: fixed}},
		{"no exploration", CTNAS{Config: blind}},
	}
}
