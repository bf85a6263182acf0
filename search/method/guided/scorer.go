package guided

import (
	"context"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/space"
)

// Score is a comparator's score of one architecture.
type Score struct {
	scores *gcn.Scores
	i      int
}

// Rank is the ensemble's standardised score: higher is better.
func (s Score) Rank() float64 { return s.scores.Rank[s.i] }

// Beats is the probability that the architecture is at least as good as another.
func (s Score) Beats(other Score) float64 { return s.scores.Against(other.scores, s.i, other.i) }

// Raw is what the networks say of the architecture (gcn.Scores.Raw).
func (s Score) Raw() (scores, bias []float32) { return s.scores.Raw(s.i) }

// Scorer asks one comparator about architectures and remembers what it said.
type Scorer struct {
	sp     space.Space
	device exec.Config
	cmp    *gcn.Comparator
	list   *catalogue.Catalogue // nil: the space is not ranked
	whole  *gcn.Scores          // of list
	known  map[space.Arch]Score
	asked  [][]space.Arch // the new ones of each request: asking them again in the same groups gives the same bits
}

// NewScorer scores the whole list where there is one.
func NewScorer(ctx context.Context, sp space.Space, device exec.Config, by *gcn.Comparator,
	list *catalogue.Catalogue) (*Scorer, error) {
	s := &Scorer{sp: sp, device: device, cmp: by, list: list, known: map[space.Arch]Score{}}
	if list == nil {
		return s, nil
	}
	var err error
	s.whole, err = list.Score(ctx, by, device)
	return s, err
}

// Score scores architectures together, without remembering them.
func (s *Scorer) Score(archs []space.Arch) (*gcn.Scores, error) {
	encoding, err := s.cmp.Prepare(catalogue.Describe(s.sp, s.cmp.Config.Network, archs, nil))
	if err != nil {
		return nil, err
	}
	return s.cmp.Score(s.device, encoding)
}

// Ask gives the score of every architecture; only new ones are computed.
func (s *Scorer) Ask(archs []space.Arch) ([]Score, error) {
	out := make([]Score, len(archs))
	var fresh []space.Arch
	for i, a := range archs {
		score, ok := s.find(a)
		if !ok {
			s.known[a] = Score{} // stands in for the repeats
			fresh = append(fresh, a)
		}
		out[i] = score
	}
	if len(fresh) == 0 {
		return out, nil
	}
	if err := s.learn(fresh); err != nil {
		return nil, err
	}
	for i, a := range archs {
		out[i], _ = s.find(a)
	}
	return out, nil
}

func (s *Scorer) find(a space.Arch) (Score, bool) {
	if s.list != nil {
		if i, ok := s.list.Index(a); ok {
			return Score{s.whole, i}, true
		}
	}
	score, ok := s.known[a]
	return score, ok
}

// learn scores architectures and remembers them.
func (s *Scorer) learn(fresh []space.Arch) error {
	scores, err := s.Score(fresh)
	if err != nil {
		return err
	}
	for i, a := range fresh {
		s.known[a] = Score{scores, i}
	}
	s.asked = append(s.asked, fresh)
	return nil
}

// Strongest returns the index of the candidate with the highest mean probability of beating the others, and that
// probability.
func Strongest(o []Score) (best int, win float64) {
	win = -1
	for i := range o {
		p := 0.0
		for j := range o {
			if i != j {
				p += o[i].Beats(o[j])
			}
		}
		if p /= float64(max(len(o)-1, 1)); p > win {
			best, win = i, p
		}
	}
	return best, win
}
