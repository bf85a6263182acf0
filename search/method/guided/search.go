package guided

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"sync"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

// Who proposed a label, as the ledger says.
const (
	ProposerRandom     = "random"
	ProposerPromising  = "promising"
	ProposerValidation = "validation"
	ProposerController = "controller"
	ProposerMutation   = "mutation"
	ProposerSpace      = "space"
	ProposerThompson   = "explore"
)

// Position is how far a search is.
type Position struct {
	Trained   bool // the comparator of the round in work has been trained
	Iteration int  // updates of the controller in this round
	Explored  int  // explorations so far
	Updates   int  // the comparator's updates so far, for the log
}

// Search is a search in work.
type Search struct {
	*run.Run
	Position
	List       *catalogue.Catalogue // what may be ranked whole; nil: nothing
	Policy     *controller.Controller
	Comparator *gcn.Comparator // of this round, or of the last one while Trained is false
	Scorer     *Scorer         // asks it
	Beta       space.Arch      // the paper's baseline: the controller is rewarded for beating it
	Past       []space.Arch    // all that were
	Pseudo     []Pseudo

	First, Last []space.Arch // the controller's first samples, and its last ones, oldest first
	Curve       []run.Point
}

// New opens the controller of a run. Close it.
func New(r *run.Run) (*Search, error) {
	s := &Search{Run: r, List: r.Listed()}
	if s.Propose == search.ProposeSpace && s.List == nil {
		return nil, fmt.Errorf("--propose %s: %s cannot be listed here", search.ProposeSpace, s.Deps.Space.Name())
	}
	var err error
	if s.Policy, err = controller.New(s.Dev, s.Deps.Space, s.Config.Policy()); err != nil {
		return nil, err
	}
	return s, nil
}

// Close frees the controller.
func (s *Search) Close() { s.Policy.Close() }

// Guided tells whether the controller is led to architectures within the limits: in a space that can only be searched,
// few of what it draws at first may be.
func (s *Search) Guided() bool {
	return s.List == nil && space.IsPositional(s.Deps.Space) && !s.Limits.None()
}

// consolation is the reward of an architecture above the limits: the further above the less, and less than that of any
// within that is not hopeless.
func (s *Search) consolation(a space.Arch) float64 {
	if !s.Guided() {
		return 0
	}
	return 0.02 * math.Pow(s.Limits.Excess(a), -8)
}

// SampleTries is how many random architectures are drawn for one that may be labelled before none is taken to exist.
const SampleTries = 200000

// Random draws n distinct architectures that may be labelled, fewer where there are no more.
func (s *Search) Random(n int, stream *philox.Stream) []space.Arch {
	return s.Draw(n, stream, s.Sample, SampleTries)
}

// initial is how many labels are bought first: fewer than the settings say where the budget leaves nothing for what is
// found.
func initial(c search.Config, sp space.Space) int {
	first, round := c.Spending(sp)
	switch rest := c.Budget - c.Validation; {
	case first+round <= rest:
		return first
	case c.Preset == search.PresetDefault:
		return max(search.MinimumInitial, rest/2)
	default:
		return max(search.MinimumInitial, rest-round)
	}
}

// first draws architectures for the first labels. Every other one is the most promising of several random ones that may
// be labelled, so that these, too, are apart from each other. The rest are random ones: of the promising alone a
// comparator would not learn what is bad, and the controller would go there.
type first struct {
	*Search
	several   int                 // 1: all are random ones
	promising bool                // the next one is
	chosen    map[space.Arch]bool // as promising ones
}

func (s *Search) first() *first {
	f := &first{Search: s, several: 1, chosen: map[space.Arch]bool{}}
	if _, ok := s.Deps.Space.(space.Initialised); ok {
		f.several = max(1, s.Preselect)
	}
	if list := s.Run.List(); list != nil { // what is best of nearly all would always be the same
		f.several = min(f.several, max(1, list.Len()/100))
	}
	return f
}

// sample draws one. What may not be labelled is drawn again.
func (f *first) sample(stream *philox.Stream) space.Arch {
	if f.several == 1 {
		return f.Sample(stream)
	}
	several := 1
	if f.promising {
		several = f.several
	}
	a := mostPromising(f.Deps.Space, several, func() space.Arch { return f.Sample(stream) }, f.May)
	if f.May(a) {
		f.chosen[a] = f.chosen[a] || f.promising
		f.promising = !f.promising
	}
	return a
}

// requests say of architectures who drew them.
func (f *first) requests(archs []space.Arch) []ledger.Request {
	var list []ledger.Request
	for _, a := range archs {
		r := ledger.Request{Arch: a, Proposer: ProposerRandom, Predicted: math.NaN()}
		if f.chosen[a] {
			r.Proposer = ProposerPromising
		}
		list = append(list, r)
	}
	return list
}

