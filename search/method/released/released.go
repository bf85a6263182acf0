// Package released is the schedule of the code released with CTNAS (CVPR 2021): random labels at once; its comparator
// trained on pairs of shuffled batches; then thousands of iterations of a controller with one sample each and the bare
// probability as reward, between which the most probable half of sampled pairs joins a pool that only grows
// (search.Preset says how many of each). One label more is for the result: the last baseline.
package released

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method/guided"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
)

func init() { run.Register(Method{}) }

// Method is the schedule. The preset of the same name holds its settings.
type Method struct {
	First int // pairs that the first exploration keeps, of twice as many; later ones keep ExplorePairs. 0: firstPairs
}

// firstPairs is what the released code keeps.
const firstPairs = 256

// Name is "released".
func (Method) Name() string { return search.ReleasedName }

// About is for help.
func (Method) About() string {
	return "the schedule of the code released with CTNAS, with --preset released"
}

// Check refuses settings that the schedule has no place for.
func (Method) Check(c search.Config) error {
	if c.Members != 1 || c.Propose != search.ProposeController {
		return fmt.Errorf("--preset %s has one member and proposes what the controller samples", search.PresetReleased)
	}
	if c.Reward != search.RewardComparison || c.Baseline != search.BaselineCurriculum || !c.Explore {
		return fmt.Errorf("--preset %s is the released schedule: ablations are made with the other presets",
			search.PresetReleased)
	}
	if c.CheckpointEvery%c.ExploreEvery != 0 {
		return fmt.Errorf("--checkpoint-every %d: with --preset %s a multiple of --explore-every %d", c.CheckpointEvery,
			search.PresetReleased, c.ExploreEvery)
	}
	return nil
}

