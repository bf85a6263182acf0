package trainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/metrics"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
	"github.com/ctnas/ctnas/trainer/data"
)

// learner is what a course trains: a network, or a supernet by its paths.
type learner interface {
	// ready prepares the update that follows those done.
	ready() error
	// step adds the gradient of a batch, which is on the device: that of part `part`, from 0, of an update.
	step(ctx context.Context, b *data.Batch, part int) error
	// metrics are the loss of the latest step, and the 2-norm of the gradient so far. On an accelerator they wait for
	// the step.
	metrics() (loss, norm float64)
	// inspect names the first node of the latest step whose output is not finite.
	inspect() (where string, err error)
	// rate is the learning rate of the update that follows so many, as the recipe has it.
	rate(update int) float64
	// validate measures on the validation images and adds what it finds to the values of the epoch's event.
	validate(ctx context.Context, epoch int, values map[string]float64) error
}

// course is a training in work, whatever it trains: images, updates, epochs, the log and checkpoints.
type course struct {
	Job
	Deps
	learner learner
	ranks   []*rank
	sums    []*group.Sum // of what they have of their shards
	meeting *meeting     // of ranks whose batch norms are over all shards; otherwise nil
	dev     *exec.Device // the first rank's
	o       *optimizer   // the first rank's
	devices []string     // names of the ranks' devices: cpu, cuda:0
	feed    *feed
	log     *events.Log
	ident   identity
	tally   *data.Tally // images that were left out

	perEpoch int // steps an epoch
	updates  int // in all
	state    progress
	logged   int64 // bytes of the log at the checkpoint that the run goes on from
	begun    time.Time
	images   int
	told     told

	writer *checkpoint.Writer
	saved  saved
	copied [][]float32 // memory of a checkpoint's buffers
}

// told is what whoever watches was told of last.
type told struct {
	at     time.Time
	images int
	waited time.Duration
}

// progress is what of a run's state lies outside the device.
type progress struct {
	Step    int // steps done
	Update  int // updates done, those left out too
	Rate    float64
	Skipped int
	Stopped bool
	InARow  int // updates left out since the last one that was done
	Loss    float64
	Losses  int // steps in Loss, since the epoch's begin

	TrainLoss  []Real
	Validation []Evaluation
	Corrupt    []data.Corrupt // images that were left out

	Elastic elasticProgress // of a supernet
}

func newCourse(j Job, d Deps) course {
	return course{Job: j, Deps: d, state: progress{Rate: 1}, tally: data.NewTally(j.OnCorrupt),
		writer: checkpoint.NewWriter(d.Dir)}
}

// training is a course with what it ends in.
type training[R any] interface {
	// open takes everything that is needed, and goes back to the folder's checkpoint. It returns what stands in the
	// folder of a training that has ended.
	open(ctx context.Context) (*R, error)
	// within is a context that ends where the training is to end.
	within(ctx context.Context) (context.Context, func())
	train(ctx context.Context) error
	finish(ctx context.Context) (*R, error)
	// close ends what the training holds. It returns the error that the training has ended with, nil for none, with
	// what closing adds to it.
	close(err error) error
}

// conduct runs a training from its begin, or its checkpoint, to its end.
func conduct[R any](ctx context.Context, t training[R]) (result *R, err error) {
	defer func() { err = t.close(err) }()
	defer exec.Catch(&err)
	ctx, leave := t.within(ctx)
	defer leave()
	if result, err = t.open(ctx); result != nil || err != nil {
		return result, err
	}
	if err = t.train(ctx); err == nil {
		result, err = t.finish(ctx)
	}
	if ended(ctx, err) { // the one way out of all that waits for images
		return nil, ErrInterrupted
	}
	return result, err
}

// ended tells whether an error says no more than that the context has ended. What else fails at that moment, a disk or
// an image, is not to be hidden.
func ended(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err())
}

func (c *course) checkFaults() error {
	if c.OnNaN != OnNaNStop && c.OnNaN != OnNaNSkip {
		return fmt.Errorf("on-nan %q: want %s or %s", c.OnNaN, OnNaNStop, OnNaNSkip)
	}
	return nil
}

