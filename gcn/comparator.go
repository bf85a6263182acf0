package gcn

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/optim"
	"golang.org/x/sync/errgroup"
)

// Loss is what a comparator is trained to do.
type Loss string

const (
	Comparison Loss = "comparison" // binary cross-entropy of all pairs (paper equation 5): CTNAS
	Ranking    Loss = "ranking"    // hinge on all pairs: ReNAS
	Regression Loss = "regression" // squared error of standardised labels: RegressionNAS
)

// Config is a comparator: its network and how it is trained.
type Config struct {
	Network
	Members int  `json:"members"` // networks whose standardised scores are averaged
	Loss    Loss `json:"loss"`
	// The weight of a Gaussian process on the features beside the networks; 0: there is none.
	Process float64 `json:"process,omitempty"`
	// Folds of the labels, for each of which a further network is trained without it to tell how sure the others may
	// be. 0, or fewer than four labels a fold: they are taken at their word.
	Folds int `json:"folds,omitempty"`
	// NoiseFloor and NoiseSlope model a label's standard deviation, floor + slope·(best - label), in units of accuracy
	// (0..1): one training run of a good network repeats better than one of a bad network. Both zero: labels are taken
	// as exact.
	NoiseFloor float64 `json:"noise_floor,omitempty"`
	NoiseSlope float64 `json:"noise_slope,omitempty"`
	Margin     float64 `json:"margin,omitempty"` // of the ranking loss

	Steps  int     `json:"steps"` // updates, each over all pairs
	LR     float64 `json:"lr"`
	Warmup int     `json:"warmup,omitempty"`
	// The learning rate falls to zero along half a cosine; otherwise constant.
	Cosine      bool    `json:"cosine,omitempty"`
	Beta1       float64 `json:"beta1"`
	Beta2       float64 `json:"beta2"`
	WeightDecay float64 `json:"weight_decay"`
	Decoupled   bool    `json:"decoupled,omitempty"` // AdamW; otherwise the decay is part of the gradient
	// Sizes and regularisation are for some number of labels (adapted) and follow theirs.
	Adapt bool `json:"adapt,omitempty"`
}

// Data is a set of graphs with or without labels.
type Data struct {
	Alphabet int     // number of operations
	Places   *Places // what a gated network takes them apart to; nil: nothing
	Graphs   []Graph
	Features [][]float32 // one row a graph, not standardised; needed where the network uses features
	Labels   []float64   // accuracies in 0..1 of the first graphs; needed for training
	// Data exploration: pairs with targets that the comparator gave itself, among all graphs, and their weight beside
	// the labelled pairs.
	Pairs      []Pair
	PairWeight float64
}

// Pair is a comparison of two graphs of a Data: Target is the probability that A is better.
type Pair struct {
	A, B   int
	Target float32
}

// Comparator is a trained ensemble.
type Comparator struct {
	Config   Config
	Alphabet int
	Places   *Places     // of the operations; nil: they have none
	Scale    Standard    // of the features
	Counts   Standard    // of the counts of operations, for a linear term
	Weights  [][]float32 // one flat buffer a member
	Spread   []Spread    // of each member's scores over its training data
	Process  *Process    // nil: there is none
	Slope    float64     // what the networks' logits are multiplied by; 0: they are not
}

// Spread is the mean and standard deviation of a member's scores, by which they are put on one scale.
type Spread struct{ Mean, SD float64 }

// Standard is the mean and standard deviation of each feature.
type Standard struct{ Mean, SD []float32 }

// Progress is called now and then with a member's finished steps and its loss. It may be called from several
// goroutines.
type Progress func(member, step int, loss float64)

// block is how many updates run in one call.
const block = 50

