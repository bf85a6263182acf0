package trainer

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/depthwise"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// mode says what a program is for.
type mode int

const (
	train       mode = iota // batch statistics, dropout, loss, backward
	evaluate                // running statistics, loss
	recalibrate             // batch statistics, whose means become the running ones
	inspect                 // as train, forward only; nothing that outlives the program changes
)

// lowering turns a network into a program. It first lists the steps, each with the values it touches; then, when it is known how long each value lives, their
// memory is placed; then the steps are recorded.
type lowering struct {
	m          *Model
	name       string
	mode       mode
	accumulate bool // add to the gradient
	to         **exec.Program

	steps  []func(p *exec.Program)
	nodes  []int // of each step: the node that it computes, or the number of nodes for what follows them
	node   int   // of the steps that are added next
	values []*value
	raws   map[int]*raw
	order  []*raw
	ports  map[nn.View]*port
	reads  map[int][]*port // of each stored node
	flows  []bool          // of each node: a parameter comes before or in it
	live   []bool          // of each node: the loss depends on its output
	inside map[int]inside  // nodes that write where a concatenation wants them
}

// value is memory that some steps need.
type value struct {
	len         int
	half        bool // stored as bfloat16
	first, last int  // steps that touch it
	buf         *exec.Buffer
}

// value is a tensor of n elements, stored as the device's precision says: a raw output or a gradient in one.
func (l *lowering) value(n int) *value {
	v := l.floats(n)
	if v.half = l.m.half(); v.half {
		v.len = up(n, 2*align)
	}
	return v
}

// floats is a value of float32, whatever the device.
func (l *lowering) floats(n int) *value {
	v := &value{len: up(n, align), first: -1}
	l.values = append(l.values, v)
	return v
}

// size is how many floats of memory the value takes.
func (v *value) size() int {
	if v.half {
		return v.len / 2
	}
	return v.len
}

// step adds a step that touches values.
func (l *lowering) step(values []*value, record func(p *exec.Program)) {
	for _, v := range values {
		if v.first < 0 {
			v.first = len(l.steps)
		}
		v.last = len(l.steps)
	}
	l.steps, l.nodes = append(l.steps, record), append(l.nodes, l.node)
}

// place decides where each value lies, in floats from the begin of a common memory; it returns that memory's size.
func (l *lowering) place() int64 {
	lives := make([]nn.Lifetime, len(l.values))
	for i, v := range l.values {
		lives[i] = nn.Lifetime{Bytes: 4 * int64(v.size()), First: v.first, Last: v.last}
		if l.mode == inspect {
			lives[i].Last = len(l.steps)
		}
	}
	p := nn.Place(lives, 4*align)
	for i, v := range l.values {
		v.first = int(p.Offsets[i] / 4)
	}
	return p.Peak / 4
}

func (l *lowering) record(a *exec.Arena, memory *exec.Buffer) *exec.Program {
	l.assign(memory)
	p := a.NewProgram(l.name)
	for _, step := range l.steps {
		step(p)
	}
	return p
}

// assign gives the values the places that were decided on.
func (l *lowering) assign(memory *exec.Buffer) {
	for _, v := range l.values {
		if v.buf = memory.Slice(v.first, v.size()); v.half {
			v.buf = v.buf.AsBF16()
		}
	}
}

// raw is a stored output of a node.
type raw struct {
	node   int
	shape  tensor.Shape
	z      *value       // where it lies, unless
	fixed  *exec.Buffer // it lies here for good
	at     int          // where in z it begins
	stride int          // from a pixel to the next; 0: its channels
	sums   tensor.Stats // for batch norms; known when recorded
	groups [][]*port    // what reads it, by batch norm
	norms  map[int]*normed

	pool    *pool.Pool   // of a pooling; known when recorded
	factors *exec.Buffer // of a drop path: one an image
}

func (r *raw) buffer() *exec.Buffer {
	if r.fixed != nil {
		return r.fixed
	}
	return r.z.buf.Slice(r.at, r.z.len-r.at)
}

// plain is the tensor as it is stored.
func (r *raw) plain() tensor.Input {
	return tensor.Input{Shape: r.shape, Z: r.buffer(), Stride: r.stride}
}

