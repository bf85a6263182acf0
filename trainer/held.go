package trainer

import (
	"context"

	"github.com/ctnas/ctnas/trainer/data"
)

// judge measures a path on the validation images, with statistics of its own.
func (r *supernetRun) judge(ctx context.Context, w wanted) (Evaluation, error) {
	w.options = PathOptions{EvalOnly: true}
	m, err := r.path(r.s, w)
	if err != nil {
		return Evaluation{}, err
	}
	d := r.course.Data
	if err := Recalibrate(ctx, m, d, r.course.Recipe, r.course.Seed, r.loading()); err != nil {
		return Evaluation{}, err
	}
	return Evaluate(ctx, m, d, d.Validation, d.EvalTransform(m.Net.Input().H), r.loading())
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
