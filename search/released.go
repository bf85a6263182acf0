package search

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// releasedFirst is how many pairs the released code's first exploration keeps, of twice as many; later ones keep
// ExplorePairs. It varies in tests alone, whose simulated accelerators take seconds for so many.
var releasedFirst = 256

// releasedSchedule is the schedule of the code released with the paper: 423 random labels; 1,000 epochs of its comparator on pairs of
// shuffled batches; then 10,000 iterations of the controller with one sample each and the bare probability as reward. Every 100
// iterations the most probable half of 200 pairs (the first time of 512) join a pool that only grows, and the comparator trains for an
// epoch with as many of them as of labelled pairs. Every 500 the baseline becomes the best of 10 samples and the best so far. One label
// more is for the result: the last baseline.
func (c *Config) releasedSchedule() {
	c.Budget, c.Propose, c.Init, c.PerRound, c.Thompson, c.ControllerShare, c.Pool, c.Mutations = 424, ProposeController, 423, 1, 0, 0, 1000, 0
	c.Members, c.Steps = 1, 2000
	c.Iterations, c.Batch, c.ControllerLR, c.BaselineEvery = 10000, 1, controller.Released().LR, 500
	c.ExploreEvery, c.ExplorePairs, c.ExplorePool, c.ExploreAge, c.ExploreWeight = 100, 100, 1<<20, 1<<20, 1
	c.CheckpointEvery = 500
}

func (c Config) checkReleased() error {
	if c.Members != 1 || c.Propose != ProposeController {
		return fmt.Errorf("--preset %s has one member and proposes what the controller samples", PresetReleased)
	}
	if c.Reward != RewardComparison || c.Baseline != BaselineCurriculum || !c.Explore {
		return fmt.Errorf("--preset %s is the released schedule: ablations are made with the other presets", PresetReleased)
	}
	if c.CheckpointEvery%c.ExploreEvery != 0 {
		return fmt.Errorf("--checkpoint-every %d: with --preset %s a multiple of --explore-every %d", c.CheckpointEvery, PresetReleased, c.ExploreEvery)
	}
	return nil
}

// releasedRun is the comparator's training in work.
type releasedRun struct {
	training *gcn.Released
	epochs   int
	archs    []space.Arch // labelled for training
	graphs   []gcn.Graph  // of the pool's pairs
	at       map[space.Arch]int
	pairs    []gcn.Pair
}

func (r *releasedRun) close() { r.training.Close() }

func (r *releasedRun) save(s *snapshot) { s.Released, s.Epochs = r.training.State(), r.epochs }

