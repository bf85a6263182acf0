package oneshot

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// derived picks the architecture that the weights of the mixture stand for when it has learned. By the published
// protocol, where the space has one for that, it is what the weights draw most often.
func (w *work) derived(ctx context.Context) error {
	m := w.trained.Mixture
	if m == nil || len(m.Epochs) == 0 {
		return errors.New("the supernet's training has left no weights of a mixture")
	}
	if err := w.logMixture(m); err != nil {
		return err
	}
	if drawing, ok := w.Deps.Space.(drawing); ok && w.SupernetPreset == search.PresetPublished {
		return w.drawn(ctx, drawing, m)
	}
	a, err := w.Deps.Space.Parse(m.Derived)
	if err != nil {
		return err
	}
	p := w.Found.Picked
	for _, e := range w.trained.Paths { // the path as it is written: in the places that it has in the mixture
		if e.Role == trainer.RoleDerived {
			p.Measured = run.Measured{Arch: a, Accuracy: e.Top1}
		}
	}
	p.All = []run.Measured{p.Measured}
	return w.within(a)
}

// drawing is a space whose mixtures draw architectures.
type drawing interface {
	Drawn(weights [][]float32, n int, s *philox.Stream) (a space.Arch, outside int, err error)
}

// drawnCells is how many cells the published protocol draws (Yu et al. 2020).
const drawnCells = 1000

// drawn picks by the published protocol.
func (w *work) drawn(ctx context.Context, d drawing, m *trainer.MixtureResult) error {
	last := m.Epochs[len(m.Epochs)-1].Weights
	a, outside, err := d.Drawn(last, drawnCells, philox.New(w.Seed, philox.PurposeSample, 0))
	if err != nil {
		return err
	}
	if err := w.within(a); err != nil {
		return err
	}
	found, err := w.measure(ctx, []space.Arch{a})
	if err != nil {
		return err
	}
	p := w.Found.Picked
	p.Measured, p.All = found[0], found
	p.Drawn, p.Outside = drawnCells, outside
	return nil
}

// within tells that the one architecture that there is to pick is not within the limits.
func (w *work) within(a space.Arch) error {
	if w.Allowed(a) {
		return nil
	}
	return fmt.Errorf("%v, which the weights of the mixture stand for, is not within the limits: %s knows no other", a,
		w.name)
}

// logMixture logs how the weights learned: of each choice the mean over the decisions that have it.
func (w *work) logMixture(m *trainer.MixtureResult) error {
	for _, e := range m.Epochs {
		shares, rows, entropy := map[string]float64{}, map[string]float64{}, 0.0
		for i, row := range m.Rows {
			for k, choice := range row.Choices {
				weight := float64(e.Weights[i][k])
				shares[choice] += weight
				rows[choice]++
				if weight > 0 {
					entropy -= weight * math.Log(weight) / float64(len(m.Rows))
				}
			}
		}
		for choice := range shares {
			shares[choice] /= rows[choice]
		}
		if err := w.log(report.EventMixture, e.Epoch, shares, map[string]float64{"entropy": entropy}); err != nil {
			return err
		}
	}
	return nil
}
