package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// SupernetStep is an update of a supernet by itself, over a batch that stays on the device, as Step is one of a
// network.
type SupernetStep struct {
	*Supernet
	optimizer *optimizer
	rate      float64
	smoothing float64
	done      uint32
}

// StepPath is a path of an update.
type StepPath struct {
	Key   string // names it, see Supernet.Path
	Build func() (nn.Path, error)
}

// NewSupernetStep puts a supernet on a device with a recipe's optimizer, at the recipe's highest rate. Variables,
// images and labels are not set; batch, side and classes are those of the options.
func NewSupernetStep(d *exec.Device, shared nn.Shared, o SupernetOptions, r Recipe) (*SupernetStep, error) {
	r.Batch = o.Batch
	if err := r.Check(); err != nil {
		return nil, err
	}
	s, err := NewSupernet(d, shared, o)
	if err != nil {
		return nil, err
	}
	u, err := newOptimizer(s.Parameters, r.Optimization)
	if err != nil {
		s.Close()
		return nil, err
	}
	u.begin()
	return &SupernetStep{Supernet: s, optimizer: u, rate: r.LR, smoothing: r.LabelSmoothing}, nil
}

// Run trains some paths on Images and Labels once, the first with the labels and the others with what the first
// predicts (Yu et al. 2020, BigNAS), and returns their losses as they were before the update; those of the others are
// divergences from the first one's prediction. Gradients are summed. The parameters stay where a loss or the gradient
// is not finite.
func (s *SupernetStep) Run(paths ...StepPath) (losses []float64, err error) {
	s.ZeroGradient()
	models := make([]*Model, len(paths))
	for i, p := range paths {
		o := PathOptions{Loss: nn.Loss{Smoothing: s.smoothing}, Teach: true}
		if i > 0 {
			o = PathOptions{Loss: nn.Loss{Distill: 1, Temperature: 1, TeacherAlone: true}}
		}
		if models[i], err = s.Path(p.Key, o, p.Build); err != nil {
			return nil, err
		}
		models[i].Step(s.done, 0)
	}
	s.FinishGradient()
	s.done++
	for _, m := range models {
		losses = append(losses, m.TotalLoss())
	}
	norm := s.GradientNorm()
	for _, loss := range append([]float64{norm}, losses...) {
		if !finite(loss) {
			return losses, fmt.Errorf("update %d: losses %g, norm of the gradient %g", s.done, losses, norm)
		}
	}
	s.optimizer.update(s.rate)
	return losses, nil
}