func (r *raw) touched() []*value {
	if r.fixed != nil {
		return nil
	}
	return []*value{r.z}
}

// port is one way in which a stored output is read: through a batch norm, an activation, a gate or nothing. Its consumers hand their gradients on one after
// the other, in the backward order; see package tensor.
type port struct {
	raw     *raw
	view    nn.View
	base    *port  // with a gate: the same without it
	gate    *port  // what the gate's factors are
	factors *value // the gate's factors as they are read
	alone   bool   // the only one of its batch norm

	needed  bool // somebody wants its gradient
	left    int  // consumers that have not handed on their gradients
	written bool
	settled bool // gated: it has handed its gradient on
	d       *value
	stats   tensor.Stats
	gated   []*port // those whose gradient is complete and has to be handed on to this one, their base
}

// input is the port as an operation reads it; to be called while recording.
func (l *lowering) input(q *port) tensor.Input {
	in := q.raw.plain()
	if q.view.Norm != 0 {
		n := q.raw.norms[q.view.Norm]
		in.Scale, in.Shift = n.Scale, n.Shift
	}
	if q.view.Act != 0 {
		in.Act = activations[l.m.Net.Nodes[q.view.Act].Op.(nn.Activation)]
	}
	if q.factors != nil {
		in.Gate = q.factors.buf
	}
	return in
}

// touched lists what an operation that reads the port touches.
func (q *port) touched() []*value {
	v := q.raw.touched()
	if q.factors != nil {
		v = append(v, q.factors)
	}
	return v
}

var activations = map[nn.Activation]tensor.Act{
	nn.Identity: tensor.None, nn.ReLU: tensor.ReLU, nn.ReLU6: tensor.ReLU6, nn.HSigmoid: tensor.HSigmoid, nn.HSwish: tensor.HSwish, nn.Swish: tensor.Swish,
	nn.Sigmoid: tensor.Sigmoid,
}

// lower lists the steps of the program.
func (l *lowering) lower() {
	f := l.m.fusion
	l.raws, l.ports, l.reads = map[int]*raw{}, map[nn.View]*port{}, map[int][]*port{}
	l.flow()
	l.join()
	for _, i := range f.Stored {
		l.node = i
		l.forward(i)
	}
	l.node = len(l.m.Net.Nodes)
	if l.mode != inspect && l.mode != recalibrate {
		l.loss()
	}
	if l.mode == train {
		l.backward()
	}
}

// flow finds where gradients flow.
func (l *lowering) flow() {
	net := l.m.Net
	l.flows, l.live = make([]bool, len(net.Nodes)), make([]bool, len(net.Nodes))
	for i, node := range net.Nodes {
		switch node.Op.(type) {
		case nn.Conv, nn.Linear, nn.BatchNorm:
			l.flows[i] = true
		case nn.Zero:
		default:
			for _, in := range node.In {
				l.flows[i] = l.flows[i] || l.flows[in]
			}
		}
	}
	for _, out := range net.Outputs {
		l.live[out.Node] = true
	}
	for i := len(net.Nodes) - 1; i > 0; i-- {
		if _, cut := net.Nodes[i].Op.(nn.Zero); l.live[i] && !cut {
			for _, in := range net.Nodes[i].In {
				l.live[in] = true
			}
		}
	}
}

// inside is where in a concatenation a tensor lies.
type inside struct {
	whole      *value
	at, stride int
}

// join finds what may be written into a concatenation at once: tensors that it reads as they are stored, of operations that can leave gaps between pixels. The
// first concatenation that reads a tensor has it.
func (l *lowering) join() {
	l.inside = map[int]inside{}
	net, f := l.m.Net, l.m.fusion
	if l.mode == inspect { // every tensor is looked at by itself
		return
	}
	output := map[int]bool{}
	for _, out := range net.Outputs {
		output[out.Node] = true
	}
	for _, i := range f.Stored {
		if _, ok := net.Nodes[i].Op.(nn.Concat); !ok {
			continue
		}
		whole := l.value(l.shape(i).Len())
		l.inside[i] = inside{whole: whole}
		at := 0
		for _, v := range f.Reads(i) {
			_, taken := l.inside[v.Raw]
			if v == (nn.View{Raw: v.Raw}) && !taken && !output[v.Raw] && leavesGaps(net.Nodes[v.Raw].Op) {
				l.inside[v.Raw] = inside{whole, at, net.Nodes[i].Shape.C}
			}
			at += net.Nodes[v.Raw].Shape.C
		}
	}
}

