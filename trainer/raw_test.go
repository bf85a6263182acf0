package trainer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// resampledHere is a run whose images the processor has resampled, as it does for itself.
type resampledHere struct {
	*run
	loader *data.Loader
}

func (r resampledHere) step(ctx context.Context, b *data.Batch, part int) error {
	own, err := r.loader.Next(ctx)
	if err != nil {
		return err
	}
	r.m.Images.WriteF32(0, own.Images)
	return r.run.step(ctx, b, part)
}

// A training whose images an accelerator has made of bytes is one whose images the processor has made, but for
// rounding: with crops, colours, blanked squares and mixtures.
func TestRawTraining(t *testing.T) {
	for _, device := range kerneltest.Accelerators() {
		j := shapesJob(t, func(r *Recipe) {
			r.Batch, r.Mixup, r.Jitter, r.Cutout, r.Optimizer = 8, 0.3, 0.3, 4, "sgd"
		})
		j.Net = batchNormed(t)
		train := func(here bool) []float32 {
			r := newRun(j, Deps{Device: exec.Config{Device: device}})
			_, err := r.open(t.Context())
			require.NoError(t, err)
			if here {
				l, err := data.NewLoader(j.Data.Train, data.Config{Batch: j.Recipe.Batch, Seed: j.Seed, Train: true,
					Mixup: j.Recipe.Mixup, Transform: TrainTransform(j.Data, j.Recipe, j.Net)})
				require.NoError(t, err)
				defer l.Close()
				r.learner = resampledHere{r, l}
			}
			for range 4 {
				require.NoError(t, r.update(t.Context()))
			}
			defer func() { require.NoError(t, r.close(nil)) }()
			return r.m.State.Values()
		}
		got := train(false)
		require.InDeltaSlice(t, train(true), got, 1e-5)
		j.Seed++
		require.NotEqual(t, got, train(false))
	}
}

// Evaluations and statistics of norms too: resized and cut, and of images that all have the network's size.
func TestRawEvaluation(t *testing.T) {
	d := shapesJob(t, nil).Data
	small := func(side int) *nn.Network {
		b, x := nn.NewBuilder("small", nn.Shape{H: side, W: side, C: 3})
		x = b.Scope("one").ConvNorm(x, nn.Conv2D(3, 8).Strided(2), nn.ReLU)
		b.Output(b.Apply("classifier", nn.Linear{Out: 10, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
		net, err := b.Build()
		require.NoError(t, err)
		return net
	}
	r := RecipeDefaults()
	r.Batch, r.Recalibrate = 4, 2
	for _, device := range kerneltest.Accelerators() {
		for _, side := range []int{14, 32} {
			var evaluations [2]Evaluation
			var states [2][]float32
			for k, dev := range []*exec.Device{openTest(t), openOn(t, device, exec.FP32)} {
				m, err := NewModel(dev, small(side), Options{Batch: 4, EvalOnly: true})
				require.NoError(t, err)
				m.Initialize(nn.HeFanOut, 3)
				require.NoError(t, Recalibrate(t.Context(), m, d, r, 5, Loading{}))
				states[k] = m.State.Values()
				evaluations[k], err = Evaluate(t.Context(), m, d, first(d.Train, 7), d.EvalTransform(side), Loading{})
				require.NoError(t, err)
				m.Close()
			}
			require.InDeltaSlice(t, states[0], states[1], 1e-4)
			require.Equal(t, evaluations[0].Images, evaluations[1].Images)
			require.InDelta(t, float64(evaluations[0].Loss), float64(evaluations[1].Loss), 1e-4)
		}
	}
}

// A teacher sees the images that an accelerator has made, normalised in its own way.
func TestRawTeacher(t *testing.T) {
	d := shapesJob(t, nil).Data
	rec := RecipeDefaults()
	rec.Distill = 1
	for _, device := range kerneltest.Accelerators() {
		for _, own := range []bool{false, true} {
			teacher := newTeacher(t)
			if own {
				teacher.Images = &zoo.Images{Side: 32, Crop: 1, Rounding: "round", Interpolation: zoo.Bilinear,
					Mean: [3]float32{0.1, 0.7, 0.4}, Std: [3]float32{0.5, 1, 0.2}, Channels: "RGB"}
			}
			var logits [2][]float32
			for k, dev := range []*exec.Device{openTest(t), openOn(t, device, exec.FP32)} {
				student, err := NewModel(dev, shapesNetwork(t), Options{Batch: 3,
					Loss: nn.Loss{Distill: 1, Temperature: 1}})
				require.NoError(t, err)
				l, err := teacher.distil(student, rec, d)
				require.NoError(t, err)
				images, _ := kerneltest.Random(student.Images.Len(), 9)
				b := &data.Batch{N: 3, Labels: make([]int32, 3)}
				if !dev.Accelerated() {
					b.Images = images
				}
				student.Images.WriteF32(0, images)
				l.predict(b, student)
				logits[k] = student.Teacher.Values()
				l.m.Close()
				student.Close()
			}
			require.InDeltaSlice(t, logits[0], logits[1], 1e-4)
		}
	}
}
