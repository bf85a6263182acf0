package trainer

import (
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/tensor"
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
	Clip       float64 // limit of the gradient's 2-norm; 0: none
	Mixup      bool    // each image is mixed of two; Partners and Mix say how
	EvalOnly   bool    // there are no programs for training
	Biased     bool    // a recalibration's variances are biased, as once-for-all's are (norm.Running)
}

// Model is a network on a device, with its parameters and the programs that run it. Its methods are for one goroutine.
//
// All numbers that training changes lie in one buffer, State: the parameters, each at a multiple of 16 floats, and
// behind them the running statistics. The gradient is one buffer in the order of the parameters. In the shapes N is
// Options.Batch and K the number of classes; all floats are float32.
type Model struct {
	Net   *nn.Network
	State *exec.Buffer // [Params + running statistics]
	Grad  *exec.Buffer // of the parameters [Params]
	// Params is how many floats of State are parameters, with the gaps between them, which stay zero.
	Params  int
	Decayed *exec.Buffer // 1 for each parameter that weight decay usually applies to (weights), otherwise 0 [Params]
	Images  *exec.Buffer // [N, H, W, C]
	Labels  *exec.Buffer // integers [N]; a negative one leaves its image out of loss and counts
	// Partners, integers [N], are the second labels with Mixup, and Mix [1] is the share of the first ones.
	Partners, Mix *exec.Buffer
	Teacher       *exec.Buffer // the teacher's logits [N, K]; nil without distillation
	Norm          *exec.Buffer // the gradient's 2-norm and the factor that keeps it within Clip [2]
	Loss          *exec.Buffer // each output's part of the loss [len(Net.Outputs)]
	Count         *exec.Buffer // integers that are added to: images seen, right, right among the first five [3]

	Options
	fusion    *nn.Fusion
	arena     *exec.Arena
	variables []nn.Variable // of the network; the lists below are in their order
	ops       []operation   // of the nodes
	offset    []int         // of each variable in State
	first     []int         // of each node: its first variable
	step      *exec.Buffer  // integer, the steps done, on which dropout depends [1]
	rate      *exec.Buffer  // the factor of the probabilities of drop paths [1]
	pathRate  float64       // what rate holds
	logits    *exec.Buffer  // of the latest evaluation, until another program runs [N, K]
	zeros     *exec.Buffer  // [the most channels of any node]
	norms     map[int]*normed
	memory    *exec.Buffer // the memory that the values of all programs share [peak]
	// metrics are Norm and Loss in one buffer: training looks at them after each step by one read [2 +
	// len(Net.Outputs)].
	metrics *exec.Buffer
	// keep copies the running statistics away, restore copies them back; nil where there are none.
	keep, restore *exec.Program
	peak          int64 // floats of memory

	training    [2]*exec.Program // the first overwrites the gradient, the second adds to it
	evaluation  *exec.Program
	calibration *exec.Program
	// calibrating records calibration when that is first wanted: it takes as much memory for packed weights as the
	// others.
	calibrating *lowering
}

// normed is a batch norm of the network.
type normed struct {
	*norm.Batch
	op      nn.BatchNorm
	batches *exec.Buffer // integer, the batches of a recalibration so far [1]
}

// NewModel puts a network on a device. Parameters are not set: see Initialize and SetValues.
func NewModel(d *exec.Device, net *nn.Network, o Options) (*Model, error) {
	o.Accumulate = max(1, o.Accumulate)
	if err := o.Loss.Check(); err != nil {
		return nil, err
	}
	if o.Batch < 1 || o.Batch > 1<<16 {
		return nil, fmt.Errorf("batches of %d images: want 1..%d", o.Batch, 1<<16)
	}
	m := &Model{Net: net, Options: o, fusion: nn.Fuse(net), arena: d.NewArena(), norms: map[int]*normed{}, pathRate: 1}
	if err := m.build(); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", net.Name, err)
	}
	return m, nil
}