func leavesGaps(op nn.Op) bool {
	switch op.(type) {
	case nn.Conv, nn.Linear, nn.BatchNorm, nn.Activation, nn.Gate, nn.Add, nn.DropPath, nn.Slice:
		return true
	}
	return false
}

// read returns the port of a view for a consumer, which hands on a gradient if it is live.
func (l *lowering) read(v nn.View, live bool) *port {
	q := l.port(v)
	if live && q.needed {
		q.left++
		if q.base != nil && q.left == 1 {
			l.read(q.base.view, true)
			l.read(q.gate.view, true)
		}
	}
	return q
}

func (l *lowering) port(v nn.View) *port {
	if q := l.ports[v]; q != nil {
		return q
	}
	r := l.raws[v.Raw]
	q := &port{raw: r, view: v, needed: v.Norm != 0 || l.flows[v.Raw]}
	l.ports[v] = q
	if v.Norm != 0 && r.norms[v.Norm] == nil {
		l.normalise(r, v.Norm)
	}
	if v.Gate == 0 {
		k := slices.IndexFunc(r.groups, func(g []*port) bool { return g[0].view.Norm == v.Norm })
		if k < 0 {
			k = len(r.groups)
			r.groups = append(r.groups, nil)
		}
		r.groups[k] = append(r.groups[k], q)
		return q
	}
	q.base = l.port(nn.View{Raw: v.Raw, Norm: v.Norm, Act: v.Act})
	q.gate = l.port(l.m.fusion.Views[v.Gate])
	q.needed = q.base.needed || q.gate.needed
	if g := q.gate; g.view == (nn.View{Raw: g.view.Raw}) && g.raw.fixed == nil && g.raw.stride == 0 && !g.raw.z.half {
		q.factors = g.raw.z
	} else {
		q.factors = l.floats(g.raw.shape.Len())
		l.step(append(g.touched(), q.factors), func(p *exec.Program) {
			elementwise.Sum{Terms: []elementwise.Term{{In: l.input(g)}}, Out: q.factors.buf}.Record(p)
		})
	}
	return q
}

// normalise computes the scale and shift of a batch norm over a stored output, which leaves sums where they are needed.
func (l *lowering) normalise(r *raw, node int) {
	n := l.m.norms[node]
	if l.mode == inspect { // leaves the running statistics alone
		b := *n.Batch
		n = &normed{&b, n.op, nil}
		if !n.op.Frozen {
			n.RunningMean, n.RunningVar = nil, nil
		}
	}
	r.norms[node] = n
	l.step(nil, func(p *exec.Program) {
		switch {
		case l.mode == evaluate || n.op.Frozen:
			n.Fixed(p)
		case l.mode == recalibrate:
			n.Forward(p, r.sums, norm.Running{Batches: n.batches})
		default:
			n.Forward(p, r.sums, norm.Running{Momentum: n.op.Momentum})
		}
	})
}

// reading lists the views that the kernel of a stored node reads: for a batch norm, activation or gate that is stored itself what it is made of.
func (l *lowering) reading(i int) []nn.View {
	node := l.m.Net.Nodes[i]
	views := l.m.fusion.Reads(i)
	switch op := node.Op.(type) {
	case nn.BatchNorm:
		views[0].Norm = i
	case nn.Activation:
		if op != nn.Identity {
			views[0].Act = i
		}
	case nn.Gate:
		views[0].Gate = node.In[1]
		views = views[:1]
	}
	return views
}