// mostPromising is the most promising of n architectures that may be labelled; the first of them where none may.
func mostPromising(sp space.Space, n int, draw func() space.Arch, may func(space.Arch) bool) (best space.Arch) {
	most := math.Inf(-1)
	for range n {
		a := draw()
		if best == nil {
			best = a
		}
		if p := space.Promise(sp, a); p > most && may(a) {
			best, most = a, p
		}
	}
	return best
}

// Begin buys the first labels, in round 0. The last Validation of them are not to be learned from.
func (s *Search) Begin(ctx context.Context) error {
	first := s.first()
	archs := s.Draw(initial(s.Config, s.Deps.Space)+s.Validation, philox.New(s.Seed, philox.PurposeSample, 0),
		first.sample, max(1, SampleTries/first.several))
	if len(archs) < search.MinimumInitial+s.Validation {
		if len(archs) == 0 && s.Unsampled() != nil {
			return s.Unsampled()
		}
		if s.Limits.None() {
			return fmt.Errorf("only %d architectures of %s can be labelled; a search needs %d", len(archs),
				s.Deps.Space.Name(), search.MinimumInitial+s.Validation)
		}
		return fmt.Errorf("only %d architectures of %s can be labelled%s: loosen %s", len(archs), s.Deps.Space.Name(),
			s.Limits.Counted(), s.Loosen())
	}
	train := archs[:len(archs)-s.Validation]
	if _, err := s.Ledger.Ask(ctx, 0, first.requests(train)); err != nil {
		return err
	}
	if _, err := s.Ledger.Query(ctx, archs[len(train):], ProposerValidation, 0); err != nil {
		return err
	}
	s.Spent("label")
	if err := s.RoundEvent(0, math.NaN(), 0, len(archs)); err != nil {
		return err
	}
	s.Report(run.Progress{Stage: "label"})
	s.Round = 1
	return nil
}

// CurveEvery is how many updates of the controller lie between two lines of the log, and curveSamples how many of a
// batch are kept for it.
const (
	CurveEvery   = 10
	curveSamples = 16
	// endSamples is how many of the controller's first and last samples are kept, to be judged after the end.
	endSamples = 500
)

// Update is one batch of REINFORCE.
func (s *Search) Update() error {
	batch, err := s.Policy.Sample()
	if err != nil {
		return err
	}
	scores, err := s.Scorer.Ask(append(slices.Clip(batch.Archs), s.Beta))
	if err != nil {
		return err
	}
	rewards := make([]float64, len(batch.Archs))
	beta := scores[len(batch.Archs)]
	for i, a := range batch.Archs {
		switch {
		case !s.Allowed(a): // the worst there is
			rewards[i] = s.consolation(a)
		case s.Reward == search.RewardAbsolute:
			rewards[i] = 1 / (1 + math.Exp(-scores[i].Rank()))
		default:
			rewards[i] = scores[i].Beats(beta)
		}
	}
	stats, err := s.Policy.Update(rewards)
	if err != nil {
		return err
	}
	s.Keep(batch.Archs)
	if s.Policy.Updates()%CurveEvery != 0 {
		return nil
	}
	loss := 0.0
	for i := range batch.Actions {
		loss -= (rewards[i] - stats.Baseline) * float64(batch.LogP[i]) / float64(len(rewards))
	}
	return s.CurveEvent(s.Policy.Updates(), batch.Archs, batch.Actions, loss, stats)
}

// Keep remembers the controller's first and last samples.
func (s *Search) Keep(archs []space.Arch) {
	if n := endSamples - len(s.First); n > 0 {
		s.First = append(s.First, archs[:min(n, len(archs))]...)
	}
	s.Last = append(s.Last, archs...)
	if extra := len(s.Last) - endSamples; extra > 0 {
		s.Last = slices.Delete(s.Last, 0, extra)
	}
}

// CurveEvent logs an update and keeps a few samples, whose true percentile joins the log after the end.
func (s *Search) CurveEvent(step int, archs []space.Arch, actions [][]int, loss float64, stats controller.Stats) error {
	decisions := 0
	for _, sequence := range actions {
		decisions += len(sequence)
	}
	entropy := stats.Entropy * float64(len(actions)) / float64(decisions)
	p := run.Point{Step: step}
	for _, a := range archs[:min(curveSamples, len(archs))] {
		p.Samples = append(p.Samples, a.String())
	}
	s.Curve = append(s.Curve, p)
	s.Report(run.Progress{Stage: "controller", Done: s.Iteration + 1, Total: s.Iterations, Reward: stats.MeanReward,
		Entropy: entropy})
	return s.Event(report.Event{Name: report.EventController, Step: step, Values: map[string]float64{
		"reward": stats.MeanReward, "entropy": entropy, "loss": loss, "grad_norm": stats.GradNorm,
	}})
}