func (m *Model) build() (err error) {
	defer exec.Catch(&err)
	if err := m.check(); err != nil {
		return err
	}
	m.allocate()
	var programs []*lowering
	lower := func(to **exec.Program, l *lowering) {
		l.to = to
		l.lower()
		programs = append(programs, l)
	}
	if !m.EvalOnly {
		lower(&m.training[0], &lowering{m: m, name: "train", mode: train})
	}
	if m.Accumulate > 1 && !m.EvalOnly {
		lower(&m.training[1], &lowering{m: m, name: "train_more", mode: train, accumulate: true})
	}
	evaluating := &lowering{m: m, name: "evaluate", mode: evaluate}
	lower(&m.evaluation, evaluating)
	lower(&m.calibration, &lowering{m: m, name: "recalibrate", mode: recalibrate})
	for _, l := range programs {
		m.peak = max(m.peak, l.plan())
	}
	m.memory = m.arena.F32(int(m.peak))
	m.calibrating = programs[len(programs)-1]
	for _, l := range programs[:len(programs)-1] {
		*l.to = l.record(m.arena, m.memory)
		if l.mode == train {
			optim.RecordNorm(*l.to, optim.Norm{G: m.Grad, Max: m.Clip, Out: m.Norm})
		}
	}
	m.recordKeeping()
	prediction := evaluating.outputs[m.Net.Outputs[0].Node]
	m.logits = prediction.buffer().Slice(0, prediction.shape.Len())
	return nil
}

// allocate lays out the variables and allocates the buffers that outlive a step.
func (m *Model) allocate() {
	m.variables = m.Net.Variables()
	m.offset, m.first = make([]int, len(m.variables)), make([]int, len(m.Net.Nodes))
	at := 0
	lay := func(trainable bool) {
		for i, v := range m.variables {
			if v.Role.Trainable() == trainable {
				m.offset[i] = at
				at += up(v.Len(), align)
			}
		}
	}
	lay(true)
	m.Params = at
	lay(false)
	for i := len(m.variables) - 1; i >= 0; i-- {
		m.first[m.variables[i].Node] = i
	}
	a := m.arena
	m.State, m.Grad = a.Zeros(at), a.Zeros(m.Params)
	decayed := make([]float32, m.Params)
	for i, v := range m.variables {
		if v.Role == nn.Weight {
			for k := range v.Len() {
				decayed[m.offset[i]+k] = 1
			}
		}
	}
	m.Decayed = a.Floats(decayed)
	classes := m.Net.Nodes[m.Net.Outputs[0].Node].Shape.C
	m.Images, m.Labels = a.F32(m.Batch*m.Net.Input().Len()), a.I32(m.Batch)
	if m.Options.Loss.Distill > 0 {
		m.Teacher = a.F32(m.Batch * classes)
	}
	if m.Mixup {
		m.Partners, m.Mix = a.I32(m.Batch), a.F32(1)
	}
	m.metrics, m.rate = a.F32(2+len(m.Net.Outputs)), a.Floats([]float32{1})
	m.Norm, m.Loss = m.metrics.Slice(0, 2), m.metrics.Slice(2, len(m.Net.Outputs))
	m.Count, m.step = a.Ints(make([]int32, 3)), a.Ints(make([]int32, 1))
	most := 0
	for i, node := range m.Net.Nodes {
		most = max(most, node.Shape.C)
		if op, ok := node.Op.(nn.BatchNorm); ok && m.fusion.Reached[i] {
			b := norm.New(a, node.Shape.C, op.Eps)
			if !op.NoAffine {
				b.Gamma, b.Beta = m.variable(i, 0), m.variable(i, 1)
			}
			b.RunningMean, b.RunningVar = m.variable(i, op.Statistics()), m.variable(i, op.Statistics()+1)
			m.norms[i] = &normed{b, op, a.Ints(make([]int32, 1))}
		}
	}
	m.zeros = a.Zeros(most)
}

// half tells whether outputs and gradients in them are stored as bfloat16. Parameters, statistics, gates and sums are
// float32 everywhere.
func (m *Model) half() bool { return m.arena.Device().Precision() == exec.BF16 }

// zeroes is a tensor of n zeros in the device's precision.
func (m *Model) zeroes(n int) *exec.Buffer {
	if !m.half() {
		return m.arena.Zeros(n)
	}
	b := m.arena.BF16(n)
	b.WriteF32(0, make([]float32, n))
	return b
}

