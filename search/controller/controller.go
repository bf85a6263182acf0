// Package controller learns where good architectures are: an LSTM takes the decisions that make one (paper section
// 3.3), and REINFORCE (Williams 1992) raises the probability of what was rewarded.
package controller

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/rnn"
	"github.com/ctnas/ctnas/search/space"
)

// Config holds the hyper-parameters.
type Config struct {
	Hidden      int     // width of the LSTM
	Batch       int     // architectures an iteration
	LR          float64 // Adam's learning rate
	Betas       [2]float64
	Eps         float64  // Adam's; 0: 1e-8
	WeightDecay float64  // L2, added to the gradient
	Clip        float64  // limit of the gradient's norm, after backward; 0: none
	Attention   []string // heads that look at their choices' embeddings; the others are linear
	Ranks       bool     // learn from a reward's rank in the batch, (0, 1), instead of the reward
	Power       float64  // learn from the reward (or rank) to this power; 0: 1
	Baseline    float64  // decay of the moving average that is subtracted from rewards; 0: nothing is subtracted
	Normalize   bool     // divide advantages by their moving standard deviation
	Repeat      float64  // takes Repeat*log(k) off the advantage of an architecture that is k times in the batch
	Entropy     float64  // weight of the entropy bonus, of the summed entropy of a sequence
	RepeatEnd   float64  // the weights from iteration Iterations on; in between they change along a line
	EntropyEnd  float64
	Iterations  int // 0: they stay as they are
	Seed        uint64
}

// Released is the setting of the code released with the paper: one architecture an iteration, no control variate, no
// clipping.
func Released() Config {
	return Config{Hidden: 64, Batch: 1, LR: 2e-4, Betas: [2]float64{0.5, 0.999}, WeightDecay: 5e-4, Entropy: 5e-4,
		Attention: []string{"node"}}
}

// ENAS is the setting of Pham et al. 2018 as Yu et al. 2020 have it (kcyu2014/eval-nas,
// search_policies/cnn/enas_policy), but for the tanh and the temperature of its softmax, which this
// controller does not have.
func ENAS() Config {
	return Config{Hidden: 64, Batch: 10, LR: 3.5e-3, Betas: [2]float64{0.1, 0.999}, Eps: 1e-3, Baseline: 0.99,
		Entropy: 1e-4, Attention: []string{"node"}}
}

// Default learns within 300 batches: normalised advantages, a rate 25 times the released one, and bonuses for diversity
// that fade (over Iterations, best about 0.8 of the batches planned). The square root keeps a few high probabilities of
// beating a strong baseline from outweighing everything else.
func Default() Config {
	return Config{Hidden: 64, Batch: 64, LR: 5e-3, Betas: [2]float64{0.9, 0.999}, Clip: 1, Power: 0.5,
		Baseline: 0.9, Normalize: true, Repeat: 1, RepeatEnd: 0.4, Entropy: 1e-2, EntropyEnd: 3e-3, Iterations: 250,
		Attention: []string{"node"}}
}

func (c Config) check() error {
	switch {
	case c.Batch < 1 || c.Batch > 4096:
		return fmt.Errorf("batch of %d: want 1..4096", c.Batch)
	case !(c.LR > 0) || !(c.WeightDecay >= 0) || !(c.Clip >= 0) || !(c.Repeat >= 0) || !(c.RepeatEnd >= 0) ||
		!(c.Entropy >= 0) || !(c.EntropyEnd >= 0):
		return fmt.Errorf("learning rate %g, weight decay %g, clipping %g, repeat %g to %g, entropy %g to %g", c.LR,
			c.WeightDecay, c.Clip, c.Repeat, c.RepeatEnd, c.Entropy, c.EntropyEnd)
	case !(c.Baseline >= 0) || c.Baseline >= 1 || !(c.Betas[0] >= 0) || c.Betas[0] >= 1 ||
		!(c.Betas[1] >= 0) || c.Betas[1] >= 1:
		return fmt.Errorf("decays %g, %v: want [0, 1)", c.Baseline, c.Betas)
	case !(c.Eps >= 0):
		return fmt.Errorf("epsilon %g", c.Eps)
	case !(c.Power >= 0):
		return fmt.Errorf("power %g", c.Power)
	case c.Iterations < 0:
		return fmt.Errorf("%d iterations", c.Iterations)
	}
	return nil
}

// Batch is what the controller drew: for each architecture its decisions, the logarithm of their probability and the
// sum of the decisions' entropies in nats.
type Batch struct {
	Actions [][]int
	Archs   []space.Arch
	LogP    []float32
	Entropy []float32
}

