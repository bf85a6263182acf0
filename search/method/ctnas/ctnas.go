// Package ctnas is the search of CTNAS (CVPR 2021, algorithm 1) with labels spent in rounds. A comparator learns from
// labelled architectures which of two is the better; a controller is rewarded for beating a baseline that improves as
// it does; and the architectures that both propose are labelled within a budget.
package ctnas

import (
	"context"
	"slices"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/method/guided"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

func init() { run.Register(Method{}) }

// Method is the search.
type Method struct{}

// Name is "ctnas".
func (Method) Name() string { return search.MethodName }

// About is for help.
func (Method) About() string {
	return "rounds of labels that a comparator and a controller propose: this program's search"
}

// Lagging marks it.
func (Method) Lagging() {}

// Run goes through the rounds.
func (Method) Run(ctx context.Context, r *run.Run) error {
	g, err := guided.New(r)
	if err != nil {
		return err
	}
	defer g.Close()
	s := &rounds{g}
	if err := s.restore(ctx); err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	return s.Conclude()
}

// rounds is a search in work.
type rounds struct{ *guided.Search }

// restore takes over the state of a checkpoint.
func (s *rounds) restore(ctx context.Context) error {
	var state guided.State
	if found, err := s.Restore(&state); err != nil || !found {
		return err
	}
	if err := s.SetState(&state); err != nil {
		return err
	}
	return s.Rescore(ctx, &state)
}

// checkpoint saves the state.
func (s *rounds) checkpoint() error {
	state, err := s.State()
	if err != nil {
		return err
	}
	return s.Save(state)
}

// stop writes a checkpoint and passes on why.
func (s *rounds) stop(why error) error {
	if err := s.checkpoint(); err != nil {
		return err
	}
	return why
}

// run goes through the rounds: random labels, then train, let the controller learn, and label what is proposed, until
// the budget is spent and a comparator has learned from all of it. With a budget more it goes on from there.
func (s *rounds) run(ctx context.Context) error {
	if s.Round == 0 {
		if err := s.Begin(ctx); err != nil {
			return err
		}
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	for {
		if !s.Trained {
			if err := s.train(ctx); err != nil {
				return err
			}
		}
		if s.Ledger.Left() == 0 && s.Round > 1 && !s.More() { // the last comparator only ranks what was found
			return nil
		}
		if err := s.learn(ctx); err != nil {
			return err
		}
		if s.Left() == 0 {
			return nil
		}
		asked, got, err := s.label(ctx)
		if err != nil {
			return err
		}
		if asked == 0 && got == 0 { // nothing is left to label
			return nil
		}
		s.Round++
		s.Trained, s.Iteration = false, 0
		if err := s.checkpoint(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// train trains this round's comparator and chooses the baseline by it.
func (s *rounds) train(ctx context.Context) error {
	if err := s.Learn(ctx); err != nil {
		return err
	}
	if err := s.firstBaseline(); err != nil {
		return err
	}
	return s.checkpoint()
}

// firstBaseline draws the first baseline from the controller; later comparators choose the best of the past ones again.
func (s *rounds) firstBaseline() error {
	if s.Iterations == 0 || s.Propose == search.ProposeSpace {
		return nil
	}
	switch {
	case s.Beta == nil:
		b, err := s.Policy.Propose(1)
		if err != nil {
			return err
		}
		s.Beta, s.Past = b.Archs[0], b.Archs[:1]
		if s.Guided() && !s.Allowed(s.Beta) { // what is within the limits hardly ever beats it
			if within := s.Random(1, philox.New(s.Seed, philox.PurposePropose, 0)); len(within) > 0 {
				s.Beta = within[0]
			} else if best, ok := s.Ledger.Best(); ok { // everything within the limits has been labelled
				s.Beta = best.Arch
			}
			s.Past = []space.Arch{s.Beta}
		}
	case s.Baseline == search.BaselineCurriculum:
		o, err := s.Scorer.Ask(s.Past)
		if err != nil {
			return err
		}
		best, _ := guided.Strongest(o)
		s.Beta = s.Past[best]
	}
	return nil
}

// learn lets the controller learn from this round's comparator.
func (s *rounds) learn(ctx context.Context) error {
	if s.Propose == search.ProposeSpace {
		return nil
	}
	for s.Iteration < s.Iterations {
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if err := s.Update(); err != nil {
			return err
		}
		s.Iteration++
		if s.Baseline == search.BaselineCurriculum && s.Iteration%s.BaselineEvery == 0 {
			if err := s.newBaseline(); err != nil {
				return err
			}
		}
		if s.Explore && s.Iteration%s.ExploreEvery == 0 {
			if err := s.explore(); err != nil {
				return err
			}
		}
		if s.Iteration%s.CheckpointEvery == 0 && s.Iteration < s.Iterations {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
	}
	s.Spent("controller")
	return nil
}

// newBaseline replaces the baseline by the best of fresh samples and past baselines, the one with the highest mean
// probability of beating the others (paper section 3.3, algorithm 2).
func (s *rounds) newBaseline() error {
	fresh, err := s.Policy.Propose(s.BaselineSamples)
	if err != nil {
		return err
	}
	rivals := slices.Clone(s.Past)
	for _, a := range fresh.Archs {
		if s.Allowed(a) && !slices.Contains(rivals, a) {
			rivals = append(rivals, a)
		}
	}
	scores, err := s.Scorer.Ask(rivals)
	if err != nil {
		return err
	}
	best, win := guided.Strongest(scores)
	if s.Beta = rivals[best]; !slices.Contains(s.Past, s.Beta) {
		s.Past = append(s.Past, s.Beta)
	}
	return s.Event(report.Event{Name: report.EventBaseline, Step: s.Policy.Updates(),
		Values: map[string]float64{"win": win}, Text: map[string]string{"arch": s.Beta.String()}})
}

// explore compares the controller's samples in random pairs and keeps the most confident comparisons.
func (s *rounds) explore() error {
	n := 2 * s.ExplorePairs
	b, err := s.Policy.Propose(n)
	if err != nil {
		return err
	}
	scores, err := s.Scorer.Ask(b.Archs)
	if err != nil {
		return err
	}
	order := philox.New(s.Seed, philox.PurposeExplore, uint32(s.Explored)).Perm(n)
	s.Explored++
	other, p := make([]space.Arch, n), make([]float64, n)
	for i, j := range order {
		other[i], p[i] = b.Archs[j], scores[i].Beats(scores[j])
	}
	s.Pseudo = guided.Age(append(s.Pseudo, guided.Confident(b.Archs, other, p, s.ExplorePairs, s.Round)...), s.Round,
		s.ExploreAge, s.ExplorePool)
	return nil
}

// label pays for this round's candidates, and waits for the labels of all rounds but the Lag last ones; where nothing
// more can be asked for, for those too. It returns how many candidates and labels there were.
func (s *rounds) label(ctx context.Context) (candidates, labels int, err error) {
	_, size := s.Spending(s.Deps.Space)
	list, err := s.Candidates(min(size, s.Ledger.Left()))
	if err != nil {
		return 0, 0, err
	}
	if err := s.Submit(ctx, s.Round, list); err != nil {
		return 0, 0, err
	}
	last := s.Round - s.Lag
	if len(list) == 0 || s.Ledger.Left() == 0 {
		last = s.Round
	}
	for rounds := s.Ledger.Pending(); len(rounds) > 0 && rounds[0] <= last; rounds = rounds[1:] {
		answers, err := s.Collect(ctx)
		if err != nil {
			return 0, 0, err
		}
		labels += len(answers)
	}
	return len(list), labels, nil
}