// Run goes through the schedule.
func (m Method) Run(ctx context.Context, r *run.Run) error {
	g, err := guided.New(r)
	if err != nil {
		return err
	}
	s := &schedule{Search: g, first: cmp.Or(m.First, firstPairs)}
	defer s.close()
	if err := s.restore(ctx); err != nil {
		return err
	}
	if s.Round == 0 {
		if err := s.Begin(ctx); err != nil {
			return err
		}
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	for s.More() {
		if err := s.spend(ctx); err != nil {
			return err
		}
	}
	return s.Conclude()
}

// schedule is a search in work.
type schedule struct {
	*guided.Search
	first    int           // pairs that the first exploration keeps
	training *gcn.Released // nil before it begins
	epochs   int
	archs    []space.Arch // labelled for training
	pool     pool
	loop     *controller.Loop // nil: the host goes through every iteration
}

// pool is the pseudo-labelled pairs as the training takes them.
type pool struct {
	graphs []gcn.Graph
	at     map[space.Arch]int
	pairs  []gcn.Pair
}

// add puts a pair into the pool.
func (r *pool) add(p guided.Pseudo) {
	number := func(a space.Arch) int {
		i, ok := r.at[a]
		if !ok {
			i = len(r.graphs)
			r.at[a] = i
			r.graphs = append(r.graphs, gcn.Graph(a.Graph()))
		}
		return i
	}
	r.pairs = append(r.pairs, gcn.Pair{A: number(p.A), B: number(p.B), Target: p.Target})
}

// state is what a checkpoint keeps.
type state struct {
	Search   guided.State
	Released gcn.ReleasedState
	Epochs   int
}

func (s *schedule) close() {
	if s.training != nil {
		s.training.Close()
	}
	s.Close()
}

// open prepares training on the random labels.
func (s *schedule) open() error {
	labels := s.initial()
	values := ledger.Scores(labels)
	s.archs = nil
	for _, l := range labels {
		s.archs = append(s.archs, l.Arch)
	}
	s.pool.at = map[space.Arch]int{}
	seed := philox.New(s.Seed, philox.PurposeTrain, 0).Uint64()
	var err error
	s.training, err = gcn.NewReleased(s.Dev, s.Network, catalogue.Describe(s.Deps.Space, s.Network.Network,
		s.archs, values), seed)
	return err
}

// initial are the labels that the comparator learns from.
func (s *schedule) initial() []ledger.Label {
	labels := s.Ledger.Labels()
	return labels[:len(labels)-s.Validation]
}

// checkpoint saves the state.
func (s *schedule) checkpoint() error {
	common, err := s.State()
	if err != nil {
		return err
	}
	saved := state{Search: *common, Epochs: s.epochs}
	if s.training != nil {
		saved.Released = s.training.State()
	}
	return s.Save(&saved)
}

// restore takes over the state of a checkpoint.
func (s *schedule) restore(ctx context.Context) error {
	var old state
	if found, err := s.Restore(&old); err != nil || !found {
		return err
	}
	if err := s.SetState(&old.Search); err != nil {
		return err
	}
	if s.Round > 1 { // the result has been labelled
		return s.Rescore(ctx, &old.Search)
	}
	if old.Epochs == 0 {
		return nil
	}
	if err := s.open(); err != nil {
		return err
	}
	if err := s.training.Restore(old.Released); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.epochs = old.Epochs
	for _, p := range s.Pseudo {
		s.pool.add(p)
	}
	return s.score()
}

// alone is the device with one thread of the CPU: one graph at a time leaves nothing for a second to do.
func (s *schedule) alone() exec.Config {
	c := s.Device
	c.Threads = 1
	return c
}

// score asks the network as it stands now.
func (s *schedule) score() (err error) {
	if s.Comparator, err = s.training.Comparator(); err != nil {
		return err
	}
	s.Scorer, err = guided.NewScorer(context.Background(), s.Deps.Space, s.alone(), s.Comparator, nil)
	return err
}

// trainedEpochs is how many epochs the comparator trains before the controller begins.
func (s *schedule) trainedEpochs() int {
	batches := (len(s.archs) + gcn.ReleasedBatch - 1) / gcn.ReleasedBatch
	return max(1, s.Steps/batches)
}

// epochCheckpoint is how many epochs lie between two checkpoints.
const epochCheckpoint = 250

// run goes through the released schedule.
func (s *schedule) run(ctx context.Context) error {
	if s.Round > 1 {
		return nil
	}
	if err := s.pretrain(ctx); err != nil {
		return err
	}
	if err := s.learn(ctx); err != nil {
		return err
	}
	return s.label(ctx)
}

// pretrain trains the comparator alone, and draws the first baseline.
func (s *schedule) pretrain(ctx context.Context) error {
	if s.training == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	for epochs := s.trainedEpochs(); s.epochs < epochs; {
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if err := s.epoch(); err != nil {
			return err
		}
		if s.epochs%epochCheckpoint == 0 && s.epochs < epochs {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
		s.Report(run.Progress{Stage: "train", Done: s.epochs, Total: epochs})
	}
	s.Spent("train")
	if s.Beta == nil {
		if err := s.score(); err != nil {
			return err
		}
		b, err := s.Policy.Propose(1)
		if err != nil {
			return err
		}
		s.Beta, s.Past, s.Trained = b.Archs[0], b.Archs[:1], true
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	return nil
}

// learn goes through the controller's iterations.
func (s *schedule) learn(ctx context.Context) error {
	if err := s.openLoop(); err != nil {
		return err
	}
	for s.Iteration < s.Iterations {
		if err := s.iterate(); err != nil {
			return err
		}
		if s.Iteration%s.ExploreEvery != 0 {
			// A checkpoint needs the network's scores to be those of its weights alone: right after an epoch they are.
			continue
		}
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if s.Iteration%s.CheckpointEvery == 0 {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
	}
	s.Spent("controller")
	return nil
}

// label buys the label of the last baseline, which is the result.
func (s *schedule) label(ctx context.Context) error {
	if err := s.score(); err != nil {
		return err
	}
	if s.Ledger.Left() > 0 && s.May(s.Beta) {
		o, err := s.Scorer.Ask([]space.Arch{s.Beta})
		if err != nil {
			return err
		}
		if _, err := s.Ledger.Ask(ctx, 1,
			[]ledger.Request{{Arch: s.Beta, Proposer: guided.ProposerController, Predicted: o[0].Rank()}}); err != nil {
			return err
		}
		if err := s.RoundEvent(1, math.NaN(), 0, 1); err != nil {
			return err
		}
	}
	s.Round = 2
	return s.checkpoint()
}

// spend buys labels of what the comparator ranks best among the controller's samples: of a budget that was given after
// the schedule, which has no place for it.
func (s *schedule) spend(ctx context.Context) error {
	for s.Ledger.Left() > 0 {
		candidates, err := s.Candidates(s.Ledger.Left())
		if err != nil || len(candidates) == 0 { // nothing is left to label
			return err
		}
		if _, err := s.Buy(ctx, s.Round, candidates); err != nil {
			return err
		}
		s.Round++
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	return nil
}

// stop writes a checkpoint and passes on why.
func (s *schedule) stop(why error) error {
	if err := s.checkpoint(); err != nil {
		return err
	}
	return why
}

// epoch trains the comparator for one epoch.
func (s *schedule) epoch() error {
	loss, err := s.training.Epoch(s.pool.graphs, s.pool.pairs)
	if err != nil {
		return err
	}
	s.Updates += (len(s.archs) + gcn.ReleasedBatch - 1) / gcn.ReleasedBatch
	if len(s.pool.pairs) == 0 {
		if s.epochs++; s.epochs%50 != 0 {
			return nil
		}
	}
	return s.Event(report.Event{Name: report.EventComparator, Step: s.Updates, Values: map[string]float64{
		"loss": loss, "labels": float64(len(s.archs)), "pseudo": float64(len(s.pool.pairs)),
	}})
}

// openLoop lets an accelerator go through the iterations between two explorations by itself. A limit on costs needs the
// host.
func (s *schedule) openLoop() (err error) {
	if !s.Dev.Accelerated() || !s.training.Packed() || !s.Limits.None() {
		return nil
	}
	s.loop, err = s.Policy.NewLoop(controller.Opponents{Members: 1, Heads: 2}, min(s.ExploreEvery, s.BaselineEvery),
		func(p *exec.Program, graphs, scores *exec.Buffer) {
			s.training.RecordScores(p, s.Batch, graphs, scores)
		})
	return err
}

// runLoop does the iterations until the next exploration or baseline.
func (s *schedule) runLoop() error {
	n := s.Iterations - s.Iteration
	for _, every := range []int{s.ExploreEvery, s.BaselineEvery} {
		n = min(n, every-s.Iteration%every)
	}
	o, err := s.Scorer.Ask([]space.Arch{s.Beta})
	if err != nil {
		return err
	}
	if err := s.loop.SetOpponent(o[0].Raw()); err != nil {
		return err
	}
	done, err := s.loop.Run(n)
	if err != nil {
		return err
	}
	for _, it := range done {
		archs := make([]space.Arch, len(it.Actions))
		for i, actions := range it.Actions {
			if archs[i], err = s.Deps.Space.Decode(actions); err != nil {
				return err
			}
		}
		s.Keep(archs)
		if s.Iteration++; s.Iteration%guided.CurveEvery != 0 {
			continue
		}
		if err := s.CurveEvent(s.Iteration, archs, it.Actions, it.Loss, it.Stats); err != nil {
			return err
		}
	}
	return nil
}

// iterate is one sample of the controller, or several in a loop, and what the schedule adds to them.
func (s *schedule) iterate() error {
	if s.loop != nil {
		if err := s.runLoop(); err != nil {
			return err
		}
	} else {
		if err := s.Update(); err != nil {
			return err
		}
		s.Iteration++
	}
	if s.Iteration%s.ExploreEvery == 0 {
		if err := s.explore(); err != nil {
			return err
		}
	}
	if s.Iteration%s.BaselineEvery != 0 {
		return nil
	}
	fresh, err := s.Policy.Propose(s.BaselineSamples)
	if err != nil {
		return err
	}
	rivals := append(slices.Clip(fresh.Archs), s.Beta)
	scores, err := s.Scorer.Ask(rivals)
	if err != nil {
		return err
	}
	best, win := guided.Strongest(scores)
	s.Beta = rivals[best]
	s.Past = append(s.Past, s.Beta)
	err = s.Event(report.Event{Name: report.EventBaseline, Step: s.Policy.Updates(),
		Values: map[string]float64{"win": win}, Text: map[string]string{"arch": s.Beta.String()}})
	if err != nil {
		return err
	}
	return s.score() // forgets the scores: a resumed run has none either
}

// explore is the released code's one-sided exploration, an epoch with its pool, and tau on the validation cells.
func (s *schedule) explore() error {
	keep := s.ExplorePairs
	if s.Explored == 0 {
		keep = max(keep, s.first)
	}
	n := 2 * keep
	b, err := s.Policy.Propose(n)
	if err != nil {
		return err
	}
	scores, err := s.Scorer.Score(b.Archs)
	if err != nil {
		return err
	}
	order := philox.New(s.Seed, philox.PurposeExplore, uint32(s.Explored)).Perm(n)
	s.Explored++
	p := make([]float64, n)
	for i, j := range order {
		p[i] = scores.Prob(i, j)
	}
	for _, i := range guided.Highest(keep, p, func(int) bool { return true }) {
		pair := guided.Pseudo{A: b.Archs[i], B: b.Archs[order[i]], Round: s.Round}
		if p[i] > 0.5 {
			pair.Target = 1
		}
		s.Pseudo = append(s.Pseudo, pair)
		s.pool.add(pair)
	}
	if err := s.epoch(); err != nil {
		return err
	}
	if err := s.score(); err != nil {
		return err
	}
	return s.validate()
}

// validate logs tau on the labels that are kept for that.
func (s *schedule) validate() error {
	if s.Validation == 0 {
		return nil
	}
	labels := s.Ledger.Labels()
	labels = labels[len(labels)-s.Validation:]
	archs, values := make([]space.Arch, len(labels)), make([]float64, len(labels))
	for i, l := range labels {
		archs[i], values[i] = l.Arch, l.Score
	}
	scores, err := s.Scorer.Score(archs)
	if err != nil {
		return err
	}
	return s.Event(report.Event{Name: "validation", Step: s.Updates,
		Values: map[string]float64{"tau": stat.KendallB(scores.Rank, values)}})
}
