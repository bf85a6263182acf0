package trainer

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/trainer/nn"
)

// align is the number of floats at whose multiples tensors and parameters begin: a cache line.
const align = 16

// Options of a Model.
type Options struct {
	Batch int     // images a step: N in the shapes below
	Loss  nn.Loss // of training; evaluation uses the plain cross-entropy
	Seed  uint64  // of dropout and drop path
	// Accumulate is the number of steps whose gradients are summed up before an update; 0 is 1. The loss is divided by
	// it.
	Accumulate int
	// Shards is the number of models, or runs of this one, whose gradients somebody adds up to that of a step; 0 is 1.
	// The loss is divided by it. With more than one, every step overwrites Grad, and Norm is not made.
	Shards   int
	Clip     float64 // limit of the gradient's 2-norm; 0: none
	Mixup    bool    // each image is mixed of two; Partners and Mix say how
	Bucket   int     // with Shards, a step is cut where so many more floats of the gradient are whole; 0: nowhere
	EvalOnly bool    // there are no programs for training
	Biased   bool    // a recalibration's variances are biased, as once-for-all's are (norm.Running)

	// meeting: the batch norms of a step are over all shards, each of which is another model's that steps at the same
	// time; nil: over the shard.
	meeting   *place
	teach     bool // a step leaves the logits in Teacher
	transient bool // evaluation normalises by the batch's statistics
	// fixedWeights: no gradient in the parameters is wanted; fixedMixture: none in the weights of the mixture.
	fixedWeights, fixedMixture bool
}

// Model is a network on a device: a path over parameters, its own or those that it shares, with the programs that run
// it. Its methods are for one goroutine. In the shapes N is Options.Batch and K the number of classes; all floats are
// float32.
type Model struct {
	Net *nn.Network
	*Parameters
	inputs
	Options
	Loss *exec.Buffer // each output's part of the loss [len(Net.Outputs)]

	mixture   *Mixture // what Mix nodes mix by; nil: the network has none
	fusion    *nn.Fusion
	arena     *exec.Arena   // of the programs and of what they need
	variables []nn.Variable // of the network; the lists below are in their order
	bindings  []nn.Binding
	ops       []operation      // of the nodes
	first     []int            // of each node: its first variable
	own       *statistics      // the running statistics where they are not the shared ones; nil: they are
	smaller   map[int]*smaller // of the nodes whose kernels are made smaller, or narrower, than the shared ones
	pathRate  float64          // what rate holds
	logits    *exec.Buffer     // of the latest evaluation, until another program runs [N, K]
	zeros     *exec.Buffer     // [the most channels of any node]
	norms     map[int]*normed
	memory    *exec.Buffer // the memory that the values of all programs share [peak]
	// metrics are Norm and Loss in one buffer: training looks at them after each step by one read [2 +
	// len(Net.Outputs)]. nil where others add to the gradient too.
	metrics *exec.Buffer
	peak    int64 // floats of memory

	training    [2]*exec.Program // the first overwrites the gradient, the second adds to it
	rest        []segment        // what follows the first, with Bucket or a meeting
	evaluation  *exec.Program
	calibration *exec.Program
	// calibrating records calibration when that is first wanted: it takes as much memory for packed weights as the
	// others.
	calibrating *lowering
}

// inputs are what a step reads and counts beside its network's parameters.
type inputs struct {
	Images *exec.Buffer // [N, H, W, C]
	Labels *exec.Buffer // integers [N]; a negative one leaves its image out of loss and counts
	// Partners, integers [N], are the second labels with Mixup, and Mix [1] is the share of the first ones.
	Partners, Mix *exec.Buffer
	Teacher       *exec.Buffer // the teacher's logits [N, K]; nil without distillation
	Count         *exec.Buffer // integers that are added to: images seen, right, right among the first five [3]

	step *exec.Buffer // integer, the steps done, on which dropout depends [1]
	rate *exec.Buffer // the factor of the probabilities of drop paths [1]
}

// newInputs allocates them for batches of images of so many elements.
func newInputs(a *exec.Arena, batch, image, classes int, teacher, mixup bool) inputs {
	in := inputs{Images: a.F32(batch * image), Labels: a.I32(batch), Count: a.Ints(make([]int32, 3)),
		step: a.Ints(make([]int32, 1)), rate: a.Floats([]float32{1})}
	if teacher {
		in.Teacher = a.F32(batch * classes)
	}
	if mixup {
		in.Partners, in.Mix = a.I32(batch), a.F32(1)
	}
	return in
}

// normed is a batch norm of the network.
type normed struct {
	*norm.Batch
	op      nn.BatchNorm
	batches *exec.Buffer // integer, the batches of a recalibration so far [1]
}

// NewModel puts a network on a device, with parameters of its own. They are not set: see Initialize and SetValues.
func NewModel(d *exec.Device, net *nn.Network, o Options) (*Model, error) {
	o.Accumulate = max(1, o.Accumulate)
	if err := o.check(); err != nil {
		return nil, err
	}
	_, path := nn.Alone(net)
	m := newModel(path, o, d.NewArena())
	if err := m.alone(); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", net.Name, err)
	}
	return m, nil
}