// Train trains all members on all pairs of the labelled graphs. The result depends on the arguments and the instruction
// set, not on the number of threads.
func Train(ctx context.Context, device exec.Config, c Config, data Data, seed uint64,
	progress Progress) (*Comparator, error) {
	if err := data.check(c, true); err != nil {
		return nil, err
	}
	c = c.adapted(len(data.Labels))
	cmp := newComparator(c, data)
	cmp.Weights, cmp.Spread = make([][]float32, c.Members), make([]Spread, c.Members)
	encoding, err := cmp.encode(data)
	if err != nil {
		return nil, err
	}
	if c.Process > 0 {
		_, noise := c.targets(data.Labels)
		if cmp.Process, err = newProcess(ctx, data.Features, data.Labels, noise); err != nil {
			return nil, err
		}
	}
	if c.Folds > 0 && len(data.Labels) >= 4*c.Folds {
		if cmp.Slope, err = c.slope(ctx, device, data, seed); err != nil {
			return nil, err
		}
	}
	return cmp, members(ctx, device, c.Members, func(ctx context.Context, dev *exec.Device, m int) error {
		t, err := newTrainer(dev, c, encoding, data, seed, m)
		if err != nil {
			return err
		}
		defer t.ar.Free()
		for done := 0; done < c.Steps; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(block, c.Steps-done)
			t.program.Run(n)
			done += n
			l := float64(t.loss.Values()[0])
			if math.IsNaN(l) || math.IsInf(l, 0) {
				return fmt.Errorf("comparator member %d: the loss is %v after %d steps: lower the learning rate (%g)",
					m, l, done, c.LR)
			}
			if progress != nil {
				progress(m, done, l)
			}
		}
		cmp.Weights[m] = t.w.Values()
		cmp.Spread[m], err = t.spread(encoding)
		return err
	})
}

// newComparator is a comparator without weights, which knows the scale of what it is to be trained on.
func newComparator(c Config, data Data) *Comparator {
	cmp := &Comparator{Config: c, Alphabet: data.Alphabet}
	if c.Kind == Gated {
		cmp.Places = data.Places
	}
	if c.Features {
		cmp.Scale = standard(data.Features)
	}
	if c.Linear > 0 {
		rows := make([][]float32, len(data.Graphs))
		for i, g := range data.Graphs {
			rows[i] = Counts(g, data.Alphabet)
		}
		cmp.Counts = standard(rows)
	}
	return cmp
}