// Stats describes an update.
type Stats struct {
	MeanReward float64
	Entropy    float64 // mean of the batch, nats a sequence
	GradNorm   float64 // before clipping
	Baseline   float64 // what was subtracted from the rewards, or from what Ranks and Power make of them
}

// Controller owns a policy and its training. It belongs to one goroutine.
type Controller struct {
	cfg  Config
	sp   space.Space
	net  *rnn.Network
	ar   *exec.Arena
	vars variables

	draw, learn           *exec.Program
	params, m, v          *exec.Buffer
	counter, adam         *exec.Buffer
	actions               *exec.Buffer
	logp, entropy         *exec.Buffer
	dlogp, dentropy, norm *exec.Buffer
	archs                 []space.Arch // of the batch
	fresh                 bool         // the tape belongs to a batch that Sample returned
}

// variables is the part of the state that lives outside the device.
type variables struct {
	Updates  int64
	Average  float64 // moving average of rewards
	Variance float64 // moving average of squared advantages
}

// New makes a controller of a space with weights drawn from U(-0.1, 0.1).
func New(dev *exec.Device, sp space.Space, cfg Config) (*Controller, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("controller: %w", err)
	}
	net, err := rnn.NewNetwork(grammar(sp.Grammar(), cfg.Attention), cfg.Hidden)
	if err != nil {
		return nil, fmt.Errorf("controller of %s: %w", sp.Name(), err)
	}
	ar, n := dev.NewArena(), cfg.Batch
	c := &Controller{cfg: cfg, sp: sp, net: net, ar: ar, m: ar.Zeros(net.Size()), v: ar.Zeros(net.Size()),
		counter: ar.Ints([]int32{0}), adam: ar.Ints([]int32{0}), actions: ar.I32(n * net.Grammar.MaxSteps()),
		logp: ar.F32(n), entropy: ar.F32(n), dlogp: ar.F32(n), dentropy: ar.F32(n), norm: ar.F32(2)}
	weights := make([]float32, net.Size())
	stream := philox.New(cfg.Seed, philox.PurposeController0, 0)
	for _, t := range net.Tensors() {
		values := make([]float32, t.Rows*t.Cols)
		for i := range values {
			values[i] = float32(0.2*stream.Float64() - 0.1)
		}
		t.Put(weights, values)
	}
	c.params = ar.Floats(weights)
	c.draw = ar.NewProgram("controller rollout")
	tape := rnn.RecordRollout(c.draw, c.rolloutOp())
	c.learn = ar.NewProgram("controller update")
	c.recordUpdate(c.learn, tape)
	return c, nil
}

// rolloutOp draws a batch.
func (c *Controller) rolloutOp() rnn.Rollout {
	return rnn.Rollout{Net: c.net, Params: c.params, Batch: c.cfg.Batch, Seed: c.cfg.Seed, Counter: c.counter,
		Actions: c.actions, LogP: c.logp, Entropy: c.entropy}
}

// recordUpdate appends the gradient of a rollout, by dlogp and dentropy, and Adam's step.
func (c *Controller) recordUpdate(p *exec.Program, tape *rnn.Tape) {
	grad := c.ar.F32(c.net.Size())
	rnn.RecordBackward(p, tape, rnn.Backward{DLogP: c.dlogp, DEntropy: c.dentropy, Grad: grad})
	optim.RecordNorm(p, optim.Norm{G: grad, Max: c.cfg.Clip, Out: c.norm})
	optim.RecordAdam(p, optim.Adam{W: c.params, G: grad, M: c.m, V: c.v, LR: c.ar.Floats([]float32{float32(c.cfg.LR)}),
		Step: c.adam, Scale: c.norm.Slice(1, 1), Beta1: c.cfg.Betas[0], Beta2: c.cfg.Betas[1],
		Eps:         cmp.Or(c.cfg.Eps, 1e-8),
		WeightDecay: c.cfg.WeightDecay})
}

func grammar(g *space.Grammar, attention []string) rnn.Grammar {
	out := rnn.Grammar{First: rnn.Step(g.First)}
	for _, h := range g.Heads {
		kind := rnn.Linear
		if slices.Contains(attention, h.Name) {
			kind = rnn.Attention
		}
		out.Heads = append(out.Heads, rnn.Head{Name: h.Name, Kind: kind, Choices: h.Choices})
	}
	for _, v := range g.Variants {
		steps := make([]rnn.Step, len(v))
		for i, s := range v {
			steps[i] = rnn.Step(s)
		}
		out.Variants = append(out.Variants, steps)
	}
	return out
}

// Rollout is the recorded rollout of a batch, for measuring.
func (c *Controller) Rollout() *exec.Program { return c.draw }

