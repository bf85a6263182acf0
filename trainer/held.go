package trainer

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// sided finds the side of the images of a supernet whose paths all have one.
func (r *supernetRun) sided() error {
	if r.side = r.SupernetJob.Recipe.Side(r.course.Data); r.side == 0 {
		return fmt.Errorf("resolution 0: the images of %s have sides of their own", r.course.Source)
	}
	return nil
}

// fed opens the training images, of that side, for the updates that are left.
func (r *supernetRun) fed() error {
	rec := r.course.Recipe
	l, err := data.NewLoader(r.course.Data.Train, data.Config{Batch: rec.Batch,
		Transform: trainTransform(r.course.Data, rec, r.side), Seed: r.course.Seed, Train: true, Epochs: rec.Epochs,
		Start: r.start(), Workers: r.Workers, OnCorrupt: r.course.OnCorrupt})
	if err != nil {
		return err
	}
	r.feed = newFeed(r.s.arena, r.s.inputs, l, r.updates*rec.Accumulate-r.state.Step)
	return nil
}

// judgedHeld measures a path on all held-out images, with the statistics that the recipe says.
func (r *supernetRun) judgedHeld(ctx context.Context, w wanted) (Evaluation, error) {
	if r.course.Recipe.Recalibrate > 0 {
		return r.judge(ctx, w)
	}
	h, err := r.newHolding(ctx, w)
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
func (r *supernetRun) measure(ctx context.Context, path string, batch int) (float64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	h, err := r.newHolding(ctx, wanted{key: path})
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
func (r *supernetRun) newHolding(ctx context.Context, w wanted) (h holding, err error) {
	w.options = PathOptions{Transient: true}
	if h.Model, err = r.path(r.s, w); err != nil {
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

// saveOf writes the shared variables, with the constants of a path's network. Their running statistics are those that
// the latest paths left, of no one network.
func (r *supernetRun) saveOf(path, one string) error {
	network, err := r.SupernetJob.Paths.Path(one, len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	own := zoo.Variants(network.Network)[0]
	own.Images = ImagesOf(r.course.Data, r.side)
	metadata := Metadata(r.Space, own.String(), own.Constants, r.course.Data.Classes)
	metadata[SpaceKey] = r.Space
	metadata[HeldOutKey] = strconv.Itoa(r.HeldOut)
	AddSize(metadata, r.course.Recipe.Size)
	AddImages(metadata, r.course.Recipe.Images)
	return WriteShared(path, r.shared, r.s.Values(), metadata)
}
