package trainer

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
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
	// Start is what the training begins with; nil: the recipe's random values.
	Start *Start
	// Teacher is what Recipe.Distill learns from; nil without.
	Teacher *Teacher
}

// Deps are what a training works with.
type Deps struct {
	// Device is where the training computes. Several divide the shards of a batch among them: see Recipe.CheckRanks.
	Device exec.Config
	// Ranks is into how many executors the processor's threads are divided, as several devices; 0 is 1. For tests.
	Ranks int
	// Nodes are the machines that the training is divided among; nil: this one alone. Those behind node 0 have no Dir.
	Nodes   Nodes
	Workers int // that load images; 0: as many as processors
	// Dir is the run's folder: checkpoint, log, weights and result. A checkpoint in it is resumed. Empty: nothing is
	// written.
	Dir string
	// CheckpointEvery is how many updates lie between checkpoints; 0: an epoch, or ten minutes where that is less, and
	// so much that checkpoints take no more than a hundredth of the time.
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
	Start    string   `json:"start,omitempty"`   // checksum of what it began with; absent: of random values
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

// run is the training of one network in work.
type run struct {
	course
	m            *Model         // the first rank's
	distillation *distillation  // the first rank's; nil: there is no teacher
	parts        []rankedModels // by rank
	bucket       int            // leastBucket; in tests less
	buckets      []*group.Sum   // of the gradient, beside the backward pass
}

// rankedModels are what a rank trains, and what it learns from.
type rankedModels struct {
	m            *Model
	distillation *distillation
}

// Train trains a network. In a folder with a checkpoint it goes on from there and ends in the same bits as if it had
// never stopped.
func Train(ctx context.Context, j Job, d Deps) (result *Result, err error) {
	if err := j.Recipe.Check(); err != nil {
		return nil, err
	}
	j.Net = j.Net.Regularized(j.Recipe.DropPath, j.Recipe.AuxWeight)
	r := newRun(j, d)
	if err := r.checkFaults(); err != nil {
		return nil, err
	}
	return conduct(ctx, r)
}

func newRun(j Job, d Deps) *run {
	r := &run{course: newCourse(j, d), bucket: leastBucket}
	r.learner = r
	return r
}

// begin sets the parameters, and what the optimizer remembers of them, to their start.
func (r *run) begin() error {
	if r.Start == nil || r.Start.partial() {
		r.m.Initialize(initializers[r.Recipe.Init], r.Seed)
	}
	if r.Start != nil {
		r.m.SetValues(r.Start.Values)
	}
	r.o.begin()
	return nil
}

func (r *run) open(ctx context.Context) (*Result, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	if err := r.resume(r.begin); err != nil {
		return nil, err
	}
	result := &Result{Finished: true}
	if ended, err := r.rest(result); err != nil {
		return nil, err
	} else if ended {
		return result, nil
	}
	if r.state.Update == r.updates {
		return nil, nil
	}
	rec := r.Recipe
	loader, err := r.load(r.Data.Train, data.Config{Batch: rec.Batch,
		Transform: TrainTransform(r.Data, rec, r.Net), Seed: r.Seed, Train: true, Mixup: rec.Mixup,
		Shards: rec.parts(), Epochs: rec.Epochs, Start: r.start(), Workers: r.Workers, OnCorrupt: r.OnCorrupt})
	if err != nil {
		return nil, err
	}
	var to []receiver
	for _, p := range r.parts {
		to = append(to, receiver{arena: p.m.arena, in: p.m.inputs})
	}
	r.feed = newFeed(loader, r.updates*rec.Accumulate-r.state.Step, r.portion(), to...)
	return nil, nil
}

// put puts the network with its start values, the teacher and the optimizer on the device, and says what all of it is.
func (r *run) put(ctx context.Context) (err error) {
	if err := r.openRanks(r.putOn); err != nil {
		return err
	}
	r.m, r.distillation = r.parts[0].m, r.parts[0].distillation
	if err := r.prepareBuckets(); err != nil {
		return err
	}
	if r.Start != nil {
		if err := r.Start.fits(r.Net); err != nil {
			return err
		}
	}
	if err := r.count(r.Recipe.Epochs); err != nil {
		return err
	}
	r.ident, err = r.identify(ctx, fmt.Sprint(r.Net.Nodes), r.Recipe, r.distillation.checksum())
	return err
}

// options are those of the model of a training.
func (j *Job) options() Options {
	r := j.Recipe
	return Options{Batch: r.Batch / r.parts(), Shards: r.parts(), Accumulate: r.Accumulate, Seed: j.Seed,
		Loss: nn.Loss{Smoothing: r.LabelSmoothing, Distill: r.Distill, Temperature: r.Temperature}, Clip: r.Clip,
		Mixup: r.Mixup > 0}
}

// putOn puts the network and the teacher on a rank's device.
func (r *run) putOn(k *rank, all, mine int) (err error) {
	var p rankedModels
	k.free = func() {
		if p.distillation != nil {
			p.distillation.m.Close()
		}
		if p.m != nil {
			p.m.Close()
		}
	}
	o := r.options()
	if o.meeting = r.meets(k); o.meeting == nil && r.Nodes == nil && all > mine &&
		exec.Peers([]*exec.Device{k.dev}) {
		o.Bucket = r.bucket
	}
	if p.m, err = NewModel(k.dev, r.Net, o); err != nil {
		return err
	}
	var buckets []segment
	if o.Bucket > 0 {
		buckets = p.m.rest
	}
	if len(buckets) > 0 {
		if err := k.fork(); err != nil {
			return err
		}
	}
	if p.distillation, err = r.Teacher.distil(p.m, r.Recipe, r.Data); err != nil {
		return err
	}
	if k.params = p.m.Parameters; all > 1 {
		k.sharding = newSharding(k.params, buckets, all, mine, r.Recipe.Accumulate, r.Recipe.Clip, p.m.Loss)
	}
	r.parts = append(r.parts, p)
	return nil
}

func (r *run) ready() error { return nil }

func (r *run) step(_ context.Context, b *data.Batch, part int) error {
	at, shards := r.state.Step+part, r.Recipe.parts()
	begin := func(i int, _ *rank, shard, mine int) error {
		m := r.parts[i].m
		m.SetPathRate(r.Recipe.PathRate(at / r.perEpoch))
		if d := r.parts[i].distillation; d != nil {
			d.predict(r.feed.part(b, i, mine), m)
		}
		m.begin(uint32(at*shards+shard), part)
		return nil
	}
	if len(r.buckets) > 0 {
		return r.inSegments(part, begin)
	}
	return r.inShards(part, func(i int, k *rank, shard, mine int) error {
		err := begin(i, k, shard, mine)
		r.parts[i].m.goOn()
		return err
	})
}

// inspect looks at the shards of the latest step, then at the gradient of all.
func (r *run) inspect() (where string, err error) {
	defer exec.Catch(&err)
	at, shards := r.state.Step-1, r.Recipe.parts()
	if shards == 1 {
		return r.m.Inspect()
	}
	where, err = r.inspectShards(r.feed, func(i int, _ *rank, shard int) (string, error) {
		m := r.parts[i].m
		m.step.WriteI32(0, []int32{int32(at*shards + shard)})
		return m.inspectOutputs()
	})
	if where == "" && err == nil {
		where = r.m.inspectGradient()
	}
	return where, err
}

func (r *run) metrics() (loss, norm float64) { return r.m.Metrics() }

func (r *run) rate(update int) float64 { return r.Recipe.Rate(update, r.perEpochUpdates()) }

func (r *run) validate(ctx context.Context, epoch int, values map[string]float64) error {
	e, err := r.evaluate(ctx, r.Data.Validation)
	if err != nil {
		return err
	}
	e.Epoch = epoch
	r.state.Validation = append(r.state.Validation, e)
	values["validation_loss"], values["validation_top1"], values["validation_top5"] = float64(e.Loss), e.Top1, e.Top5
	r.state.Stopped = r.stops(e)
	return nil
}

// TrainTransform is what a recipe does to images for training a network.
func TrainTransform(d *data.Dataset, r Recipe, net *nn.Network) data.Transform {
	return trainTransform(d, r, net.Input().H)
}

// trainTransform is the same for images of a side.
func trainTransform(d *data.Dataset, r Recipe, side int) data.Transform {
	return r.Images.Transform(d, side)
}

// Transform is what training does to a set's images of a side.
func (i Images) Transform(d *data.Dataset, side int) data.Transform {
	t := d.TrainTransform(side)
	if i.AreaMin > 0 && t.Crop == data.CropRandomResized {
		t.AreaMin, t.AreaMax = i.AreaMin, 1
	}
	t.Jitter = data.Jitter{Brightness: cmp.Or(i.Brightness, i.Jitter), Contrast: i.Jitter,
		Saturation: cmp.Or(i.Saturation, i.Jitter)}
	t.Cutout = i.Cutout
	return t
}

// evaluate measures the weights, or their average, on a set; with fresh statistics where the recipe says so. It leaves
// the state as it was. Each node measures on some of the images.
func (r *run) evaluate(ctx context.Context, set *data.Set) (Evaluation, error) {
	var mine measured
	err := r.averaged(func() (err error) {
		models := make([]*Model, len(r.parts))
		for i, p := range r.parts {
			models[i] = p.m
		}
		if r.Recipe.Recalibrate > 0 {
			kept := make([]float32, r.m.State.Len()-r.m.Params)
			r.m.State.ReadF32(r.m.Params, kept)
			defer func() {
				for _, m := range models {
					m.State.WriteF32(r.m.Params, kept)
				}
			}()
			if err := Recalibrate(ctx, r.m, r.Data, r.Recipe, r.Seed, r.loading()); err != nil {
				return err
			}
			for _, m := range models[1:] {
				m.State.WriteF32(0, r.m.State.Values())
			}
		}
		mine, err = measureSet(ctx, models, r.Data, set, r.Data.EvalTransform(r.Net.Input().H), r.loading())
		return err
	})
	all, err := r.pool(ctx, set, []measured{mine}, err)
	if err != nil {
		return Evaluation{}, err
	}
	return all[0], nil
}

// Loading is how the images of a set are brought in.
type Loading struct {
	Workers int         // goroutines; 0: as many as processors
	Tally   *data.Tally // of the images that were left out; nil: one that cannot be read ends the work
	// node of nodes measures on its batches of a set alone, by turns; nodes 0: there are no others.
	node, nodes int
}

// Recalibrate sets the running statistics of a model's batch norms to the means over the first Recipe.Recalibrate
// batches of training images.
func Recalibrate(ctx context.Context, m *Model, d *data.Dataset, r Recipe, seed uint64, in Loading) error {
	l, err := data.NewLoader(d.Train, data.Config{Batch: m.Batch, Transform: TrainTransform(d, r, m.Net), Seed: seed,
		Train: true, Workers: in.Workers, OnCorrupt: in.Tally.OnCorrupt(), Raw: m.arena.Device().Accelerated()})
	if err != nil {
		return err
	}
	defer l.Close()
	images := newIntake(m, l)
	defer images.close()
	m.BeginRecalibration()
	for range r.Recalibrate {
		b, err := l.Next(ctx)
		if err == nil {
			err = in.Tally.Add(d.Corrupt(d.Train, b.Corrupt))
		}
		if err != nil {
			return err
		}
		images.put(b)
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
	return EvaluateAll(ctx, []*Model{m}, d, set, t, in)
}

// finish evaluates on the test images and writes what remains of a run.
func (r *run) finish(ctx context.Context) (*Result, error) {
	cost := r.Net.Cost()
	result := &Result{Arch: r.Arch, Data: r.Source, Checksum: r.ident.Images, Classes: r.Data.Classes, Recipe: r.Recipe,
		Seed: r.Seed, Device: r.dev.Kind(), MAdds: cost.MAdds, Params: cost.Params, Teacher: r.distillation.checksum(),
		Start: r.Start.checksum(), Updates: r.state.Update, Skipped: r.state.Skipped, TrainLoss: r.state.TrainLoss,
		Validation: r.state.Validation}
	if r.Data.Test.Len() > 0 {
		var e Evaluation
		err := r.together(ctx, func() (err error) {
			e, err = r.evaluate(ctx, r.Data.Test)
			return err
		})
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
	result.Corrupt = r.tally.Summary()
	return result, r.write(result, result.Corrupt)
}