// add puts a pseudo-labelled pair into the pool.
func (r *releasedRun) add(p pseudo) {
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

// openReleased prepares training on the random labels.
func (s *search) openReleased() error {
	labels := s.ledger.Labels()
	labels = labels[:len(labels)-s.Validation]
	r := &releasedRun{at: map[space.Arch]int{}}
	values := make([]float64, len(labels))
	for i, l := range labels {
		r.archs = append(r.archs, l.Arch)
		values[i] = l.Value
	}
	seed := philox.New(s.Seed, philox.PurposeTrain, 0).Uint64()
	var err error
	r.training, err = gcn.NewReleased(s.dev, s.gcn, describe(s.Deps.Space, s.gcn.Network, r.archs, values), seed)
	if err == nil {
		s.released = r
	}
	return err
}

func (s *search) restoreReleased(old *snapshot) error {
	if s.round > 1 { // the result has been labelled
		s.cmp = &gcn.Comparator{}
		if err := s.cmp.UnmarshalBinary(old.Comparator); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		var err error
		s.referee, err = newReferee(context.Background(), s.Deps.Space, s.Device, s.cmp, nil)
		return err
	}
	if old.Epochs == 0 {
		return nil
	}
	if err := s.openReleased(); err != nil {
		return err
	}
	if err := s.released.training.Restore(old.Released); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.released.epochs = old.Epochs
	for _, p := range s.pseudo {
		s.released.add(p)
	}
	return s.releasedReferee()
}

// alone is the device with one thread of the CPU: one graph at a time leaves nothing for a second to do.
func (s *search) alone() exec.Config {
	c := s.Device
	c.Threads = 1
	return c
}

// releasedReferee asks the network as it stands now.
func (s *search) releasedReferee() (err error) {
	if s.cmp, err = s.released.training.Comparator(); err != nil {
		return err
	}
	s.referee, err = newReferee(context.Background(), s.Deps.Space, s.alone(), s.cmp, nil)
	return err
}

// releasedEpochs is how many epochs the comparator trains before the controller begins.
func (s *search) releasedEpochs() int {
	batches := (len(s.released.archs) + gcn.ReleasedBatch - 1) / gcn.ReleasedBatch
	return max(1, s.Steps/batches)
}

// epochCheckpoint is how many epochs lie between two checkpoints.
const epochCheckpoint = 250

// runReleased goes through the released schedule.
func (s *search) runReleased(ctx context.Context) error {
	if s.round > 1 {
		return nil
	}
	if s.released == nil {
		if err := s.openReleased(); err != nil {
			return err
		}
	}
	r := s.released
	for epochs := s.releasedEpochs(); r.epochs < epochs; {
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if err := s.releasedEpoch(); err != nil {
			return err
		}
		if r.epochs%epochCheckpoint == 0 && r.epochs < epochs {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
		s.progress(Progress{Stage: "train", Done: r.epochs, Total: epochs})
	}
	s.spent("train")
	if s.baseline == nil {
		if err := s.releasedReferee(); err != nil {
			return err
		}
		b, err := s.policy.Propose(1)
		if err != nil {
			return err
		}
		s.baseline, s.history, s.trained = b.Archs[0], b.Archs[:1], true
		if err := s.checkpoint(); err != nil {
			return err
		}
	}
	if err := s.openLoop(); err != nil {
		return err
	}
	for s.iteration < s.Iterations {
		if err := s.releasedIteration(); err != nil {
			return err
		}
		if s.iteration%s.ExploreEvery != 0 {
			continue // a checkpoint needs the network's opinions to be those of its weights alone: right after an epoch they are
		}
		if err := ctx.Err(); err != nil {
			return s.stop(err)
		}
		if s.iteration%s.CheckpointEvery == 0 {
			if err := s.checkpoint(); err != nil {
				return err
			}
		}
	}
	s.spent("controller")
	if err := s.releasedReferee(); err != nil {
		return err
	}
	if s.ledger.Left() > 0 && s.may(s.baseline) {
		o, err := s.referee.ask([]space.Arch{s.baseline})
		if err != nil {
			return err
		}
		if _, err := s.ledger.Ask(ctx, 1, []ledger.Request{{Arch: s.baseline, Proposer: proposerController, Predicted: o[0].rank()}}); err != nil {
			return err
		}
		if err := s.roundEvent(1, math.NaN(), 0, 1); err != nil {
			return err
		}
	}
	s.round = 2
	return s.checkpoint()
}

// stop writes a checkpoint and passes on why.
func (s *search) stop(why error) error {
	if err := s.checkpoint(); err != nil {
		return err
	}
	return why
}

// releasedEpoch trains the comparator for one epoch.
func (s *search) releasedEpoch() error {
	r := s.released
	loss, err := r.training.Epoch(r.graphs, r.pairs)
	if err != nil {
		return err
	}
	s.updates += (len(r.archs) + gcn.ReleasedBatch - 1) / gcn.ReleasedBatch
	if len(r.pairs) == 0 {
		if r.epochs++; r.epochs%50 != 0 {
			return nil
		}
	}
	return s.event(report.Event{Name: report.EventComparator, Step: s.updates, Values: map[string]float64{
		"loss": loss, "labels": float64(len(r.archs)), "pseudo": float64(len(r.pairs)),
	}})
}

// openLoop lets an accelerator go through the iterations between two explorations by itself. A limit on costs needs the host.
func (s *search) openLoop() (err error) {
	if !s.dev.Accelerated() || !s.released.training.Packed() || !s.limits.None() {
		return nil
	}
	s.loop, err = s.policy.NewLoop(controller.Opponents{Members: 1, Heads: 2}, min(s.ExploreEvery, s.BaselineEvery),
		func(p *exec.Program, graphs, scores *exec.Buffer) {
			s.released.training.RecordScores(p, s.Batch, graphs, scores)
		})
	return err
}

// runLoop does the iterations until the next exploration or baseline.
func (s *search) runLoop() error {
	n := s.Iterations - s.iteration
	for _, every := range []int{s.ExploreEvery, s.BaselineEvery} {
		n = min(n, every-s.iteration%every)
	}
	o, err := s.referee.ask([]space.Arch{s.baseline})
	if err != nil {
		return err
	}
	if err := s.loop.SetOpponent(o[0].scores.Raw(o[0].i)); err != nil {
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
		s.keep(archs)
		if s.iteration++; s.iteration%curveEvery != 0 {
			continue
		}
		if err := s.curveEvent(s.iteration, archs, it.Actions, it.Loss, it.Stats); err != nil {
			return err
		}
	}
	return nil
}

// releasedIteration is one sample of the controller, or several in a loop, and what the schedule adds to them.
func (s *search) releasedIteration() error {
	if s.loop != nil {
		if err := s.runLoop(); err != nil {
			return err
		}
	} else {
		if err := s.update(); err != nil {
			return err
		}
		s.iteration++
	}
	if s.iteration%s.ExploreEvery == 0 {
		if err := s.releasedExplore(); err != nil {
			return err
		}
	}
	if s.iteration%s.BaselineEvery != 0 {
		return nil
	}
	fresh, err := s.policy.Propose(s.BaselineSamples)
	if err != nil {
		return err
	}
	rivals := append(slices.Clip(fresh.Archs), s.baseline)
	opinions, err := s.referee.ask(rivals)
	if err != nil {
		return err
	}
	best, win := strongest(opinions)
	s.baseline = rivals[best]
	s.history = append(s.history, s.baseline)
	err = s.event(report.Event{Name: report.EventBaseline, Step: s.policy.Updates(), Values: map[string]float64{"win": win},
		Text: map[string]string{"arch": s.baseline.String()}})
	if err != nil {
		return err
	}
	return s.releasedReferee() // forgets the opinions: a resumed run has none either
}

// releasedExplore is the released code's one-sided exploration, an epoch with its pool, and tau on the validation cells.
func (s *search) releasedExplore() error {
	r := s.released
	keep := s.ExplorePairs
	if s.explored == 0 {
		keep = max(keep, releasedFirst)
	}
	n := 2 * keep
	b, err := s.policy.Propose(n)
	if err != nil {
		return err
	}
	scores, err := s.referee.score(b.Archs)
	if err != nil {
		return err
	}
	order := philox.New(s.Seed, philox.PurposeExplore, uint32(s.explored)).Perm(n)
	s.explored++
	p := make([]float64, n)
	for i, j := range order {
		p[i] = scores.Prob(i, j)
	}
	for _, i := range highest(keep, p, func(int) bool { return true }) {
		pair := pseudo{A: b.Archs[i], B: b.Archs[order[i]], Round: s.round}
		if p[i] > 0.5 {
			pair.Target = 1
		}
		s.pseudo = append(s.pseudo, pair)
		r.add(pair)
	}
	if err := s.releasedEpoch(); err != nil {
		return err
	}
	if err := s.releasedReferee(); err != nil {
		return err
	}
	return s.validate()
}

// validate logs tau on the labels that are kept for that.
func (s *search) validate() error {
	if s.Validation == 0 {
		return nil
	}
	labels := s.ledger.Labels()
	labels = labels[len(labels)-s.Validation:]
	archs, values := make([]space.Arch, len(labels)), make([]float64, len(labels))
	for i, l := range labels {
		archs[i], values[i] = l.Arch, l.Value
	}
	scores, err := s.referee.score(archs)
	if err != nil {
		return err
	}
	return s.event(report.Event{Name: "validation", Step: s.updates, Values: map[string]float64{"tau": stat.KendallB(scores.Rank, values)}})
}