// close ends what a course holds. A device that the training has failed by would only say so again.
func (c *course) close(err error) error {
	said := err != nil && !errors.Is(err, ErrInterrupted)
	errs := []error{err, c.writer.Wait()}
	if c.feed != nil {
		c.feed.close()
	}
	for _, k := range c.ranks {
		k.settle()
	}
	for _, k := range c.ranks {
		if failed := k.close(); !said {
			errs = append(errs, failed)
		}
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	return errors.Join(errs...)
}

// count says how many updates so many epochs have.
func (c *course) count(epochs int) error {
	c.perEpoch = c.Data.Train.Len() / c.Recipe.Batch
	if c.perEpoch == 0 {
		return fmt.Errorf("batch %d: there are %d images to train on", c.Recipe.Batch, c.Data.Train.Len())
	}
	c.updates = epochs * c.perEpoch / c.Recipe.Accumulate
	if c.updates == 0 {
		return fmt.Errorf("accumulate %d: there are %d steps in all", c.Recipe.Accumulate, epochs*c.perEpoch)
	}
	return nil
}

// start is the position of the first batch that is still to come.
func (c *course) start() data.Position {
	return data.Position{Epoch: c.state.Step / c.perEpoch, Batch: c.state.Step % c.perEpoch}
}

// perEpochUpdates is how many updates an epoch has for a schedule.
func (c *course) perEpochUpdates() int { return max(1, c.perEpoch/c.Recipe.Accumulate) }

// maxResultBytes bounds what is read of a result; an epoch has some 200 bytes, and some of them for each path of a
// supernet that is looked at.
const maxResultBytes = 1 << 26

// hasEnded reads the result of a run folder whose training has ended, which the checkpoint says is this one; it is
// false where there is something left to do. With a rule that stops trainings early, another one may be in force now.
func (c *course) hasEnded(result any) (bool, error) {
	if c.Dir == "" || c.Stop != nil || c.state.Update < c.updates || c.epochEnded() {
		return false, nil
	}
	path := filepath.Join(c.Dir, ResultName)
	text, err := files.Read(path, maxResultBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, result); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// rest reads the result of a training that has ended in its folder; otherwise it opens the log for what is left.
func (c *course) rest(result any) (ended bool, err error) {
	if ended, err = c.hasEnded(result); err != nil {
		return ended, err
	}
	if ended, err = c.ending(ended, result); ended || err != nil || c.Dir == "" {
		return ended, err
	}
	c.log, err = events.Open(c.Dir, c.logged)
	return false, err
}

// train runs the updates that are left.
func (c *course) train(ctx context.Context) error {
	c.begun = time.Now()
	c.told.at, c.saved.at = c.begun, c.begun
	s := &c.state
	stop := func(why error) error {
		if data.IsCorrupt(why) { // the state is that before such an image: the run may go on without it
			return errors.Join(why, c.lastCheckpoint())
		}
		if !ended(ctx, why) {
			return why
		}
		if err := c.lastCheckpoint(); err != nil {
			return fmt.Errorf("the training was interrupted and has no checkpoint of its update %d: %w", s.Update, err)
		}
		return why
	}
	for {
		for c.epochEnded() {
			if err := c.endEpoch(ctx); err != nil {
				return stop(err)
			}
		}
		if s.Stopped || s.Update == c.updates {
			return c.lastCheckpoint()
		}
		if err := ctx.Err(); err != nil && c.Nodes == nil { // images that are there already are no reason to go on
			return stop(err)
		}
		if err := c.update(ctx); err != nil {
			return stop(err)
		}
		if err := c.writer.Failed(); err != nil {
			return err
		}
		epochEnds := s.Update%c.perEpochUpdates() == 0
		due, err := c.dueOnAll(epochEnds)
		if err == nil && due {
			err = c.checkpoint()
		} else if err == nil && epochEnds {
			err = c.agree()
		}
		if err != nil {
			return err
		}
	}
}

// epochEnded tells whether an epoch, or the last part of one, has not been evaluated yet.
func (c *course) epochEnded() bool {
	s := &c.state
	return s.Step/c.perEpoch > len(s.TrainLoss) || s.Update == c.updates && s.Losses > 0
}

// update runs Accumulate steps and, unless something is not finite, changes the parameters. When the context ends in
// between, nothing has happened.
func (c *course) update(ctx context.Context) error {
	s := &c.state
	if err := c.learner.ready(); err != nil {
		return err
	}
	if err := c.keepStatistics(); err != nil {
		return err
	}
	counted := s.Elastic.counts()
	loss, norm := 0.0, 0.0
	for part := range c.Recipe.Accumulate {
		b, err := c.takeBatch(ctx, c.feed, c.Data.Train, part == 0)
		if err == nil {
			c.images += b.N
			err = c.learner.step(ctx, b, part)
		}
		if err != nil {
			s.Elastic.Cost, s.Elastic.Chosen = counted.Cost, counted.Chosen
			if failed := c.restoreStatistics(); failed != nil { // nothing may go on from what is left
				return failed
			}
			return err
		}
		c.feed.ahead(ctx)
		var mine float64
		mine, norm = c.learner.metrics()
		loss += mine / float64(c.Recipe.Accumulate)
	}
	s.Step += c.Recipe.Accumulate
	if finite(loss) && finite(norm) {
		if err := c.optimize(s.Rate * c.learner.rate(s.Update)); err != nil {
			return err
		}
		s.Loss, s.Losses, s.InARow = s.Loss+loss, s.Losses+1, 0
	} else if err := c.diverged(loss, norm); err != nil {
		return err
	}
	s.Update++
	c.report(loss, norm)
	return nil
}

// mostSkipped is how many updates in a row may be left out.
const mostSkipped = 10

// Diverged is the error of a training that ended because its loss or gradient was not finite. It would do so again.
type Diverged struct {
	Update     int
	Loss, Norm float64
	Where      string       // the first node whose output is not finite
	Validation []Evaluation // after the epochs before
}

// Error names the update and the node.
func (d *Diverged) Error() string {
	return fmt.Sprintf("update %d: the loss is %g and the gradient's norm %g; first not finite: %s", d.Update,
		d.Loss, d.Norm, d.Where)
}

// diverged deals with a loss or gradient that is not finite.
func (c *course) diverged(loss, norm float64) error {
	s := &c.state
	where, err := c.learner.inspect()
	if err != nil {
		return err
	}
	if where == "" {
		where = "none alone: an overflow in the sum"
	}
	if err := c.event(events.Event{Name: "diverged", Step: s.Update,
		Text: map[string]string{"where": where}}); err != nil {
		return err
	}
	s.Skipped++
	s.InARow++
	if c.OnNaN == OnNaNStop || s.InARow > mostSkipped {
		return &Diverged{s.Update, loss, norm, where, s.Validation}
	}
	s.Rate /= 2
	return c.restoreStatistics()
}

// waited is the time that passed waiting for images.
func (c *course) waited() time.Duration {
	if c.feed == nil { // nothing is left to train
		return 0
	}
	return c.feed.waited
}

// reportEvery is how many updates lie between lines of the log about the loss.
const reportEvery = 20

func (c *course) report(loss, norm float64) {
	s := &c.state
	now := told{time.Now(), c.images, c.waited()}
	_, nodes := c.node()
	metrics.Trained(c.devices, (now.images-c.told.images)/nodes, now.at.Sub(c.told.at), now.waited-c.told.waited)
	c.told = now
	if c.Progress != nil {
		seconds := now.at.Sub(c.begun).Seconds()
		c.Progress(Progress{s.Update, c.updates, (s.Step - 1) / c.perEpoch, loss, float64(now.images) / seconds,
			now.waited.Seconds() / seconds})
	}
	if s.Update%reportEvery == 0 {
		// The log is not the result.
		_ = c.event(events.Event{Name: "train", Step: s.Update, Values: map[string]float64{"loss": loss,
			"grad_norm": norm, "lr": s.Rate * c.learner.rate(s.Update-1)}})
	}
}

func (c *course) event(e events.Event) error {
	if c.log == nil {
		return nil
	}
	return c.log.Write(e)
}

// endEpoch evaluates on the validation images.
func (c *course) endEpoch(ctx context.Context) error {
	s := &c.state
	epoch := len(s.TrainLoss) + 1
	values := map[string]float64{}
	seconds := time.Since(c.begun).Seconds()
	values["images_per_second"], values["loader_share"] = float64(c.images)/seconds,
		c.waited().Seconds()/seconds
	if c.Data.Validation.Len() > 0 {
		err := c.together(ctx, func() error { return c.learner.validate(ctx, epoch, values) })
		if err != nil {
			return err
		}
	}
	mean := math.NaN() // where every update was left out
	if s.Losses > 0 {
		mean = s.Loss / float64(s.Losses)
		values["loss"] = mean
	}
	s.TrainLoss = append(s.TrainLoss, Real(mean))
	s.Loss, s.Losses = 0, 0
	return c.event(events.Event{Name: "epoch", Step: epoch, Values: values})
}

func (c *course) stops(e Evaluation) bool { return c.Stop != nil && c.Stop(e) }

func (c *course) loading() Loading {
	me, nodes := c.node()
	return Loading{Workers: c.Workers, Tally: c.tally, node: me, nodes: nodes}
}

// write writes result.json, and an event about the images that were left out.
func (c *course) write(result any, corrupt *data.CorruptImages) error {
	if corrupt != nil {
		err := c.event(events.Event{Name: "corrupt_images", Step: c.state.Update,
			Values: map[string]float64{"count": float64(corrupt.Count)},
			Text:   map[string]string{"first": corrupt.String()}})
		if err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return files.Write(filepath.Join(c.Dir, ResultName), append(text, '\n'))
}