// members runs f for every member, several at a time where there are threads, each on a device of its own.
func members(ctx context.Context, device exec.Config, n int,
	f func(ctx context.Context, dev *exec.Device, m int) error) error {
	devices, err := workers(device, n)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int, n)
	for m := range n {
		next <- m
	}
	close(next)
	for _, config := range devices {
		group.Go(func() (err error) {
			defer exec.Catch(&err)
			dev, err := exec.Open(config)
			if err != nil {
				return err
			}
			defer dev.Close()
			for m := range next {
				if err := f(ctx, dev, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// streams is how many members train side by side on an accelerator: one alone leaves most of a large GPU idle.
const streams = 4

// workers divides the threads of the CPU, or the devices, between at most n members at a time.
func workers(device exec.Config, n int) ([]exec.Config, error) {
	var shares [][]exec.Config // of each device, as often as members train there at a time
	for _, one := range device.Each() {
		probe, err := exec.Open(one)
		if err != nil {
			return nil, err
		}
		device.Level = probe.Level() // of the first: all must be alike, or the result would depend on who trains what
		one.Level = device.Level
		share, threads := streams, probe.Threads()
		if !probe.Accelerated() {
			share = min(n, threads)
			one.Threads = max(1, threads/share)
		}
		probe.Close()
		shares = append(shares, slices.Repeat([]exec.Config{one}, share))
	}
	var out []exec.Config // the devices in turn
	for i := 0; i < len(shares[0]) && len(out) < n; i++ {
		for _, of := range shares {
			out = append(out, of[i])
		}
	}
	return out[:min(n, len(out))], nil
}

// trainer is the recorded update of one member.
type trainer struct {
	ar             *exec.Arena
	lay            *layout
	net            Network
	w, g, m, v     *exec.Buffer
	lr, step, loss *exec.Buffer
	score          *exec.Buffer // graphs x heads
	program        *exec.Program
}

func newTrainer(dev *exec.Device, c Config, e *Encoding, data Data, seed uint64, member int) (*trainer, error) {
	t := &trainer{ar: dev.NewArena(), net: c.Network}
	features := 0
	if c.Features && len(data.Features) > 0 {
		features = len(data.Features[0])
	}
	t.lay = c.layout(c.alphabetSize(data.Alphabet), data.Places, features)
	t.w = t.ar.Floats(t.lay.initial(seed, member))
	t.g, t.m, t.v = t.ar.Zeros(t.lay.size), t.ar.Zeros(t.lay.size), t.ar.Zeros(t.lay.size)
	t.lr, t.step, t.loss = t.ar.Zeros(1), t.ar.Ints([]int32{0}), t.ar.F32(1)
	t.program = t.ar.NewProgram("comparator step")
	schedule := optim.Schedule{Kind: optim.Constant, Peak: c.LR, Warmup: c.Warmup, Total: c.Steps}
	if c.Cosine {
		schedule.Kind = optim.Cosine
	}
	optim.RecordSchedule(t.program, schedule, t.step, t.lr)
	s := &pass{Network: c.Network, ar: t.ar, p: t.program, lay: t.lay, w: t.w, g: t.g, e: e,
		seed: seed + uint64(member)<<32, step: t.step}
	if packed := c.pack(dev, data.Graphs, data.Alphabet); packed != nil {
		s.n, s.packed = exec.Fixed(e.N), t.ar.Ints(graph.Words(packed))
	}
	s.forward()
	t.score = s.score
	labels, noise := c.targets(data.Labels)
	n := exec.Fixed(len(labels))
	explored := e.N > len(labels) || len(data.Pairs) > 0
	if explored {
		t.recordPairs(s, data)
	}
	switch c.Loss {
	case Regression:
		loss.Squared{N: n, Score: s.score, Label: t.ar.Floats(labels), DScore: s.dscore, Loss: t.loss,
			Accumulate: explored}.Record(t.program)
	case Ranking:
		if c.Pair {
			return nil, errors.New("the ranking loss needs an antisymmetric head")
		}
		loss.AllPairs{N: n, Score: s.score, Label: t.ar.Floats(labels), Kind: loss.Hinge, Margin: float32(c.Margin),
			DScore: s.dscore, Loss: t.loss, Accumulate: explored}.Record(t.program)
	case Comparison:
		l := loss.AllPairs{N: n, Score: s.score, Label: t.ar.Floats(labels), DScore: s.dscore, Loss: t.loss,
			Accumulate: explored, Tie: 0.5}
		if c.Pair { // the paper's head, trained on both orders; its label of a tie is 1
			l.Heads, l.Tie, l.Bias, l.DBias = 2, 1, s.weight("fc.bias"), s.gradient("fc.bias")
		}
		if noise != nil {
			l.Noise = t.ar.Floats(noise)
		}
		l.Record(t.program)
	default:
		return nil, fmt.Errorf("unknown loss %q", c.Loss)
	}
	s.backward()
	optim.RecordAdam(t.program, optim.Adam{W: t.w, G: t.g, M: t.m, V: t.v, LR: t.lr, Step: t.step, Beta1: c.Beta1,
		Beta2: c.Beta2, Eps: 1e-8, WeightDecay: c.WeightDecay, Decoupled: c.Decoupled})
	return t, nil
}

// recordPairs starts the scores' gradient with the pseudo-labelled pairs; without any it is zero.
func (t *trainer) recordPairs(s *pass, data Data) {
	n := max(1, len(data.Pairs))
	a, b, target, weight := make([]int32, n), make([]int32, n), make([]float32, n), make([]float32, n)
	for i, p := range data.Pairs {
		a[i], b[i], target[i], weight[i] = int32(p.A), int32(p.B), p.Target, 1
	}
	loss.PairList{Pairs: exec.Fixed(n), Examples: exec.Fixed(s.e.N), Heads: 1, Score: s.score,
		A: t.ar.Ints(a), B: t.ar.Ints(b), Target: t.ar.Floats(target), Weight: t.ar.Floats(weight), DScore: s.dscore,
		Loss: t.loss, Scale: float32(data.PairWeight)}.Record(t.program)
}

// targets returns what the loss sees: accuracies for pairs, standardised ones for regression, and each label's noise.
func (c Config) targets(labels []float64) (y, noise []float32) {
	y = make([]float32, len(labels))
	if c.Loss == Regression {
		mean, sd := stat.Mean(labels), math.Max(stat.SD(labels), 1e-12)
		for i, v := range labels {
			y[i] = float32((v - mean) / sd)
		}
		return y, nil
	}
	best := math.Inf(-1)
	for i, v := range labels {
		y[i] = float32(v)
		best = math.Max(best, v)
	}
	if c.NoiseFloor > 0 || c.NoiseSlope > 0 {
		noise = make([]float32, len(labels))
		for i, v := range labels {
			noise[i] = float32(math.Max(c.NoiseFloor+c.NoiseSlope*(best-v), 1e-6))
		}
	}
	return y, noise
}

// spread scores the encoding with the trained weights (without dropout).
func (t *trainer) spread(e *Encoding) (Spread, error) {
	scores, second := t.net.score(t.ar.Device(), t.lay, t.w.Values(), e, 0)
	for i := range scores {
		if second != nil {
			scores[i] = 0.5 * (scores[i] - second[i])
		}
		if math.IsNaN(scores[i]) {
			return Spread{}, fmt.Errorf("the comparator's score of training example %d is not a number", i)
		}
	}
	return Spread{stat.Mean(scores), math.Max(stat.SD(scores), 1e-12)}, nil
}

// scorer is a network's recorded way forward over one encoding.
type scorer struct {
	ar      *exec.Arena
	net     Network
	n       int // graphs
	w       *exec.Buffer
	out     *exec.Buffer
	program *exec.Program
}

func (n Network) scorer(dev *exec.Device, lay *layout, e *Encoding, chunk int) *scorer {
	ar := dev.NewArena()
	s := &scorer{ar: ar, net: n, n: e.N, w: ar.F32(lay.size), program: ar.NewProgram("score")}
	p := &pass{Network: n, ar: ar, p: s.program, lay: lay, w: s.w, e: e, chunk: chunk}
	p.forward()
	s.out = p.score
	return s
}

// run scores with the given weights. second is the released head's score of the second place, nil with an antisymmetric
// head.
func (s *scorer) run(weights []float32) (first, second []float64) {
	s.w.WriteF32(0, weights)
	s.program.Run(1)
	values := s.out.Values()
	first = make([]float64, s.n)
	if s.net.Pair {
		second = make([]float64, s.n)
	}
	for i := range first {
		first[i] = float64(values[i*s.net.heads()])
		if s.net.Pair {
			second[i] = float64(values[i*s.net.heads()+1])
		}
	}
	return first, second
}

// score runs the network forward once.
func (n Network) score(dev *exec.Device, lay *layout, weights []float32, e *Encoding,
	chunk int) (first, second []float64) {
	s := n.scorer(dev, lay, e, chunk)
	defer s.ar.Free()
	return s.run(weights)
}

// chunk is how many rows' temporaries live at once when a whole space is scored: what the CPU's caches hold, or enough
// to fill a GPU.
func chunk(dev *exec.Device) int {
	if dev.Accelerated() {
		return 1 << 16
	}
	return 2048
}

// Prepare makes an encoding for Score.
func (c *Comparator) Prepare(data Data) (*Encoding, error) {
	if err := data.check(c.Config, false); err != nil {
		return nil, err
	}
	return c.encode(data)
}

func (c *Comparator) encode(data Data) (*Encoding, error) {
	e, err := c.Config.Encode(Slice(data.Graphs), data.Alphabet, nil, false)
	if err == nil && c.Config.Features {
		e.Features, e.Scale = slices.Concat(data.Features...), &c.Scale
	}
	if err == nil && c.Config.Linear > 0 {
		e.CountScale = &c.Counts
		for _, g := range data.Graphs {
			e.Counts = append(e.Counts, Counts(g, data.Alphabet)...)
		}
	}
	return e, err
}

func (c *Comparator) layout() *layout {
	return c.Config.layout(c.Config.alphabetSize(c.Alphabet), c.Places, len(c.Scale.Mean))
}

func (d Data) check(c Config, labels bool) error {
	if c.Features && len(d.Features) != len(d.Graphs) {
		return fmt.Errorf("%d rows of features for %d graphs", len(d.Features), len(d.Graphs))
	}
	if d.Places != nil {
		if err := d.Places.check(d.Alphabet); err != nil {
			return err
		}
	}
	if !labels {
		return nil
	}
	if len(d.Labels) > len(d.Graphs) {
		return fmt.Errorf("%d labels for %d graphs", len(d.Labels), len(d.Graphs))
	}
	for i, p := range d.Pairs {
		if p.A < 0 || p.B < 0 || p.A >= len(d.Graphs) || p.B >= len(d.Graphs) || !(p.Target >= 0 && p.Target <= 1) {
			return fmt.Errorf("pair %d compares graphs %d and %d of %d with target %v", i, p.A, p.B, len(d.Graphs),
				p.Target)
		}
	}
	if c.Pair && c.Loss == Comparison && len(d.Graphs) > len(d.Labels) {
		return errors.New("unlabelled graphs need an antisymmetric head")
	}
	if len(d.Labels) < 2 {
		return errors.New("a comparator needs at least two labelled architectures")
	}
	for i, v := range d.Labels {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("label %d is %v", i, v)
		}
	}
	for i, row := range d.Features {
		for j, v := range row {
			if v := float64(v); math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("feature %d of graph %d is %v", j, i, v)
			}
		}
	}
	if !(c.Process >= 0 && c.Process <= 1) || c.Process > 0 && (!c.Features || c.Pair) {
		return fmt.Errorf("a process of weight %v: want 0..1, features, and an antisymmetric head", c.Process)
	}
	if c.Folds < 0 || c.Folds == 1 || c.Folds > 100 || c.Folds > 0 && c.Pair {
		return fmt.Errorf("%d folds: want none or 2 to 100, and an antisymmetric head", c.Folds)
	}
	if c.Members < 1 || c.Members > 1000 || c.Steps < 1 {
		return fmt.Errorf("%d members, %d steps: want at least one of each", c.Members, c.Steps)
	}
	return nil
}

// standard measures the features of the training data.
func standard(features [][]float32) Standard {
	if len(features) == 0 {
		return Standard{}
	}
	n := len(features[0])
	s := Standard{make([]float32, n), make([]float32, n)}
	column := make([]float64, len(features))
	for j := range n {
		for i := range features {
			column[i] = float64(features[i][j])
		}
		// The small constant keeps a feature that hardly varies in the training data from shouting elsewhere.
		s.Mean[j], s.SD[j] = float32(stat.Mean(column)), float32(stat.SD(column)+0.05)
	}
	return s
}

// apply standardises rows in one flat slice; values are cut at ten standard deviations.
func (s Standard) apply(features []float32) []float32 {
	out := make([]float32, len(features))
	for i, v := range features {
		j := i % len(s.Mean)
		out[i] = min(max((v-s.Mean[j])/s.SD[j], -10), 10)
	}
	return out
}