// variable is the part of State that holds the k-th variable of a node.
func (m *Model) variable(node, k int) *exec.Buffer {
	i := m.first[node] + k
	return m.State.Slice(m.offset[i], m.variables[i].Len())
}

// gradient is the part of Grad that holds the gradient in the k-th variable of a node.
func (m *Model) gradient(node, k int) *exec.Buffer {
	i := m.first[node] + k
	return m.Grad.Slice(m.offset[i], m.variables[i].Len())
}

// Close frees the model's memory.
func (m *Model) Close() { m.arena.Free() }

// Bytes is how much memory of the device the model holds.
func (m *Model) Bytes() int64 { return m.arena.Bytes() }

// Initialize sets all variables to their start.
func (m *Model) Initialize(init nn.Initializer, seed uint64) {
	m.SetValues(m.Net.Initialize(init, seed))
}

// SetValues sets the variables, in the order of Net.Variables() and the layout of memory.
func (m *Model) SetValues(values [][]float32) {
	for i, v := range values {
		m.State.WriteF32(m.offset[i], v)
	}
}

// Values returns the variables likewise.
func (m *Model) Values() [][]float32 { return m.split(m.State, func(nn.Role) bool { return true }) }

// Gradients returns the gradient in each variable; nil for running statistics.
func (m *Model) Gradients() [][]float32 { return m.split(m.Grad, nn.Role.Trainable) }

func (m *Model) split(b *exec.Buffer, in func(nn.Role) bool) [][]float32 {
	out := make([][]float32, len(m.variables))
	for i, v := range m.variables {
		if in(v.Role) {
			out[i] = make([]float32, v.Len())
			b.ReadF32(m.offset[i], out[i])
		}
	}
	return out
}

// Step runs forward and backward on Images and Labels. It leaves Loss and, divided by Accumulate, the gradient with its
// norm. It is step number part, from 0, of Accumulate steps: the first overwrites Grad, the others add to it. step is
// the number of steps before, on which dropout depends.
func (m *Model) Step(step uint32, part int) {
	m.step.WriteI32(0, []int32{int32(step)})
	m.training[min(1, part)].Run(1)
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

// Evaluate runs the network with its running statistics on Images and Labels: it leaves Loss and adds to Count.
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

// recordKeeping records the programs by which a training takes back an update's running statistics. They never leave
// the device.
func (m *Model) recordKeeping() {
	statistics := m.State.Slice(m.Params, m.State.Len()-m.Params)
	if statistics.Len() == 0 {
		return
	}
	kept := m.arena.Zeros(statistics.Len())
	copying := func(name string, to, from *exec.Buffer) *exec.Program {
		p := m.arena.NewProgram(name)
		in := tensor.Input{Shape: flat(tensor.Shape{N: 1, H: from.Len(), W: 1, C: 1}), Z: from}
		elementwise.Sum{Terms: []elementwise.Term{{In: in}}, Out: to}.Record(p)
		return p
	}
	m.keep, m.restore = copying("keep", kept, statistics), copying("restore", statistics, kept)
}

// KeepStatistics remembers the running statistics as they are, for RestoreStatistics.
func (m *Model) KeepStatistics() {
	if m.keep != nil {
		m.keep.Run(1)
	}
}

// RestoreStatistics sets the running statistics to what they were at the latest KeepStatistics.
func (m *Model) RestoreStatistics() {
	if m.restore != nil {
		m.restore.Run(1)
	}
}

// GradientNorm is the 2-norm of the latest step's gradient, before clipping.
func (m *Model) GradientNorm() float64 {
	norm := make([]float32, 1)
	m.Norm.ReadF32(0, norm)
	return float64(norm[0])
}

// Inspect runs the network forward as Step does, keeping every tensor, and names the first node whose output is not
// finite. If all are finite it names the last variable, counted from the input, whose gradient is not. The name is
// empty where everything is finite.
func (m *Model) Inspect() (where string, err error) {
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
	gradients := m.Gradients()
	for i := len(gradients) - 1; i >= 0; i-- {
		if slices.ContainsFunc(gradients[i], func(v float32) bool { return !finite(float64(v)) }) {
			return "the gradient of " + m.variables[i].Name, nil
		}
	}
	return "", nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func up(n, to int) int { return (n + to - 1) / to * to }
