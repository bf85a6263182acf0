package trainer

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Step is a training step by itself, over a batch that stays on the device: what benchmarks and comparisons run.
type Step struct {
	*Model
	optimizer *optimizer
	rate      float64
	done      uint32
}

// NewStep puts a network on a device with a recipe's optimizer, at the recipe's highest rate. Variables, images and
// labels are not set.
func NewStep(d *exec.Device, net *nn.Network, r Recipe) (*Step, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	m, err := NewModel(d, net, Options{Batch: r.Batch, Loss: nn.Loss{Smoothing: r.LabelSmoothing}, Clip: r.Clip})
	if err != nil {
		return nil, err
	}
	o, err := newOptimizer(m.Parameters, r.Optimization)
	if err != nil {
		m.Close()
		return nil, err
	}
	o.begin()
	return &Step{Model: m, optimizer: o, rate: r.LR}, nil
}

// Programs are what a step runs on the device.
func (s *Step) Programs() []*exec.Program { return []*exec.Program{s.training[0], s.optimizer.program} }

// Run trains on Images and Labels once and returns the loss, as it was before the update. The parameters stay where the
// loss or the gradient is not finite.
func (s *Step) Run() (loss float64, err error) {
	s.Model.Step(s.done, 0)
	s.done++
	loss = s.TotalLoss()
	if norm := s.GradientNorm(); !finite(loss) || !finite(norm) {
		return loss, fmt.Errorf("step %d: loss %g, norm of the gradient %g", s.done, loss, norm)
	}
	s.optimizer.update(s.rate)
	return loss, nil
}

// RankedStep is an update on several ranks, over a batch that is held in memory. Each is divided among the ranks as a
// training divides its batches.
type RankedStep struct{ r *run }

// NewRankedStep puts a job's network on the devices, with the first batch of its images. There is no folder. However
// often it runs it is in the job's first epochs.
func NewRankedStep(ctx context.Context, j Job, d Deps) (s *RankedStep, err error) {
	j.Recipe.Epochs, d.Dir = 1<<19, ""
	if err := j.Recipe.Check(); err != nil {
		return nil, err
	}
	s = &RankedStep{newRun(j, d)}
	defer func() {
		if err != nil {
			err = s.r.close(err)
		}
	}()
	defer exec.Catch(&err)
	if _, err := s.r.open(ctx); err != nil {
		return nil, err
	}
	first, err := s.r.feed.next(ctx)
	if err != nil {
		return nil, err
	}
	held := first.Clone()
	s.r.feed.loader.Close()
	s.r.feed.next = func(context.Context) (*data.Batch, error) { return held, nil }
	return s, s.Run(ctx)
}

// Run makes an update.
func (s *RankedStep) Run(ctx context.Context) (err error) {
	defer exec.Catch(&err)
	return s.r.update(ctx)
}

// Close gives the devices back.
func (s *RankedStep) Close() error { return s.r.close(nil) }