// Close frees the memory.
func (c *Controller) Close() { c.ar.Free() }

// Config is what the controller was made with.
func (c *Controller) Config() Config { return c.cfg }

// Sample draws a batch; Update then learns from its rewards.
func (c *Controller) Sample() (Batch, error) {
	b, err := c.rollout(c.cfg.Batch)
	c.archs, c.fresh = b.Archs, err == nil
	return b, err
}

// Propose draws n architectures that Update does not learn from.
func (c *Controller) Propose(n int) (Batch, error) {
	c.fresh = false
	var all Batch
	for len(all.Archs) < n {
		b, err := c.rollout(min(c.cfg.Batch, n-len(all.Archs)))
		if err != nil {
			return Batch{}, err
		}
		all = Batch{append(all.Actions, b.Actions...), append(all.Archs, b.Archs...), append(all.LogP, b.LogP...),
			append(all.Entropy, b.Entropy...)}
	}
	return all, nil
}

// rollout runs the program and decodes the first n sequences.
func (c *Controller) rollout(n int) (Batch, error) {
	c.draw.Run(1)
	steps := c.net.Grammar.MaxSteps()
	raw := make([]int32, n*steps)
	c.actions.ReadI32(0, raw)
	b := Batch{Actions: make([][]int, n), Archs: make([]space.Arch, n), LogP: make([]float32, n),
		Entropy: make([]float32, n)}
	c.logp.ReadF32(0, b.LogP)
	c.entropy.ReadF32(0, b.Entropy)
	for i := range n {
		b.Actions[i] = decisions(raw[i*steps : (i+1)*steps])
		arch, err := c.sp.Decode(b.Actions[i])
		if err != nil {
			return Batch{}, fmt.Errorf("controller: decisions %v: %w", b.Actions[i], err)
		}
		b.Archs[i] = arch
	}
	return b, nil
}

// decisions is a sequence without what stands behind its end.
func decisions(raw []int32) []int {
	out := make([]int, 0, len(raw))
	for _, a := range raw {
		if a >= 0 {
			out = append(out, int(a))
		}
	}
	return out
}

// leastDeviation keeps normalised advantages from growing without limit when all rewards have become equal.
const leastDeviation = 1e-3

// Update learns from the rewards of the batch that Sample returned last, one an architecture:
//
//	loss = -mean(advantage * logp) - entropy weight * mean(entropy)
//
// where the advantage is the reward, after Ranks and Power, less the moving average of the batches before (of this one,
// the first time).
//
// Many sequences describe one architecture, so that a policy can hold on to a few architectures at a high entropy of
// sequences. Repeat works against that: it is an entropy bonus of architectures, with -log(k/Batch) in place of an
// architecture's probability.
func (c *Controller) Update(rewards []float64) (Stats, error) {
	n := c.cfg.Batch
	if !c.fresh {
		return Stats{}, fmt.Errorf("controller: an update without a batch sampled since the last one")
	}
	if len(rewards) != n {
		return Stats{}, fmt.Errorf("controller: %d rewards for a batch of %d", len(rewards), n)
	}
	var s Stats
	for i, r := range rewards {
		if math.IsNaN(r) || math.IsInf(r, 0) || r < 0 && c.cfg.Power != 0 && !c.cfg.Ranks {
			return Stats{}, fmt.Errorf("controller: reward %d is %g", i, r)
		}
		s.MeanReward += r / float64(n)
	}
	values := c.values(rewards)
	mean := 0.0
	for _, v := range values {
		mean += v / float64(n)
	}
	entropy := make([]float32, n)
	c.entropy.ReadF32(0, entropy)
	for _, e := range entropy {
		s.Entropy += float64(e) / float64(n)
	}
	if c.cfg.Baseline > 0 {
		if c.vars.Updates == 0 {
			c.vars.Average = mean
		}
		s.Baseline = c.vars.Average
		c.vars.Average = c.cfg.Baseline*c.vars.Average + (1-c.cfg.Baseline)*mean
	}
	scale := 1.0
	if c.cfg.Normalize {
		square := 0.0
		for _, v := range values {
			square += (v - s.Baseline) * (v - s.Baseline) / float64(n)
		}
		if c.vars.Updates == 0 {
			c.vars.Variance = square
		}
		c.vars.Variance = 0.9*c.vars.Variance + 0.1*square
		scale = 1 / math.Max(leastDeviation, math.Sqrt(c.vars.Variance))
	}
	dlogp, dentropy := make([]float32, n), make([]float32, n)
	repeatWeight, entropyWeight := c.weights()
	repeat, meanRepeat := c.repeats()
	for i, v := range values {
		advantage := (v-s.Baseline)*scale - repeatWeight*(repeat[i]-meanRepeat)
		dlogp[i] = float32(-advantage / float64(n))
		dentropy[i] = float32(-entropyWeight / float64(n))
	}
	c.dlogp.WriteF32(0, dlogp)
	c.dentropy.WriteF32(0, dentropy)
	c.learn.Run(1)
	c.vars.Updates++
	c.fresh = false
	s.GradNorm = float64(c.norm.Values()[0])
	return s, nil
}

