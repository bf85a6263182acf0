// Package retrain sets the pick of a search beside random architectures that the search has not labelled: all are trained anew in the same way, so that the
// luck of the label that chose the pick does not count for it.
package retrain

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/trained"
)

// Config is what is trained.
type Config struct {
	Source *trained.Source // with seeds that no label came from, and with test images
	Space  space.Space
	Pick   space.Arch
	Random int                   // how many random architectures
	Seed   uint64                // of their choice
	May    func(space.Arch) bool // which of them: those that the search could have picked and has not labelled
}

// mostDraws is how many architectures are drawn for each one that is wanted.
const mostDraws = 10000

// Run trains them and sums up.
func Run(ctx context.Context, c Config) (*report.Retrained, error) {
	archs, err := c.draw()
	if err != nil {
		return nil, err
	}
	archs = append([]space.Arch{c.Pick}, archs...)
	if _, err := c.Source.Label(ctx, archs); err != nil {
		return nil, err
	}
	r := &report.Retrained{Labels: c.Source.Describe()}
	for k := range c.Source.Seeds {
		r.Seeds = append(r.Seeds, c.Source.Seed+uint64(k))
	}
	for i, a := range archs {
		records, err := c.Source.Records(a)
		if err != nil {
			return nil, err
		}
		x := report.Retraining{Arch: a.String(), Hash: a.Hash()}
		for k, record := range records {
			if record == nil || record.Test == nil {
				return nil, fmt.Errorf("the training of %v with seed %d has no test accuracy: it diverged, or %s has no test images", a, r.Seeds[k], c.Source.Data)
			}
			x.Test, x.Params, x.MAdds = append(x.Test, *record.Test), record.Params, record.MAdds
		}
		if i == 0 {
			r.Pick = x
		} else {
			r.Random = append(r.Random, x)
		}
	}
	r.Summarise()
	return r, nil
}

// draw chooses distinct random architectures other than the pick.
func (c Config) draw() (archs []space.Arch, err error) {
	taken := map[space.Arch]bool{c.Pick: true}
	s := philox.New(c.Seed, philox.PurposeHeldOut, 0)
	for tries := 0; len(archs) < c.Random; tries++ {
		if tries == mostDraws*c.Random {
			return nil, fmt.Errorf("only %d of %d random architectures that were not labelled are found in %s", len(archs), c.Random, c.Space.Name())
		}
		if a := c.Space.Sample(s); !taken[a] && c.May(a) && c.Source.Has(a) {
			taken[a] = true
			archs = append(archs, a)
		}
	}
	return archs, nil
}