// forward adds the steps that compute a stored node.
func (l *lowering) forward(i int) {
	m := l.m
	node := m.Net.Nodes[i]
	r := &raw{node: i, shape: l.shape(i), norms: map[int]*normed{}}
	l.raws[i] = r
	l.order = append(l.order, r)
	_, cut := node.Op.(nn.Zero)
	var in []*port
	for _, v := range l.reading(i) {
		in = append(in, l.read(v, l.mode == train && l.live[i] && !cut))
	}
	l.reads[i] = in
	switch node.Op.(type) {
	case nn.Input:
		r.fixed = m.Images
		if m.half() {
			r.fixed, r.z = nil, l.value(r.shape.Len())
		}
	case nn.Zero:
		r.fixed = m.zeroes(r.shape.Len())
	default:
		if in, ok := l.inside[i]; ok {
			r.z, r.at, r.stride = in.whole, in.at, in.stride
		} else {
			r.z = l.value(r.shape.Len())
		}
	}
	touched := r.touched()
	for _, q := range in {
		touched = append(touched, q.touched()...)
	}
	sums := m.fusion.Summed[i] && l.mode != evaluate
	summed := true // whether the operation itself leaves them
	switch op := node.Op.(type) {
	case nn.Input:
		if r.z != nil {
			l.step(touched, func(p *exec.Program) {
				elementwise.Sum{Terms: []elementwise.Term{{In: tensor.Input{Shape: flat(r.shape), Z: m.Images}}}, Out: r.z.buf}.Record(p)
			})
		}
		summed = false
	case nn.Zero:
		summed = false
	case nn.Conv:
		c, dw := convolution(op, in[0].raw.shape)
		l.step(touched, func(p *exec.Program) {
			if dw != nil {
				r.sums = depthwise.Forward{Conv: *dw, In: l.input(in[0]), Weight: m.variable(i, 0), Z: r.buffer(), ZStride: r.stride, Sums: sums}.Record(p)
				return
			}
			f := conv.Forward{Conv: c, In: l.input(in[0]), Weight: m.variable(i, 0), Z: r.buffer(), ZStride: r.stride, Sums: sums}
			if op.Bias {
				f.Bias = m.variable(i, 1)
			}
			r.sums = f.Record(p)
		})
	case nn.Linear:
		c, _ := convolution(linear(op), in[0].raw.shape)
		l.step(touched, func(p *exec.Program) {
			f := conv.Forward{Conv: c, In: l.input(in[0]), Weight: m.variable(i, 0), Z: r.buffer(), ZStride: r.stride, Sums: sums}
			if op.Bias {
				f.Bias = m.variable(i, 1)
			}
			r.sums = f.Record(p)
		})
	case nn.MaxPool:
		l.pool(r, in[0], touched, pool.Pool{K: op.Kernel.H, Stride: op.Stride.H, Pad: op.Pad.Top})
		summed = false
	case nn.AvgPool:
		l.pool(r, in[0], touched, pool.Pool{K: op.Kernel.H, Stride: op.Stride.H, Pad: op.Pad.Top, Average: true, CountPad: op.CountPad})
		summed = false
	case nn.GlobalPool:
		l.step(touched, func(p *exec.Program) { pool.Global{In: l.input(in[0]), Out: r.z.buf}.Record(p) })
		summed = false
	case nn.BatchNorm, nn.Activation, nn.Gate, nn.Add:
		l.sum(r, in, touched, sums)
	case nn.Dropout:
		l.sum(r, in, touched, sums && l.mode != train)
		summed = l.mode != train
		if l.mode == train {
			l.step(touched, func(p *exec.Program) { l.dropout(r, op).Record(p) })
		}
	case nn.DropPath:
		if l.mode == train {
			r.factors = m.arena.F32(m.Batch)
			l.step(nil, func(p *exec.Program) {
				elementwise.DropPath{Out: r.factors, Keep: float32(1 - op.P), Rate: m.rate, Seed: m.Seed, Stream: stream(i),
					Step: m.step}.Record(p)
			})
		}
		l.sum(r, in, touched, sums)
	case nn.Concat:
		at := 0
		for _, q := range in {
			from := at
			at += q.raw.shape.C
			if q.raw.z == r.z && q.raw.at == from {
				continue // it is there
			}
			l.step(append(q.touched(), r.z), func(p *exec.Program) {
				elementwise.Sum{Terms: []elementwise.Term{{In: l.input(q)}}, Out: r.z.buf.Slice(from, r.z.len-from), OutStride: r.shape.C}.Record(p)
			})
		}
		summed = false
	case nn.Slice:
		l.step(touched, func(p *exec.Program) {
			terms := []elementwise.Term{{In: l.input(in[0]).Channels(op.From, op.To-op.From)}}
			r.sums = elementwise.Sum{Terms: terms, Out: r.buffer(), OutStride: r.stride, Sums: sums}.Record(p)
		})
	case nn.Shuffle:
		l.step(touched, func(p *exec.Program) {
			elementwise.Shuffle{In: l.input(in[0]), Groups: op.Groups, Out: r.z.buf}.Record(p)
		})
		summed = false
	}
	if sums && !summed {
		l.step(touched, func(p *exec.Program) {
			r.sums = elementwise.Sum{Terms: []elementwise.Term{{In: r.plain()}}, Out: r.buffer(), Sums: true}.Record(p)
		})
	}
}

