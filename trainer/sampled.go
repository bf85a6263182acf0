package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// sampledRun is the training of a supernet by single paths, which a sampler draws. The gradients of an update's paths
// are summed.
type sampledRun struct {
	supernetRun
	side    int
	heldOut *data.Decoded // images that Measure looks at; nil before it is first asked
}

func newSampledRun(j SupernetJob, d Deps) (*sampledRun, error) {
	if !j.Recipe.Sampled() {
		return nil, fmt.Errorf("method %s draws its own paths", j.Recipe.Method)
	}
	all, err := newSupernetRun(j, d)
	if err != nil {
		return nil, err
	}
	if j.Recipe.Method == MethodENAS && j.Data.Validation.Len() == 0 {
		return nil, fmt.Errorf("held-out 0: %s has no validation images, and nothing is left that a controller could "+
			"learn from", j.Source)
	}
	r := &sampledRun{supernetRun: all, side: j.Recipe.Side(j.Data)}
	r.learner = r
	if r.side == 0 {
		return nil, fmt.Errorf("resolution 0: the images of %s have sides of their own", j.Source)
	}
	return r, nil
}

func (r *sampledRun) open(ctx context.Context) (*SupernetResult, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	if err := r.resume(r.begin); err != nil {
		return nil, err
	}
	if learned := r.state.Elastic.Sampler; learned != nil {
		if err := r.Sampler.Restore(learned); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	result := &SupernetResult{Finished: true}
	if ended, err := r.rest(result); err != nil {
		return nil, err
	} else if ended {
		return result, nil
	}
	if r.state.Update == r.updates {
		return nil, nil
	}
	rec := r.course.Recipe
	l, err := data.NewLoader(r.course.Data.Train, data.Config{Batch: rec.Batch,
		Transform: trainTransform(r.course.Data, rec, r.side), Seed: r.course.Seed, Train: true, Epochs: rec.Epochs,
		Start: r.start(), Workers: r.Workers, OnCorrupt: r.course.OnCorrupt})
	if err != nil {
		return nil, err
	}
	r.feed = newFeed(r.s.arena, r.s.inputs, l, r.updates*rec.Accumulate-r.state.Step)
	return nil, nil
}

// put puts the shared variables and the optimizer on the device, and says what all of it is.
func (r *sampledRun) put(ctx context.Context) (err error) {
	if err := r.place(r.side); err != nil {
		return err
	}
	if err := r.count(r.course.Recipe.Epochs); err != nil {
		return err
	}
	r.ident, err = r.identify(ctx, r.shapes(), r.SupernetJob.Recipe, "")
	r.ident.Sides = fmt.Sprint([]int{r.side})
	return err
}

func (r *sampledRun) begin() error {
	r.s.SetValues(r.random())
	r.o.begin()
	return nil
}

func (r *sampledRun) ready() error { return nil }

func (r *sampledRun) rate(update int) float64 {
	return r.SupernetJob.Recipe.Rate(update, r.perEpochUpdates())
}

// step trains the paths of an update on a batch.
func (r *sampledRun) step(b *data.Batch, part int) error {
	paths, err := r.Sampler.Paths(r.state.Update)
	if err == nil && (len(paths) == 0 || len(paths) > mostPaths) {
		err = fmt.Errorf("update %d has %d paths: want 1 to %d", r.state.Update, len(paths), mostPaths)
	}
	if err != nil {
		return err
	}
	if part == 0 {
		r.s.ZeroGradient()
	}
	rec := r.course.Recipe
	o := PathOptions{Loss: nn.Loss{Smoothing: rec.LabelSmoothing}, Divide: rec.Accumulate, Once: true}
	at, cost := r.state.Step+part, &r.state.Elastic.Cost
	r.models = r.models[:0]
	for k, path := range paths {
		if part == 0 {
			if err := r.choose(path); err != nil {
				return err
			}
		}
		m, err := r.path(r.s, wanted{key: path, options: o})
		if err != nil {
			return err
		}
		m.SetPathRate(rec.PathRate(at / r.perEpoch))
		m.Step(uint32(at*(mostPaths+2)+k), part)
		r.models = append(r.models, m)
		cost.Steps++
		cost.MAdds += uint64(3 * int64(b.N) * r.cost(path, m))
	}
	r.s.touch(r.models)
	r.s.FinishGradient()
	cost.Images += int64(b.N)
	return nil
}

// choose counts what a path of an update has chosen.
func (r *sampledRun) choose(path string) error {
	deciding, ok := r.SupernetJob.Paths.(Deciding)
	if !ok {
		return nil
	}
	chosen, err := deciding.Chosen(path)
	if err != nil {
		return err
	}
	counts := &r.state.Elastic.Chosen
	if *counts == nil {
		for _, d := range deciding.Decisions() {
			*counts = append(*counts, make([]int64, len(d.Choices)))
		}
	}
	for _, c := range chosen {
		(*counts)[c.Row][c.Choice]++
	}
	return nil
}

// fairness says how often the choices of each decision were trained; nil where they are not counted.
func (r *supernetRun) fairness() (out []Fairness) {
	for i, counts := range r.state.Elastic.Chosen {
		d := r.SupernetJob.Paths.(Deciding).Decisions()[i]
		out = append(out, Fairness{d.Name, d.Choices, counts, slices.Min(counts), slices.Max(counts)})
	}
	return out
}

// validate measures some paths of the sampler with statistics of their own, then lets it learn.
func (r *sampledRun) validate(ctx context.Context, epoch int, values map[string]float64) error {
	values["recording_share"] = r.recording.Seconds() / time.Since(r.begun).Seconds()
	err := r.o.averaged(func() error {
		for k := range r.SupernetJob.Recipe.Judged {
			paths, err := r.Sampler.Paths(math.MaxUint32 - k) // of no update
			if err != nil {
				return err
			}
			e, err := r.judged(ctx, paths[0])
			if err != nil {
				return err
			}
			e.Epoch = epoch
			role := fmt.Sprint(roleRandom, k+1)
			r.state.Elastic.Paths = append(r.state.Elastic.Paths, PathEvaluation{role, paths[0], e})
			values["top1 "+role], values["loss "+role] = e.Top1, float64(e.Loss)
		}
		return r.Sampler.Learn(ctx, epoch, r.measure)
	})
	if err != nil {
		return err
	}
	r.state.Elastic.Sampler, err = r.Sampler.State()
	return err
}

// judged measures a path on all held-out images, with the statistics that the recipe says.
func (r *sampledRun) judged(ctx context.Context, path string) (Evaluation, error) {
	if r.course.Recipe.Recalibrate > 0 {
		return r.judge(ctx, path)
	}
	h, err := r.newHolding(ctx, path)
	if err != nil {
		return Evaluation{}, err
	}
	total := 0.0
	for k := range r.heldOut.Batches(r.s.Batch) {
		if err := ctx.Err(); err != nil {
			return Evaluation{}, err
		}
		n := h.look(k)
		total += float64(h.Loss.Values()[0]) * float64(n)
	}
	count := h.counted()
	n := float64(count[0])
	return Evaluation{Images: int(count[0]), Loss: Real(total / n), Top1: float64(count[1]) / n,
		Top5: float64(count[2]) / n}, nil
}

// measure is the accuracy of a path on a batch of held-out images, with the batch's own statistics.
func (r *sampledRun) measure(ctx context.Context, path string, batch int) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	h, err := r.newHolding(ctx, path)
	if err != nil {
		return 0, err
	}
	h.look(batch % r.heldOut.Batches(r.s.Batch))
	count := h.counted()
	return float64(count[1]) / float64(count[0]), nil
}

