package supernet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
)

// Policy is the sampler of ENAS (Pham et al., "Efficient Neural Architecture Search via Parameter Sharing", ICML 2018):
// paths are what a controller draws, which after each epoch learns from the accuracies that its samples have with the
// shared weights on held-out images.
type Policy struct {
	dev   *exec.Device
	c     *controller.Controller
	sp    space.Space
	seed  uint64
	from  int // epochs before it learns
	state policyState
}

var _ trainer.Sampler = (*Policy)(nil)

// policyState is what a policy has learned: JSON, of which the same state has the same bytes.
type policyState struct {
	Controller []byte        `json:"controller"`
	Drawn      []string      `json:"drawn"` // what the updates until it learns again take their paths from
	Epochs     []PolicyEpoch `json:"epochs"`
}

// PolicyEpoch is what the controller did after an epoch.
type PolicyEpoch struct {
	Epoch   int                `json:"epoch"`
	Reward  float64            `json:"reward"`  // mean accuracy of its samples, 0..1
	Entropy float64            `json:"entropy"` // nats a sequence
	Ops     map[string]float64 `json:"ops"`     // shares of operations in what it then draws
}

// The schedule of ENAS: updates of the controller after each epoch, and paths drawn for the next one.
const (
	policyUpdates = 30
	policyDrawn   = 512
)

// PolicyConfig are this project's settings of the controller, whose bonuses for diversity fade over most of the epochs
// in which it learns.
func PolicyConfig(r trainer.SupernetRecipe) controller.Config {
	c := controller.Default()
	c.Batch, c.LR, c.Iterations = 10, 3.5e-3, policyUpdates*(r.Epochs-r.ControllerEpochs())*4/5
	return c
}

// NewPolicy is a policy of a space with a fresh controller, which computes on a device and learns when so many epochs
// have passed. Close it after use.
func NewPolicy(device exec.Config, sp space.Space, c controller.Config, from int) (*Policy, error) {
	dev, err := exec.Open(device)
	if err != nil {
		return nil, err
	}
	p := &Policy{dev: dev, sp: sp, seed: c.Seed, from: from}
	if p.c, err = controller.New(dev, sp, c); err == nil {
		err = p.draw()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close frees the memory.
func (p *Policy) Close() {
	if p.c != nil {
		p.c.Close()
	}
	p.dev.Close()
}

// draw draws what the next updates take their paths from.
func (p *Policy) draw() error {
	b, err := p.c.Propose(policyDrawn)
	if err != nil {
		return err
	}
	p.state.Drawn = p.state.Drawn[:0]
	for _, a := range b.Archs {
		p.state.Drawn = append(p.state.Drawn, a.String())
	}
	return nil
}

// Paths are one of those that the controller drew after the latest epoch.
func (p *Policy) Paths(update int) ([]string, error) {
	s := philox.Key{Seed: p.seed, Purpose: philox.PurposePath}.From(uint32(update), 0)
	return []string{p.state.Drawn[s.Intn(len(p.state.Drawn))]}, nil
}

// Learn updates the controller. The samples of an update are measured on the same batch.
func (p *Policy) Learn(ctx context.Context, epoch int, measure trainer.Measure) error {
	if epoch <= p.from {
		return p.draw()
	}
	at := PolicyEpoch{Epoch: epoch}
	for u := range policyUpdates {
		b, err := p.c.Sample()
		if err != nil {
			return err
		}
		places, all := map[space.Arch]int{}, []string{} // the distinct ones
		for _, a := range b.Archs {
			if _, known := places[a]; !known {
				places[a], all = len(all), append(all, a.String())
			}
		}
		batch := (epoch-1)*policyUpdates + u
		accuracies, err := measure(ctx, all, batch, batch+1)
		if err != nil {
			return err
		}
		rewards := make([]float64, len(b.Archs))
		for i, a := range b.Archs {
			rewards[i] = accuracies[places[a]]
		}
		stats, err := p.c.Update(rewards)
		if err != nil {
			return err
		}
		at.Reward += stats.MeanReward / policyUpdates
		at.Entropy += stats.Entropy / policyUpdates
	}
	if err := p.draw(); err != nil {
		return err
	}
	var err error
	if at.Ops, err = OpShares(p.sp, p.state.Drawn); err != nil {
		return err
	}
	p.state.Epochs = append(p.state.Epochs, at)
	return nil
}

// Epochs are what the controller did so far.
func (p *Policy) Epochs() []PolicyEpoch { return p.state.Epochs }

// Candidates are the distinct ones of n samples of the controller, in the order in which they were drawn.
func (p *Policy) Candidates(n int) ([]space.Arch, error) {
	b, err := p.c.Propose(n)
	if err != nil {
		return nil, err
	}
	seen := map[space.Arch]bool{}
	var out []space.Arch
	for _, a := range b.Archs {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out, nil
}

// State is what Restore takes.
func (p *Policy) State() ([]byte, error) {
	s := p.state
	s.Controller = p.c.State()
	return json.Marshal(s)
}

// Restore goes on from a State.
func (p *Policy) Restore(state []byte) error {
	var s policyState
	err := json.Unmarshal(state, &s)
	if err == nil && len(s.Drawn) == 0 {
		err = errors.New("it has drawn no paths")
	}
	if err == nil {
		err = p.c.Restore(s.Controller)
	}
	if err != nil {
		return fmt.Errorf("the state of a policy: %w", err)
	}
	p.state = s
	return nil
}

// OpShares are the shares of operations among the nodes of architectures, by their names in the space's alphabet; what
// every architecture has, input and output, is left out.
func OpShares(sp space.Space, archs []string) (map[string]float64, error) {
	names := sp.Alphabet()
	counts, total := make([]float64, len(names)), 0.0
	for _, text := range archs {
		a, err := sp.Parse(text)
		if err != nil {
			return nil, err
		}
		for _, op := range a.Graph().Ops {
			if name := names[op]; name != "input" && name != "output" {
				counts[op]++
				total++
			}
		}
	}
	shares := map[string]float64{}
	for op, n := range counts {
		if name := names[op]; total > 0 && name != "input" && name != "output" {
			shares[name] = n / total
		}
	}
	return shares, nil
}
