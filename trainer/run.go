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

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// ErrInterrupted is returned when the context ended a training: in a run folder a checkpoint stands and Train goes on
// from it.
var ErrInterrupted = fmt.Errorf("the training was interrupted: %w", context.Canceled)

// What happens when a loss or a gradient is not finite.
const (
	OnNaNStop = "stop"
	OnNaNSkip = "skip" // the update is left out, and the learning rate halved for the rest of the run
)

// Job is a training: its result depends on this and on the device's level alone.
type Job struct {
	Arch   string // a name for the network, in words
	Net    *nn.Network
	Data   *data.Dataset
	Source string // what Data was opened from, without paths that may change
	Recipe Recipe
	Seed   uint64
	OnNaN  string // OnNaNStop or OnNaNSkip
	// OnCorrupt says what becomes of images that cannot be read. It may change when a run goes on: as long as none was
	// met nothing depends on it, and those that were left out are part of the checkpoint.
	OnCorrupt data.OnCorrupt
	// Teacher is what Recipe.Distill learns from; nil without.
	Teacher *Teacher
}

// Deps are what a training works with.
type Deps struct {
	Device  exec.Config
	Workers int // that load images; 0: as many as processors
	// Dir is the run's folder: checkpoint, log, weights and result. A checkpoint in it is resumed. Empty: nothing is
	// written.
	Dir string
	// CheckpointEvery is how many updates lie between checkpoints; 0: an epoch.
	CheckpointEvery int
	Version         string // of the program: a checkpoint of another one is refused
	Progress        func(Progress)
	// Stop is asked after each epoch's evaluation whether the training ends there. Where it has ended so and is
	// resumed, it is asked again.
	Stop func(Evaluation) bool
}

// Progress says how far a training is.
type Progress struct {
	Update, Updates int
	Epoch           int     // from 0
	Loss            float64 // of the latest step
	ImagesPerSecond float64 // since the run began or went on
	LoaderShare     float64 // of the time that passed waiting for images
}

// Evaluation is how good a network is on a set.
type Evaluation struct {
	Epoch  int     `json:"epoch"` // epochs of training done
	Images int     `json:"images"`
	Loss   Real    `json:"loss"` // mean cross-entropy; null where it is not finite
	Top1   float64 `json:"top1"` // 0..1
	Top5   float64 `json:"top5"`
}

// Result is result.json: it holds nothing that differs between two identical runs.
type Result struct {
	Arch     string   `json:"arch"`
	Data     string   `json:"data"`
	Checksum string   `json:"data_checksum"`
	Classes  []string `json:"classes"` // in the order of the logits
	Recipe   Recipe   `json:"recipe"`
	Seed     uint64   `json:"seed"`
	Device   string   `json:"device"`
	MAdds    int64    `json:"madds"`
	Params   int64    `json:"params"`
	Updates  int      `json:"updates"`
	Teacher  string   `json:"teacher,omitempty"` // checksum of its weights
	Skipped  int      `json:"updates_skipped"`   // their loss or gradient was not finite
	// TrainLoss is the mean of each epoch; null where all of its updates were left out.
	TrainLoss  []Real       `json:"train_loss"`
	Validation []Evaluation `json:"validation"` // after each epoch; empty without a validation set
	// Test is measured at the end, on images that nothing was chosen by; null without any.
	Test *Evaluation `json:"test"`
	// Corrupt are the images that could not be read and were left out; absent without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
	// Finished tells a result that was read from a folder whose training had ended before.
	Finished bool `json:"-"`
}

// Names of a run folder's files.
const (
	ResultName  = "result.json"
	WeightsName = "weights.safetensors"
)

// run is a training in work.
type run struct {
	Job
	Deps
	dev          *exec.Device
	m            *Model
	distillation *distillation // nil: there is no teacher
	o            *optimizer
	feed         *feed
	log          *events.Log
	ident        identity
	tally        *data.Tally // images that were left out

	perEpoch int // steps an epoch
	updates  int // in all
	state    progress
	logged   int64   // bytes of the log at the checkpoint that the run goes on from
	ended    *Result // what stands in the folder of a training that has ended
	begun    time.Time
	images   int
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
}

