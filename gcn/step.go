package gcn

import (
	"github.com/ctnas/ctnas/kernels/exec"
)

// Step is one member's recorded update, by itself: what Train repeats. It is for measuring.
type Step struct{ t *trainer }

// NewStep records the update of a comparator's first member on a device that the caller keeps open.
func NewStep(dev *exec.Device, c Config, data Data, seed uint64) (*Step, error) {
	if err := data.check(c, true); err != nil {
		return nil, err
	}
	c = c.adapted(len(data.Labels))
	e, err := newComparator(c, data).encode(data)
	if err != nil {
		return nil, err
	}
	t, err := newTrainer(dev, c, e, data, seed, 0)
	return &Step{t}, err
}

// NewBatchStep records the released update over one batch of all labelled graphs, paired with a permutation of itself:
// the data stay on the device, and each run repeats the update.
func NewBatchStep(dev *exec.Device, c Config, data Data, seed uint64) (*Step, error) {
	r, err := newReleased(dev, c, data, seed, false, len(data.Labels))
	if err != nil {
		return nil, err
	}
	_, err = r.Epoch(nil, nil)
	return &Step{r.train.trainer}, err
}

// Program is the recorded update.
func (s *Step) Program() *exec.Program { return s.t.program }

// Run does n updates and returns the loss of the last.
func (s *Step) Run(n int) float64 {
	s.t.program.Run(n)
	return float64(s.t.loss.Values()[0])
}

// Close frees the memory.
func (s *Step) Close() { s.t.ar.Free() }