func (o Options) check() error {
	if err := o.Loss.Check(); err != nil {
		return err
	}
	if o.Batch < 1 || o.Batch > 1<<16 {
		return fmt.Errorf("batches of %d images: want 1..%d", o.Batch, 1<<16)
	}
	return nil
}

func newModel(p nn.Path, o Options, a *exec.Arena) *Model {
	m := &Model{Net: p.Network, Options: o, fusion: nn.Fuse(p.Network), arena: a, variables: p.Variables(),
		bindings: p.Bindings, norms: map[int]*normed{}, pathRate: 1}
	m.first = make([]int, len(m.Net.Nodes))
	for i := len(m.variables) - 1; i >= 0; i-- {
		m.first[m.variables[i].Node] = i
	}
	return m
}

// alone builds the model of a network by itself.
func (m *Model) alone() (err error) {
	defer exec.Catch(&err)
	if len(m.Net.Mixture) > 0 {
		return errors.New("a network that mixes is trained as a supernet")
	}
	if err := m.check(); err != nil {
		return err
	}
	a, o := m.arena, m.Options
	m.metrics = a.F32(2 + len(m.Net.Outputs))
	m.Loss = m.metrics.Slice(2, len(m.Net.Outputs))
	m.Parameters = newParameters(a, m.variables, m.metrics.Slice(0, 2))
	m.inputs = newInputs(a, o.Batch, m.Net.Input().Len(), m.classes(), o.Loss.Distill > 0, o.Mixup)
	var list []*lowering
	if !m.EvalOnly {
		list = append(list, &lowering{name: "train", mode: train, to: &m.training[0], bucket: o.Bucket})
		if m.Accumulate > 1 && m.shards() == 1 {
			list = append(list, &lowering{name: "train_more", mode: train, accumulate: true, to: &m.training[1]})
		}
	}
	m.record(append(list, m.evaluating()...), func(peak int64) *exec.Buffer { return a.F32(int(peak)) })
	if !m.EvalOnly {
		m.rest = list[0].rest
	}
	for _, p := range m.training {
		if p != nil && m.shards() == 1 {
			optim.RecordNorm(p, optim.Norm{G: m.Grad, Max: m.Clip, Out: m.Norm})
		}
	}
	return nil
}

// evaluating are the programs of an evaluation.
func (m *Model) evaluating() []*lowering {
	if m.transient {
		return []*lowering{{name: "evaluate", mode: transient, to: &m.evaluation}}
	}
	return []*lowering{{name: "evaluate", mode: evaluate, to: &m.evaluation},
		{name: "recalibrate", mode: recalibrate, to: &m.calibration}}
}

// record records programs over memory that they share, of as many floats as the largest of them needs.
func (m *Model) record(list []*lowering, room func(peak int64) *exec.Buffer) {
	m.allocate()
	for _, l := range list {
		l.m = m
		l.lower()
		m.peak = max(m.peak, l.plan())
	}
	m.memory = room(m.peak)
	for _, l := range list {
		if l.mode == recalibrate {
			m.calibrating = l
			continue
		}
		*l.to = l.record(m.arena, m.memory)
		if l.mode == evaluate || l.mode == transient {
			prediction := l.outputs[m.Net.Outputs[0].Node]
			m.logits = prediction.buffer().Slice(0, prediction.shape.Len())
		}
	}
}

func (o Options) shards() int { return max(1, o.Shards) }

// classes is the number of logits.
func (m *Model) classes() int { return m.Net.Nodes[m.Net.Outputs[0].Node].Shape.C }

// allocate allocates what the programs share beside their values.
func (m *Model) allocate() {
	most := 0
	for i, node := range m.Net.Nodes {
		most = max(most, node.Shape.C)
		if op, ok := node.Op.(nn.BatchNorm); ok && m.fusion.Reached[i] {
			b := norm.New(m.arena, node.Shape.C, op.Eps)
			if !op.NoAffine {
				b.Gamma, b.Beta = m.variable(i, 0), m.variable(i, 1)
			}
			b.RunningMean, b.RunningVar = m.variable(i, op.Statistics()), m.variable(i, op.Statistics()+1)
			m.norms[i] = &normed{b, op, m.arena.Ints(make([]int32, 1))}
		}
	}
	m.zeros = m.arena.Zeros(most)
}

// half tells whether outputs and gradients in them are stored as bfloat16. Parameters, statistics, gates and sums are
// float32 everywhere.
func (m *Model) half() bool { return m.arena.Device().Precision() == exec.BF16 }

// plain tells whether convolutions get what they read as it is multiplied, where that pays (conv.PlainInput): on
// tensor cores, which would wait for what stands before it.
func (m *Model) plain() bool { return m.half() && m.arena.Device().Accelerated() }