// Train trains a network. In a folder with a checkpoint it goes on from there and ends in the same bits as if it had
// never stopped.
func Train(ctx context.Context, j Job, d Deps) (result *Result, err error) {
	if err := j.Recipe.Check(); err != nil {
		return nil, err
	}
	if j.OnNaN != OnNaNStop && j.OnNaN != OnNaNSkip {
		return nil, fmt.Errorf("on-nan %q: want %s or %s", j.OnNaN, OnNaNStop, OnNaNSkip)
	}
	j.Net = j.Net.Regularized(j.Recipe.DropPath, j.Recipe.AuxWeight)
	r := &run{Job: j, Deps: d, state: progress{Rate: 1}, tally: data.NewTally(j.OnCorrupt)}
	defer func() { err = errors.Join(err, r.close()) }()
	defer exec.Catch(&err)
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if r.ended != nil {
		return r.ended, nil
	}
	if err = r.train(ctx); err == nil {
		result, err = r.finish(ctx)
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

func (r *run) close() error {
	if r.feed != nil {
		r.feed.close()
	}
	if r.distillation != nil {
		r.distillation.m.Close()
	}
	if r.m != nil {
		r.m.Close()
	}
	if r.dev != nil {
		r.dev.Close()
	}
	if r.log != nil {
		return r.log.Close()
	}
	return nil
}

func (r *run) open(ctx context.Context) (err error) {
	if r.dev, err = exec.Open(r.Device); err != nil {
		return err
	}
	rec := r.Recipe
	r.m, err = NewModel(r.dev, r.Net, Options{Batch: rec.Batch,
		Loss: nn.Loss{Smoothing: rec.LabelSmoothing, Distill: rec.Distill, Temperature: rec.Temperature}, Seed: r.Seed,
		Accumulate: rec.Accumulate, Clip: rec.Clip, Mixup: rec.Mixup > 0})
	if err != nil {
		return err
	}
	if r.distillation, err = r.Teacher.distil(r.m, rec, r.Data); err != nil {
		return err
	}
	r.m.Initialize(initializers[rec.Init], r.Seed)
	if r.o, err = newOptimizer(r.m, rec.Optimization); err != nil {
		return err
	}
	r.o.begin()
	r.perEpoch = r.Data.Train.Len() / rec.Batch
	if r.perEpoch == 0 {
		return fmt.Errorf("batch %d: there are %d images to train on", rec.Batch, r.Data.Train.Len())
	}
	r.updates = rec.Epochs * r.perEpoch / rec.Accumulate
	if r.updates == 0 {
		return fmt.Errorf("accumulate %d: there are %d steps in all", rec.Accumulate, rec.Epochs*r.perEpoch)
	}
	if r.ident, err = r.identity(ctx); err != nil {
		return err
	}
	if r.Dir != "" {
		if err := r.resume(); err != nil {
			return err
		}
		if r.ended, err = r.hasEnded(); err != nil || r.ended != nil {
			return err
		}
		if r.log, err = events.Open(r.Dir, r.logged); err != nil {
			return err
		}
	}
	if r.state.Update < r.updates {
		start := data.Position{Epoch: r.state.Step / r.perEpoch, Batch: r.state.Step % r.perEpoch}
		loader, err := data.NewLoader(r.Data.Train, data.Config{Batch: rec.Batch,
			Transform: TrainTransform(r.Data, rec, r.Net), Seed: r.Seed, Train: true, Mixup: rec.Mixup,
			Epochs: rec.Epochs, Start: start, Workers: r.Workers, OnCorrupt: r.OnCorrupt})
		if err != nil {
			return err
		}
		r.feed = newFeed(r.m, loader, r.updates*rec.Accumulate-r.state.Step)
	}
	return nil
}

// maxResultBytes bounds what is read of a result; an epoch has some 200 bytes.
const maxResultBytes = 1 << 26

// hasEnded returns the result of a run folder whose training has ended, which the checkpoint says is this one; nil
// where there is something left to do. With a rule that stops trainings early, another one may be in force now.
func (r *run) hasEnded() (*Result, error) {
	if r.Stop != nil || r.state.Update < r.updates || r.epochEnded() {
		return nil, nil
	}
	path := filepath.Join(r.Dir, ResultName)
	text, err := files.Read(path, maxResultBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	result := &Result{Finished: true}
	if err := json.Unmarshal(text, result); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return result, nil
}

// TrainTransform is what a recipe does to images for training a network.
func TrainTransform(d *data.Dataset, r Recipe, net *nn.Network) data.Transform {
	t := d.TrainTransform(net.Input().H)
	if r.AreaMin > 0 && t.Crop == data.CropRandomResized {
		t.AreaMin, t.AreaMax = r.AreaMin, 1
	}
	t.Jitter = data.Jitter{Brightness: r.Jitter, Contrast: r.Jitter, Saturation: r.Jitter}
	t.Cutout = r.Cutout
	return t
}

// train runs the updates that are left.
func (r *run) train(ctx context.Context) error {
	r.begun = time.Now()
	every := r.CheckpointEvery
	if every == 0 {
		every = max(1, r.perEpoch/r.Recipe.Accumulate)
	}
	s := &r.state
	stop := func(why error) error {
		if data.IsCorrupt(why) { // the state is that before such an image: the run may go on without it
			return errors.Join(why, r.checkpoint())
		}
		if !ended(ctx, why) {
			return why
		}
		if err := r.checkpoint(); err != nil {
			return fmt.Errorf("the training was interrupted and has no checkpoint of its update %d: %w", s.Update, err)
		}
		return why
	}
	for {
		for r.epochEnded() {
			if err := r.endEpoch(ctx); err != nil {
				return stop(err)
			}
		}
		if s.Stopped || s.Update == r.updates {
			return r.checkpoint()
		}
		if err := ctx.Err(); err != nil { // images that are there already are no reason to go on
			return stop(err)
		}
		if err := r.update(ctx); err != nil {
			return stop(err)
		}
		if s.Update%every == 0 {
			if err := r.checkpoint(); err != nil {
				return err
			}
		}
	}
}

// epochEnded tells whether an epoch, or the last part of one, has not been evaluated yet.
func (r *run) epochEnded() bool {
	s := &r.state
	return s.Step/r.perEpoch > len(s.TrainLoss) || s.Update == r.updates && s.Losses > 0
}

// update runs Accumulate steps and, unless something is not finite, changes the parameters. When the context ends in
// between, nothing has happened.
func (r *run) update(ctx context.Context) error {
	s := &r.state
	r.m.KeepStatistics()
	loss, norm := 0.0, 0.0
	for part := range r.Recipe.Accumulate {
		b, err := r.feed.take(ctx)
		if err == nil {
			err = r.tally.Add(r.Data.Corrupt(r.Data.Train, b.Corrupt))
		}
		if err != nil {
			r.m.RestoreStatistics()
			return err
		}
		r.images += b.N
		if r.distillation != nil {
			r.distillation.predict(b, r.m)
		}
		r.m.SetPathRate(r.Recipe.PathRate((s.Step + part) / r.perEpoch))
		r.m.Step(uint32(s.Step+part), part)
		r.feed.ahead(ctx)
		var mine float64
		mine, norm = r.m.Metrics()
		loss += mine / float64(r.Recipe.Accumulate)
	}
	s.Step += r.Recipe.Accumulate
	if finite(loss) && finite(norm) {
		r.o.update(s.Rate * r.Recipe.Rate(s.Update, max(1, r.perEpoch/r.Recipe.Accumulate)))
		s.Loss, s.Losses, s.InARow = s.Loss+loss, s.Losses+1, 0
	} else if err := r.diverged(loss, norm); err != nil {
		return err
	}
	s.Update++
	r.report(loss, norm)
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
func (r *run) diverged(loss, norm float64) error {
	s := &r.state
	where, err := r.m.Inspect()
	if err != nil {
		return err
	}
	if where == "" {
		where = "none alone: an overflow in the sum"
	}
	if err := r.event(events.Event{Name: "diverged", Step: s.Update,
		Text: map[string]string{"where": where}}); err != nil {
		return err
	}
	s.Skipped++
	s.InARow++
	if r.OnNaN == OnNaNStop || s.InARow > mostSkipped {
		return &Diverged{s.Update, loss, norm, where, s.Validation}
	}
	s.Rate /= 2
	r.m.RestoreStatistics()
	return nil
}

// waited is how many seconds passed waiting for images.
func (r *run) waited() float64 {
	if r.feed == nil { // nothing is left to train
		return 0
	}
	return r.feed.waited.Seconds()
}

// reportEvery is how many updates lie between lines of the log about the loss.
const reportEvery = 20

func (r *run) report(loss, norm float64) {
	s := &r.state
	seconds := time.Since(r.begun).Seconds()
	if r.Progress != nil {
		r.Progress(Progress{s.Update, r.updates, (s.Step - 1) / r.perEpoch, loss, float64(r.images) / seconds,
			r.waited() / seconds})
	}
	if s.Update%reportEvery == 0 {
		lr := s.Rate * r.Recipe.Rate(s.Update-1, max(1, r.perEpoch/r.Recipe.Accumulate))
		// The log is not the result.
		_ = r.event(events.Event{Name: "train", Step: s.Update,
			Values: map[string]float64{"loss": loss, "grad_norm": norm, "lr": lr}})
	}
}

func (r *run) event(e events.Event) error {
	if r.log == nil {
		return nil
	}
	return r.log.Write(e)
}

// endEpoch evaluates on the validation images.
func (r *run) endEpoch(ctx context.Context) error {
	s := &r.state
	epoch := len(s.TrainLoss) + 1
	values := map[string]float64{}
	seconds := time.Since(r.begun).Seconds()
	values["images_per_second"], values["loader_share"] = float64(r.images)/seconds, r.waited()/seconds
	if r.Data.Validation.Len() > 0 {
		e, err := r.evaluate(ctx, r.Data.Validation)
		if err != nil {
			return err
		}
		e.Epoch = epoch
		s.Validation = append(s.Validation, e)
		values["validation_loss"], values["validation_top1"], values["validation_top5"] =
			float64(e.Loss), e.Top1, e.Top5
		s.Stopped = r.stops(e)
	}
	mean := math.NaN() // where every update was left out
	if s.Losses > 0 {
		mean = s.Loss / float64(s.Losses)
		values["loss"] = mean
	}
	s.TrainLoss = append(s.TrainLoss, Real(mean))
	s.Loss, s.Losses = 0, 0
	return r.event(events.Event{Name: "epoch", Step: epoch, Values: values})
}

func (r *run) stops(e Evaluation) bool { return r.Stop != nil && r.Stop(e) }

// evaluate measures the weights, or their average, on a set; with fresh statistics where the recipe says so. It leaves
// the state as it was.
func (r *run) evaluate(ctx context.Context, set *data.Set) (e Evaluation, err error) {
	err = r.o.averaged(func() error {
		if r.Recipe.Recalibrate > 0 {
			kept := make([]float32, r.m.State.Len()-r.m.Params)
			r.m.State.ReadF32(r.m.Params, kept)
			defer func() { r.m.State.WriteF32(r.m.Params, kept) }()
			if err := Recalibrate(ctx, r.m, r.Data, r.Recipe, r.Seed, r.loading()); err != nil {
				return err
			}
		}
		var err error
		e, err = Evaluate(ctx, r.m, r.Data, set, r.Data.EvalTransform(r.Net.Input().H), r.loading())
		return err
	})
	return e, err
}

// Loading is how the images of a set are brought in.
type Loading struct {
	Workers int         // goroutines; 0: as many as processors
	Tally   *data.Tally // of the images that were left out; nil: one that cannot be read ends the work
}

func (r *run) loading() Loading { return Loading{r.Workers, r.tally} }

// Recalibrate sets the running statistics of a model's batch norms to the means over the first Recipe.Recalibrate
// batches of training images.
func Recalibrate(ctx context.Context, m *Model, d *data.Dataset, r Recipe, seed uint64, in Loading) error {
	l, err := data.NewLoader(d.Train, data.Config{Batch: m.Batch, Transform: TrainTransform(d, r, m.Net), Seed: seed,
		Train: true, Workers: in.Workers, OnCorrupt: in.Tally.OnCorrupt()})
	if err != nil {
		return err
	}
	defer l.Close()
	m.BeginRecalibration()
	for range r.Recalibrate {
		b, err := l.Next(ctx)
		if err == nil {
			err = in.Tally.Add(d.Corrupt(d.Train, b.Corrupt))
		}
		if err != nil {
			return err
		}
		m.Images.WriteF32(0, b.Images)
		m.Recalibrate()
	}
	return nil
}

// ImagesOf are a set's images as a network of a side gets them in evaluation, unless its weights want others.
func ImagesOf(d *data.Dataset, side int) *zoo.Images {
	return &zoo.Images{Side: side, Crop: data.EvalCrop, Rounding: "round", Interpolation: zoo.Bilinear, Mean: d.Mean,
		Std: d.Std, Channels: "RGB"}
}

// EvalTransform makes a set's images those that a network of a side wants. Images that all have the network's size are
// not resized.
func EvalTransform(d *data.Dataset, i *zoo.Images, side int) data.Transform {
	t := d.EvalTransform(side)
	t.Mean, t.Std = i.Mean, i.Std
	if t.Resize != 0 {
		t.Resize = i.Resized(side)
	}
	if i.Interpolation == zoo.Bicubic {
		t.Filter = image.Bicubic
	}
	return t
}

// Evaluate measures a model on the images of a set, which d.EvalTransform or EvalTransform makes the network's input;
// of those that were left out nothing counts. The model's batch is the most images at a time.
func Evaluate(ctx context.Context, m *Model, d *data.Dataset, set *data.Set, t data.Transform,
	in Loading) (Evaluation, error) {
	l, err := data.NewLoader(set, data.Config{Batch: m.Batch, Transform: t, Epochs: 1, Workers: in.Workers,
		OnCorrupt: in.Tally.OnCorrupt()})
	if err != nil {
		return Evaluation{}, err
	}
	defer l.Close()
	m.Count.WriteI32(0, make([]int32, 3))
	total := 0.0
	for range l.Batches() {
		b, err := l.Next(ctx)
		if err == nil {
			err = in.Tally.Add(d.Corrupt(set, b.Corrupt))
		}
		if err != nil {
			return Evaluation{}, err
		}
		m.Images.WriteF32(0, b.Images)
		m.Labels.WriteI32(0, b.Labels)
		m.Evaluate()
		total += float64(m.Loss.Values()[0]) * float64(b.N-len(b.Corrupt))
	}
	count := make([]int32, 3)
	m.Count.ReadI32(0, count)
	n := float64(count[0])
	if n == 0 {
		return Evaluation{}, fmt.Errorf("none of the %d images can be read: %v", set.Len(), in.Tally.Summary())
	}
	return Evaluation{Images: int(count[0]), Loss: Real(total / n), Top1: float64(count[1]) / n,
		Top5: float64(count[2]) / n}, nil
}

// finish evaluates on the test images and writes what remains of a run.
func (r *run) finish(ctx context.Context) (*Result, error) {
	cost := r.Net.Cost()
	result := &Result{Arch: r.Arch, Data: r.Source, Checksum: r.ident.Images, Classes: r.Data.Classes, Recipe: r.Recipe,
		Seed: r.Seed, Device: r.dev.Kind(), MAdds: cost.MAdds, Params: cost.Params, Teacher: r.distillation.checksum(),
		Updates: r.state.Update, Skipped: r.state.Skipped, TrainLoss: r.state.TrainLoss, Validation: r.state.Validation}
	if r.Data.Test.Len() > 0 {
		e, err := r.evaluate(ctx, r.Data.Test)
		if err != nil { // an interrupted one too: the last checkpoint is the end's
			return nil, err
		}
		e.Epoch = len(r.state.TrainLoss)
		result.Test = &e
	}
	if r.Dir == "" {
		result.Corrupt = r.tally.Summary()
		return result, nil
	}
	own := zoo.Variants(r.Net)[0]
	own.Images = ImagesOf(r.Data, r.Net.Input().H)
	metadata := Metadata(r.Arch, own.String(), own.Constants, r.Data.Classes)
	err := r.o.averaged(func() error {
		if r.Recipe.Recalibrate > 0 {
			if err := Recalibrate(ctx, r.m, r.Data, r.Recipe, r.Seed, r.loading()); err != nil {
				return err
			}
		}
		return SaveWeights(filepath.Join(r.Dir, WeightsName), r.m, metadata)
	})
	if err != nil {
		return nil, err
	}
	if result.Corrupt = r.tally.Summary(); result.Corrupt != nil {
		err := r.event(events.Event{Name: "corrupt_images", Step: r.state.Update,
			Values: map[string]float64{"count": float64(result.Corrupt.Count)},
			Text:   map[string]string{"first": result.Corrupt.String()}})
		if err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return nil, err
	}
	return result, files.Write(filepath.Join(r.Dir, ResultName), append(text, '\n'))
}