// values turns rewards into what the policy learns from. Equal rewards share the mean of their ranks.
func (c *Controller) values(rewards []float64) []float64 {
	out := slices.Clone(rewards)
	if c.cfg.Ranks {
		sorted := slices.Sorted(slices.Values(rewards))
		for i, r := range rewards {
			below, found := slices.BinarySearch(sorted, r)
			above := below
			for found && above < len(sorted) && sorted[above] == r {
				above++
			}
			out[i] = float64(below+above) / float64(2*len(sorted))
		}
	}
	if c.cfg.Power != 0 {
		for i, v := range out {
			out[i] = math.Pow(v, c.cfg.Power)
		}
	}
	return out
}

// repeats gives the logarithm of how often each architecture of the batch is in it, and the mean.
func (c *Controller) repeats() (logs []float64, mean float64) {
	count := make(map[space.Arch]float64, len(c.archs))
	for _, a := range c.archs {
		count[a]++
	}
	logs = make([]float64, len(c.archs))
	for i, a := range c.archs {
		logs[i] = math.Log(count[a])
		mean += logs[i] / float64(len(logs))
	}
	return logs, mean
}

// weights are those of repeats and of entropy at the next update.
func (c *Controller) weights() (repeat, entropy float64) {
	if c.cfg.Iterations == 0 {
		return c.cfg.Repeat, c.cfg.Entropy
	}
	done := math.Min(1, float64(c.vars.Updates)/float64(c.cfg.Iterations))
	return c.cfg.Repeat + (c.cfg.RepeatEnd-c.cfg.Repeat)*done, c.cfg.Entropy + (c.cfg.EntropyEnd-c.cfg.Entropy)*done
}

// Updates is the number of updates done.
func (c *Controller) Updates() int { return int(c.vars.Updates) }

const stateMagic = "ctnas controller 1\n"

// State is everything that later samples and updates depend on, exactly; take it after Update. Layout: a line that
// names the format and its version, the number of parameters (uint32), the rollouts and Adam's steps so far (int32),
// updates (int64), moving averages (float64), then weights, first and second moments (float32 each), all little-endian.
func (c *Controller) State() []byte {
	out := []byte(stateMagic)
	add := func(v any) {
		out, _ = binary.Append(out, binary.LittleEndian, v) // fixed-size values always fit
	}
	ints := make([]int32, 2)
	c.counter.ReadI32(0, ints[:1])
	c.adam.ReadI32(0, ints[1:])
	add(uint32(c.net.Size()))
	add(ints)
	add(c.vars)
	for _, b := range []*exec.Buffer{c.params, c.m, c.v} {
		add(b.Values())
	}
	return out
}

// Restore continues from a State of a controller with the same space and hidden size; otherwise, or when the bytes are
// damaged in length, nothing changes.
func (c *Controller) Restore(state []byte) error {
	n := c.net.Size()
	if want := len(stateMagic) + 4 + 8 + binary.Size(c.vars) + 12*n; len(state) != want {
		return fmt.Errorf("controller state of %d bytes: want %d for %s with hidden size %d", len(state), want,
			c.sp.Name(), c.cfg.Hidden)
	}
	if string(state[:len(stateMagic)]) != stateMagic {
		return fmt.Errorf("controller state begins with %q: want %q", state[:len(stateMagic)], stateMagic)
	}
	state = state[len(stateMagic):]
	var size uint32
	var vars variables
	ints, values := make([]int32, 2), make([]float32, 3*n)
	for _, v := range []any{&size, ints, &vars, values} {
		used, err := binary.Decode(state, binary.LittleEndian, v)
		if err != nil {
			return fmt.Errorf("controller state: %w", err)
		}
		state = state[used:]
	}
	if int(size) != n {
		return fmt.Errorf("controller state of %d parameters: want %d", size, n)
	}
	c.counter.WriteI32(0, ints[:1])
	c.adam.WriteI32(0, ints[1:])
	c.params.WriteF32(0, values[:n])
	c.m.WriteF32(0, values[n:2*n])
	c.v.WriteF32(0, values[2*n:])
	c.vars = vars
	c.fresh = false
	return nil
}