// holding is a path that looks at held-out images, each batch of which it normalises by its own statistics.
type holding struct {
	*Model
	of     *data.Decoded
	images []float32
	labels []int32
}

// newHolding has counted nothing yet. Held-out images are decoded when they are first wanted.
func (r *sampledRun) newHolding(ctx context.Context, path string) (h holding, err error) {
	if h.Model, err = r.path(r.s, wanted{key: path, options: PathOptions{Transient: true}}); err != nil {
		return h, err
	}
	if r.heldOut == nil {
		d := r.course.Data
		r.heldOut, err = data.Decode(ctx, d.Validation, data.DecodeConfig{Transform: d.EvalTransform(r.side),
			Workers: r.Workers, Seed: r.course.Seed, OnCorrupt: r.course.OnCorrupt})
		if err == nil {
			err = r.tally.Add(d.Corrupt(d.Validation, r.heldOut.Corrupt))
		}
		if err != nil {
			return h, err
		}
	}
	h.of, h.images, h.labels = r.heldOut, make([]float32, r.s.Batch*3*r.side*r.side), make([]int32, r.s.Batch)
	h.Count.WriteI32(0, make([]int32, 3))
	return h, nil
}

// look adds a batch of held-out images to what is counted, and returns how many they are.
func (h holding) look(batch int) int {
	n := h.of.Full(batch, h.images, h.labels)
	h.Images.WriteF32(0, h.images)
	h.Labels.WriteI32(0, h.labels)
	h.Evaluate()
	return n
}

// counted are the images so far, those that were right, and those that were among the first five.
func (h holding) counted() [3]int32 {
	var count [3]int32
	h.Count.ReadI32(0, count[:])
	return count
}

// finish writes what remains of a run.
func (r *sampledRun) finish(context.Context) (*SupernetResult, error) { return r.end(r.save) }

// save writes the shared variables. Their running statistics are those that the latest paths left, of no one network.
func (r *sampledRun) save(path string) error {
	p, err := r.Sampler.Paths(0)
	if err != nil {
		return err
	}
	one, err := r.SupernetJob.Paths.Path(p[0], len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	own := zoo.Variants(one.Network)[0]
	own.Images = ImagesOf(r.course.Data, r.side)
	metadata := Metadata(r.Space, own.String(), own.Constants, r.course.Data.Classes)
	metadata[SpaceKey] = r.Space
	metadata[HeldOutKey] = strconv.Itoa(r.HeldOut)
	AddSize(metadata, r.course.Recipe.Size)
	AddImages(metadata, r.course.Recipe.Images)
	return WriteShared(path, r.shared, r.s.Values(), metadata)
}