// flat is a shape of as many elements with many channels where that can be, for what treats all elements alike.
func flat(s tensor.Shape) tensor.Shape {
	if n := s.Len(); n%align == 0 {
		return tensor.Shape{N: 1, H: n / align, W: 1, C: align}
	}
	return s
}

func (l *lowering) shape(node int) tensor.Shape {
	s := l.m.Net.Nodes[node].Shape
	return tensor.Shape{N: l.m.Batch, H: s.H, W: s.W, C: s.C}
}

// sum adds the step that stores the sum of what it reads.
func (l *lowering) sum(r *raw, in []*port, touched []*value, sums bool) {
	l.step(touched, func(p *exec.Program) {
		s := elementwise.Sum{Out: r.buffer(), OutStride: r.stride, Sums: sums}
		for _, q := range in {
			s.Terms = append(s.Terms, elementwise.Term{In: l.input(q), Weight: r.factors})
		}
		r.sums = addUp(p, s)
	})
}

// mostTerms is how many tensors an operation adds up.
const mostTerms = 8

// addUp records a sum of any number of terms: of many in several operations, each of which goes on with the sum so far.
func addUp(p *exec.Program, s elementwise.Sum) tensor.Stats {
	for len(s.Terms) > mostTerms {
		part := s
		part.Terms, part.Sums = s.Terms[:mostTerms], false
		part.Record(p)
		sofar := tensor.Input{Shape: s.Terms[0].In.Shape, Z: s.Out, Stride: s.OutStride}
		s.Terms = append([]elementwise.Term{{In: sofar}}, s.Terms[mostTerms:]...)
	}
	return s.Record(p)
}

func (l *lowering) pool(r *raw, in *port, touched []*value, op pool.Pool) {
	l.step(touched, func(p *exec.Program) {
		op.In, op.Out, op.OutH, op.OutW = l.input(in), r.z.buf, r.shape.H, r.shape.W
		r.pool = pool.New(l.m.arena, op)
		r.pool.Record(p)
	})
}

func (l *lowering) dropout(r *raw, op nn.Dropout) graph.Dense {
	return graph.Dense{Rows: exec.Fixed(r.shape.N), Width: r.shape.Len() / r.shape.N, Out: r.z.buf, In: r.z.buf, Keep: float32(1 - op.P),
		Seed: l.m.Seed, Stream: stream(r.node), Step: l.m.step}
}

// stream is that of a node's dropout: see nn.Kept.
func stream(node int) uint32 { return philox.PurposeTrain | uint32(node)<<16 }

