package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
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
