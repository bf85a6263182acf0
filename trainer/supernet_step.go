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
	alpha     *alphaOptimizer // of RunMixture
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

// RunMixture is an update of α in first order, by Adam as DARTS has it, and one of the weights (Liu et al. 2019): the
// one on the second images and labels, the other on the first ones. It returns both losses.
func (s *SupernetStep) RunMixture(p StepPath) (alpha, weights float64, err error) {
	if s.alpha == nil {
		s.alpha = newAlphaOptimizer(s.Supernet, Mixing{AlphaLR: 3e-4, AlphaBeta1: 0.5, AlphaBeta2: 0.999,
			AlphaDecay: 1e-3})
	}
	pass := func(o PathOptions) (*Model, error) {
		m, err := s.Path(p.Key, o, p.Build)
		if err == nil {
			s.Mixture.Soften()
			m.Step(s.done, 0)
			s.done++
		}
		return m, err
	}
	s.Mixture.ZeroGradient()
	m, err := pass(PathOptions{FixedWeights: true, Second: true})
	if err != nil {
		return 0, 0, err
	}
	alpha = m.TotalLoss()
	s.Mixture.FinishGradient(alpha)
	s.alpha.program.Run(1)
	s.ZeroGradient()
	if m, err = pass(PathOptions{FixedMixture: true}); err != nil {
		return alpha, 0, err
	}
	s.FinishGradient()
	weights = m.TotalLoss()
	if norm := s.GradientNorm(); !finite(alpha) || !finite(weights) || !finite(norm) {
		return alpha, weights, fmt.Errorf("losses %g, %g, norm of the gradient %g", alpha, weights, norm)
	}
	s.optimizer.update(s.rate)
	return alpha, weights, nil
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