// Conclude says what is known at the end: the predicted ranks of what was labelled and of the best that was not, among
// the listed space, or among the controller's candidates and the labelled ones.
func (s *Search) Conclude() error {
	s.Found = run.Found{Predictor: s.Comparator, First: s.First, Last: s.Last, Curve: s.Curve}
	n, at, rank, index, err := s.ranked()
	if err != nil {
		return err
	}
	descending := make([]float64, n)
	for i, v := range rank {
		descending[i] = -v
	}
	slices.Sort(descending)
	s.Found.Among = n
	s.Found.Rank = func(a space.Arch) *int {
		i, ok := index(a)
		if !ok {
			return nil
		}
		k, _ := slices.BinarySearch(descending, -rank[i])
		k++
		return &k
	}
	labelled := func(a space.Arch) bool { _, ok := s.Ledger.Get(a); return ok }
	for _, i := range Highest(UnlabelledShown, rank, func(i int) bool { return !labelled(at(i)) && s.Allowed(at(i)) }) {
		s.Found.Unlabelled = append(s.Found.Unlabelled, at(i))
	}
	for _, i := range Highest(1, rank, func(i int) bool { return s.Allowed(at(i)) }) {
		s.Found.Best = at(i)
	}
	if !s.seesLittle() {
		return nil
	}
	s.Found.Suggestions, err = s.Suggest(UnlabelledShown, func(a space.Arch) bool {
		_, labelled := s.Ledger.Get(a)
		return s.Allowed(a) && !labelled && !s.Source.Has(a)
	}, false, s.Apart(0.5))
	return err
}

// seesLittle tells whether labels are of a list that has less than half of the space: the best of the list is then
// hardly the best there is, and what is found is worth a measurement elsewhere.
func (s *Search) seesLittle() bool {
	l, ok := s.Source.(ledger.Lister)
	if !ok {
		return false
	}
	all, _ := space.Count(s.Deps.Space)
	return all.Cmp(big.NewInt(2*int64(l.Len()))) > 0
}

// Apart is in how many decisions candidates differ while so much of the budget is left.
func (s *Search) Apart(left float64) int {
	return int(math.Round(s.Spread * left * float64(s.Deps.Space.Grammar().MaxSteps())))
}

// Learn trains this round's comparator on all labels and the pseudo-labelled pairs, and scores the list by it.
func (s *Search) Learn(ctx context.Context) error {
	labels := s.Ledger.Labels()
	archs, values := make([]space.Arch, len(labels)), ledger.Scores(labels)
	for i, l := range labels {
		archs[i] = l.Arch
	}
	s.Pseudo = Age(s.Pseudo, s.Round, s.ExploreAge, s.ExplorePool)
	s.Scorer = nil // the last comparator's scores go before the next ones come
	data := Join(catalogue.Describe(s.Deps.Space, s.Network.Network, archs, values), s.Deps.Space, s.Network.Network,
		archs, s.Pseudo, s.ExploreWeight)
	var mu sync.Mutex
	losses := make([][]float64, s.Network.Members) // a member's losses by block, in order
	steps := []int{}
	seed := philox.New(s.Seed, philox.PurposeTrain, uint32(s.Round)).Uint64()
	cmp, err := gcn.Train(ctx, s.Device, s.Network, data, seed, func(member, step int, loss float64) {
		mu.Lock()
		defer mu.Unlock()
		if losses[member] = append(losses[member], loss); len(losses[member]) > len(steps) {
			steps = append(steps, step)
		}
		s.Report(run.Progress{Stage: "train", Done: step, Total: s.Network.Steps})
	})
	if err != nil {
		return err
	}
	for k, step := range steps {
		mean := 0.0
		for _, l := range losses {
			mean += l[k] / float64(len(losses))
		}
		err := s.Event(report.Event{Name: report.EventComparator, Step: s.Updates + step, Values: map[string]float64{
			"loss": mean, "labels": float64(len(labels)), "pseudo": float64(len(s.Pseudo)),
		}})
		if err != nil {
			return err
		}
	}
	s.Updates += s.Network.Steps
	s.Spent("train")
	s.Comparator, s.Trained = cmp, true
	s.Scorer, err = NewScorer(ctx, s.Deps.Space, s.Device, cmp, s.List)
	s.Spent("rank")
	return err
}

// UnlabelledShown is how many of the architectures that the comparator ranks best stand in the result without a label.
const UnlabelledShown = 10

// ranked are the n architectures that the comparator ranks at the end, with their scores.
func (s *Search) ranked() (n int, at func(i int) space.Arch, rank []float64,
	index func(space.Arch) (int, bool), err error) {
	if s.List != nil {
		return s.List.Len(), s.List.Arch, s.Scorer.whole.Rank, s.List.Index, nil
	}
	archs, _, err := s.pool(func(a space.Arch) bool { // a table need not have a label of what is predicted
		_, labelled := s.Ledger.Get(a)
		return s.Allowed(a) && !labelled
	}, true)
	if err != nil {
		return 0, nil, nil, nil, err
	}
	for _, l := range s.Ledger.Labels() {
		archs = append(archs, l.Arch)
	}
	scores, err := s.Scorer.Score(archs)
	if err != nil {
		return 0, nil, nil, nil, err
	}
	list := catalogue.NewList(archs)
	return list.Len(), list.Arch, scores.Rank, list.Index, nil
}
