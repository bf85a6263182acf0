package trained

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Comparison sets the pick of a search beside random architectures that the search has not labelled. All are trained
// anew in the same way, so that the luck of the label that chose the pick does not count for it.
type Comparison struct {
	Pick   space.Arch
	Random int                   // how many random architectures
	Seed   uint64                // of their choice
	May    func(space.Arch) bool // which of them: those that the search could have picked and has not labelled
	// Limits are the search's, within which is drawn where draws from the whole space come to nothing.
	Limits space.Limits
}

// mostDraws is how many architectures are drawn for each one that is wanted.
const mostDraws = 10000

// Compare trains them and sums up. The source's seeds should be such that no label came from; its data needs test
// images.
func (s *Source) Compare(ctx context.Context, c Comparison) (*report.Retrained, error) {
	archs, err := s.draw(c)
	if err != nil {
		return nil, err
	}
	archs = append([]space.Arch{c.Pick}, archs...)
	if _, err := s.Label(ctx, archs); err != nil {
		return nil, err
	}
	r := &report.Retrained{Labels: s.Describe(), Network: s.NetworkSize()}
	for k := range s.Seeds {
		r.Seeds = append(r.Seeds, s.Seed+uint64(k))
	}
	for i, a := range archs {
		records, err := s.Records(a)
		if err != nil {
			return nil, err
		}
		x := report.Retraining{Arch: a.String(), Hash: a.Hash()}
		for k, record := range records {
			if record == nil || record.Test == nil {
				return nil,
					fmt.Errorf("the training of %v with seed %d has no test accuracy: it diverged, or %s has no test "+
						"images", a, r.Seeds[k], s.Data)
			}
			x.Test, x.Params, x.MAdds = append(x.Test, *record.Test), record.Params, record.MAdds
		}
		if i == 0 {
			r.Pick = x
		} else {
			r.Random = append(r.Random, x)
		}
	}
	r.Corrupt = s.Corrupt()
	r.Summarise()
	return r, nil
}

// draw chooses distinct random architectures other than the pick.
func (s *Source) draw(c Comparison) (archs []space.Arch, err error) {
	taken := map[space.Arch]bool{c.Pick: true}
	random := philox.New(c.Seed, philox.PurposeHeldOut, 0)
	sample := s.Space.Sample
	for tries := 0; len(archs) < c.Random; tries++ {
		switch tries {
		case mostDraws * c.Random:
			if sample, err = space.Sampler(s.Space, c.Limits); err != nil {
				return nil, err
			}
		case 2 * mostDraws * c.Random:
			return nil, fmt.Errorf("only %d of %d random architectures that were not labelled are found in %s",
				len(archs), c.Random, s.Space.Name())
		}
		if a := sample(random); !taken[a] && c.May(a) && s.Has(a) {
			taken[a] = true
			archs = append(archs, a)
		}
	}
	return archs, nil
}

// Weights is the file of the weights that a training of the Keep architecture left: of that which was best on
// validation images at its end, of equal ones the first. Empty where the trainings were done elsewhere.
func (s *Source) Weights() (path string, err error) {
	if s.local == nil || s.Keep == nil {
		return "", nil
	}
	records, err := s.Records(s.Keep)
	if err != nil {
		return "", err
	}
	best := -1.0
	for _, r := range records {
		if r == nil || r.Diverged != "" {
			continue
		}
		if v := r.Validation[len(r.Validation)-1]; v > best {
			best, path = v, s.cache.weights(r.Key)
		}
	}
	return path, nil
}
