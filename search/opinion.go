package search

import (
	"context"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
)

// opinion is where a comparator's scores of one architecture stand.
type opinion struct {
	scores *gcn.Scores
	i      int
}

// rank is the ensemble's standardised score: higher is better.
func (o opinion) rank() float64 { return o.scores.Rank[o.i] }

// beats is the probability that the architecture is at least as good as another.
func (o opinion) beats(other opinion) float64 { return o.scores.Against(other.scores, o.i, other.i) }

// referee asks one comparator about architectures and remembers what it said.
type referee struct {
	sp     space.Space
	device exec.Config
	cmp    *gcn.Comparator
	list   *Catalogue  // nil: the space is not ranked
	whole  *gcn.Scores // of list
	known  map[space.Arch]opinion
	asked  [][]space.Arch // the new architectures of each request: asking them again in the same groups gives the same bits
}

// newReferee scores the whole list where there is one.
func newReferee(ctx context.Context, sp space.Space, device exec.Config, cmp *gcn.Comparator, list *Catalogue) (*referee, error) {
	r := &referee{sp: sp, device: device, cmp: cmp, list: list, known: map[space.Arch]opinion{}}
	if list == nil {
		return r, nil
	}
	var err error
	r.whole, err = list.space.Score(ctx, cmp, device)
	return r, err
}

// score scores architectures together, without remembering them.
func (r *referee) score(archs []space.Arch) (*gcn.Scores, error) {
	encoding, err := r.cmp.Prepare(describe(r.sp, r.cmp.Config.Network, archs, nil))
	if err != nil {
		return nil, err
	}
	return r.cmp.Score(r.device, encoding)
}

// ask gives an opinion of every architecture; only new ones are scored.
func (r *referee) ask(archs []space.Arch) ([]opinion, error) {
	out := make([]opinion, len(archs))
	var fresh []space.Arch
	for i, a := range archs {
		o, ok := r.find(a)
		if !ok {
			r.known[a] = opinion{} // stands in for the repeats
			fresh = append(fresh, a)
		}
		out[i] = o
	}
	if len(fresh) == 0 {
		return out, nil
	}
	if err := r.learn(fresh); err != nil {
		return nil, err
	}
	for i, a := range archs {
		out[i], _ = r.find(a)
	}
	return out, nil
}

func (r *referee) find(a space.Arch) (opinion, bool) {
	if r.list != nil {
		if i, ok := r.list.index(a); ok {
			return opinion{r.whole, i}, true
		}
	}
	o, ok := r.known[a]
	return o, ok
}

func (r *referee) learn(fresh []space.Arch) error {
	scores, err := r.score(fresh)
	if err != nil {
		return err
	}
	for i, a := range fresh {
		r.known[a] = opinion{scores, i}
	}
	r.asked = append(r.asked, fresh)
	return nil
}

// strongest returns the index of the candidate with the highest mean probability of beating the others, and that probability.
func strongest(o []opinion) (best int, win float64) {
	win = -1
	for i := range o {
		p := 0.0
		for j := range o {
			if i != j {
				p += o[i].beats(o[j])
			}
		}
		if p /= float64(max(len(o)-1, 1)); p > win {
			best, win = i, p
		}
	}
	return best, win
}