// zeroes is a tensor of n zeros in the device's precision.
func (m *Model) zeroes(n int) *exec.Buffer {
	if !m.half() {
		return m.arena.Zeros(n)
	}
	b := m.arena.BF16(n)
	b.WriteF32(0, make([]float32, n))
	return b
}

// Close frees the model's memory.
func (m *Model) Close() {
	m.arena.Free()
	m.arena.Device().Trim()
}

// Bytes is how much memory of the device the model holds.
func (m *Model) Bytes() int64 { return m.arena.Bytes() }

// Initialize sets all variables to their start.
func (m *Model) Initialize(init nn.Initializer, seed uint64) {
	m.SetValues(m.Net.Initialize(init, seed))
}

// Step runs forward and backward on Images and Labels. It leaves Loss and, divided by Accumulate, the gradient with its
// norm. It is step number part, from 0, of Accumulate steps: the first overwrites Grad, the others add to it. step is
// the number of steps before, on which dropout depends.
func (m *Model) Step(step uint32, part int) {
	m.begin(step, part)
	m.goOn()
}

// begin is Step up to the first cut.
func (m *Model) begin(step uint32, part int) {
	m.step.WriteI32(0, []int32{int32(step)})
	if m.shards() > 1 {
		part = 0
	}
	m.training[min(1, part)].Run(1)
}

// goOn is what Step does from the first cut on.
func (m *Model) goOn() {
	for _, s := range m.rest {
		if s.exchange != nil {
			m.meeting.wait(s.exchange)
		}
		s.program.Run(1)
	}
}

// SetPathRate sets what the probabilities of drop paths are multiplied by from the next step on, 0 to 1. It begins as
// 1.
func (m *Model) SetPathRate(rate float64) {
	if rate != m.pathRate {
		m.rate.WriteF32(0, []float32{float32(rate)})
		m.pathRate = rate
	}
}

// Logits returns the predictions of the latest program, which must have been Evaluate: [N, K].
func (m *Model) Logits() []float32 { return m.logits.Values() }

// Evaluate runs the network with its running statistics, or as PathOptions.Transient says, on Images and Labels: it
// leaves Loss and adds to Count.
func (m *Model) Evaluate() { m.evaluation.Run(1) }

// EvaluationTime evaluates n times in a row and returns how long that took, in milliseconds. An accelerator measures it
// by its own clock.
func (m *Model) EvaluationTime(n int) float64 { return m.evaluation.Time(n) }

// Recalibrate runs the network forward with the statistics of the batch. The running statistics become the means over
// all batches since BeginRecalibration; frozen norms stay as they are.
func (m *Model) Recalibrate() {
	if m.calibration == nil {
		m.calibration = m.calibrating.record(m.arena, m.memory)
	}
	m.calibration.Run(1)
}

// BeginRecalibration forgets the batches that were seen.
func (m *Model) BeginRecalibration() {
	for _, n := range m.norms {
		n.batches.WriteI32(0, []int32{0})
	}
}

// TotalLoss is the loss of the latest step. Without distillation it is nn.Loss; with distillation it lacks the
// teacher's entropy, which is a constant.
func (m *Model) TotalLoss() float64 {
	total := 0.0
	for _, v := range m.Loss.Values() {
		total += float64(v)
	}
	return total * float64(m.Accumulate)
}

// Metrics are TotalLoss and GradientNorm by one read, which on an accelerator waits for the step.
func (m *Model) Metrics() (loss, norm float64) {
	all := m.metrics.Values()
	for _, v := range all[m.Norm.Len():] {
		loss += float64(v)
	}
	return loss * float64(m.Accumulate), float64(all[0])
}

// Inspect runs the network forward as Step does, keeping every tensor, and names the first node whose output is not
// finite. If all are finite it names the last variable, counted from the input, whose gradient is not. The name is
// empty where everything is finite.
func (m *Model) Inspect() (where string, err error) {
	if where, err = m.inspectOutputs(); where != "" || err != nil {
		return where, err
	}
	defer exec.Catch(&err)
	return m.inspectGradient(), nil
}

// inspectOutputs is Inspect as far as the nodes go.
func (m *Model) inspectOutputs() (where string, err error) {
	defer exec.Catch(&err)
	a := m.arena.Device().NewArena()
	defer a.Free()
	l := &lowering{m: m, name: "inspect", mode: inspect}
	l.lower()
	l.record(a, a.F32(int(l.plan()))).Run(1)
	for _, r := range l.order {
		values := r.buffer().Slice(0, r.shape.Len()).Values()
		if slices.ContainsFunc(values, func(v float32) bool { return !finite(float64(v)) }) {
			return m.Net.Nodes[r.node].Name, nil
		}
	}
	return "", nil
}

func (m *Model) inspectGradient() (where string) {
	gradients := m.Gradients()
	for i := len(gradients) - 1; i >= 0; i-- {
		if slices.ContainsFunc(gradients[i], func(v float32) bool { return !finite(float64(v)) }) {
			return "the gradient of " + m.Variables[i].Name
		}
	}
	return ""
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func up(n, to int) int { return (n + to - 1) / to * to }