// loss adds the steps of the loss, and in training of its gradient in the outputs.
func (l *lowering) loss() {
	m := l.m
	for k, out := range m.Net.Outputs {
		q := l.read(nn.View{Raw: out.Node}, l.mode == train)
		op := loss.Classes{N: m.Batch, Classes: q.raw.shape.C, Label: m.Labels, Loss: m.Loss.Slice(k, 1), Scale: 1}
		if k == 0 {
			op.Count = m.Count
		}
		touched, mixed := q.touched(), l.mode == train && m.Options.Mixup
		if l.mode == train {
			op.Smoothing, op.Scale = float32(m.Options.Loss.Smoothing), float32(out.Weight/float64(m.Accumulate))
			if distill := m.Options.Loss.Distill; k == 0 && distill > 0 {
				op.Teacher, op.Weight, op.Temperature = m.Teacher, float32(distill/(1+distill)), float32(m.Options.Loss.Temperature)
				op.Scale *= float32(1 + distill)
			}
			q.d = l.value(q.raw.shape.Len())
			q.left--
			q.written = true
			touched = append(touched, q.d)
		}
		l.step(touched, func(p *exec.Program) {
			op.Logit = q.raw.buffer()
			if q.d != nil {
				op.DLogit = q.d.buf
			}
			op.Record(p)
			if mixed {
				loss.Mixup{N: op.N, Classes: op.Classes, Logit: op.Logit, Label: op.Label, Partner: m.Partners, Weight: m.Mix, Loss: op.Loss, DLogit: op.DLogit,
					Share: op.Scale * (1 - op.Smoothing) * (1 - op.Weight)}.Record(p)
			}
		})
	}
}

// convolution is the geometry of a convolution for the kernels; a depthwise one has kernels of its own.
func convolution(op nn.Conv, in tensor.Shape) (conv.Conv, *depthwise.Conv) {
	out := func(n, kernel, stride, before, after int) int {
		return (n+before+after-op.Dilation*(kernel-1)-1)/stride + 1
	}
	h := out(in.H, op.Kernel.H, op.Stride.H, op.Pad.Top, op.Pad.Bottom)
	w := out(in.W, op.Kernel.W, op.Stride.W, op.Pad.Left, op.Pad.Right)
	square := op.Kernel.H == op.Kernel.W && op.Kernel.H <= 7 && op.Stride.H == op.Stride.W && min(op.Pad.Top, op.Pad.Left) >= 0
	if op.Groups == in.C && op.Out == in.C && in.C > 1 && square && !op.Bias {
		return conv.Conv{}, &depthwise.Conv{In: in, K: op.Kernel.H, Stride: op.Stride.H, PadH: op.Pad.Top, PadW: op.Pad.Left, Dilation: op.Dilation,
			OutH: h, OutW: w}
	}
	return conv.Conv{In: in, Out: op.Out, KH: op.Kernel.H, KW: op.Kernel.W, Stride: op.Stride.H, StrideW: op.Stride.W, PadH: op.Pad.Top,
		PadW: op.Pad.Left, Dilation: op.Dilation, Groups: op.Groups, OutH: h, OutW: w}, nil
}

// linear is a linear layer as a convolution of one pixel.
func linear(op nn.Linear) nn.Conv {
	c := nn.Conv2D(1, op.Out)
	c.Bias = op.Bias
	return c
}

// check tells what of a network the kernels do not run.
func (m *Model) check() error {
	outputs := map[int]bool{}
	for _, out := range m.Net.Outputs {
		if outputs[out.Node] || out.Node == 0 {
			return fmt.Errorf("node %s is an output twice, or the input", m.Net.Nodes[out.Node].Name)
		}
		outputs[out.Node] = true
	}
	for _, i := range m.fusion.Stored {
		node := m.Net.Nodes[i]
		if why := unfit(node.Op); why != "" {
			return fmt.Errorf("node %s: there is no kernel for a %s %s", node.Name, node.Op, why)
		}
	}
	return nil
}

// unfit tells why there is no kernel for an operation.
func unfit(op nn.Op) string {
	square := func(kernel, stride nn.Size, pad nn.Pad) string {
		switch {
		case kernel.H != kernel.W || pad.Top != pad.Left || kernel.H > 11:
			return fmt.Sprintf("over windows of %s with padding %+v", kernel, pad)
		case stride.H != stride.W:
			return fmt.Sprintf("with stride %s", stride)
		}
		return ""
	}
	switch op := op.(type) {
	case nn.Conv:
		if op.Kernel.H*op.Kernel.W > 64 {
			return "with more than 64 taps"
		}
	case nn.MaxPool:
		return square(op.Kernel, op.Stride, op.Pad)
	case nn.AvgPool:
		return square(op.Kernel, op.Stride, op.Pad)
	}
	return ""
}
