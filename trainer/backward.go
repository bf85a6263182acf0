package trainer

import (
	"slices"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/depthwise"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// gradient is the gradient in a stored output, as its producer's backward operations read it.
type gradient struct {
	g    *value
	norm *norm.Batch // through which it goes; nil: it is g itself
	raw  *raw
}

func (g *gradient) read() tensor.Gradient {
	if g.norm == nil {
		return tensor.Gradient{G: g.g.buf}
	}
	d := g.norm.Gradient(g.g.buf, g.raw.buffer())
	d.ZStride = g.raw.stride
	return d
}

func (g *gradient) touched() []*value {
	if g.norm == nil {
		return []*value{g.g}
	}
	return append(g.raw.touched(), g.g)
}

// terms are those of a sum that is the gradient.
func (g *gradient) terms(zeros *exec.Buffer) []elementwise.Term {
	if g.norm == nil {
		return []elementwise.Term{{In: tensor.Input{Shape: g.raw.shape, Z: g.g.buf}}}
	}
	z := g.raw.plain()
	z.Scale, z.Shift = g.norm.Q, g.norm.R
	return []elementwise.Term{{In: tensor.Input{Shape: g.raw.shape, Z: g.g.buf, Scale: g.norm.P, Shift: zeros}}, {In: z}}
}

// added is the sum of gradients in one stored output, in a value of its own.
func (l *lowering) added(all ...*gradient) *gradient {
	out := &gradient{g: l.value(all[0].raw.shape.Len()), raw: all[0].raw}
	touched := []*value{out.g}
	for _, g := range all {
		touched = append(touched, g.touched()...)
	}
	l.step(touched, func(p *exec.Program) {
		s := elementwise.Sum{Out: out.g.buf}
		for _, g := range all {
			s.Terms = append(s.Terms, g.terms(l.m.zeros)...)
		}
		addUp(p, s)
	})
	return out
}

// plain is a gradient that has nothing to be applied.
func (l *lowering) plain(g *gradient) *gradient {
	if g.norm == nil {
		return g
	}
	return l.added(g)
}

// handover is a consumer's turn to hand on its gradient to a port.
type handover struct {
	port       *port
	accumulate bool
	last       bool // it finishes the gradient: with the activation's slope, and sums where there is a batch norm
}

// turn is the next handover to a port.
func (l *lowering) turn(q *port) handover {
	if q.d == nil {
		q.d = l.value(q.raw.shape.Len())
	}
	q.left--
	h := handover{q, q.written, q.left == 0 && q.base == nil && (q.view.Norm != 0 || q.view.Act != 0)}
	q.written = true
	return h
}

// touched lists what the operation that hands on touches.
func (h handover) touched() []*value {
	if !h.last {
		return []*value{h.port.d}
	}
	return append(h.port.raw.touched(), h.port.d)
}

// sink is for the operation, while recording.
func (l *lowering) sink(h handover) tensor.Sink {
	s := tensor.Sink{D: h.port.d.buf, Accumulate: h.accumulate}
	if h.last {
		of := l.input(h.port)
		s.Of = &of
		if h.port.view.Norm != 0 && h.port.alone {
			n := h.port.raw.norms[h.port.view.Norm]
			s.Mean, s.InvStd = n.Mean, n.InvStd
		}
	}
	return s
}

// hand adds the step by which a consumer hands on its gradient to a port that needs one.
func (l *lowering) hand(q *port, touched []*value, record func(p *exec.Program, sink tensor.Sink) tensor.Stats) {
	if !q.needed {
		return
	}
	h := l.turn(q)
	l.step(append(h.touched(), touched...), func(p *exec.Program) {
		if stats := record(p, l.sink(h)); h.last {
			q.stats = stats
		}
	})
	l.settle(q)
}

// handOn hands on g, times the gate and the mean of elementwise.SumGradient where there are any. The gradient may be the port's own.
func (l *lowering) handOn(q *port, touched []*value, record func() elementwise.SumGradient) {
	l.hand(q, touched, func(p *exec.Program, sink tensor.Sink) tensor.Stats {
		s := record()
		s.Shape = q.raw.shape
		s.Terms = []elementwise.TermGradient{{Sink: sink}}
		return s.Record(p)[0]
	})
}

// settle follows a handover to a gated port: when the gradient is complete, it goes on to the gate and, later, to the base.
func (l *lowering) settle(q *port) {
	if q.base == nil || q.left > 0 || q.settled {
		return
	}
	q.settled = true
	if q.gate.needed {
		d := l.value(q.gate.raw.shape.Len())
		l.step(append(q.base.touched(), q.d, d), func(p *exec.Program) {
			elementwise.GateGradient{In: l.input(q.base), G: q.d.buf, DGate: d.buf}.Record(p)
		})
		l.handOn(q.gate, []*value{d}, func() elementwise.SumGradient { return elementwise.SumGradient{G: d.buf} })
	}
	if q.base.needed {
		q.base.gated = append(q.base.gated, q)
	}
}

// ungate hands a gated port's gradient on to its base, and with it that of the base's global mean if there is one.
func (l *lowering) ungate(base *port, mean *value) {
	q := base.gated[0]
	base.gated = base.gated[1:]
	if !base.written {
		base.d = q.d
	}
	touched := []*value{q.d, q.factors}
	if mean != nil {
		touched = append(touched, mean)
		base.left--
	}
	l.handOn(base, touched, func() elementwise.SumGradient {
		s := elementwise.SumGradient{G: q.d.buf, Gate: q.factors.buf}
		if mean != nil {
			s.Mean = mean.buf
		}
		return s
	})
}

// complete is the gradient in a stored output when all its consumers have handed theirs on; nil where there is none.
func (l *lowering) complete(r *raw) *gradient {
	var all []*gradient
	for _, group := range r.groups {
		var first *port
		for _, q := range group {
			for len(q.gated) > 0 {
				l.ungate(q, nil)
			}
			if q.left != 0 {
				panic("trainer: a gradient is missing in " + l.m.Net.Nodes[r.node].Name)
			}
			if !q.written {
				continue
			}
			if first == nil {
				first = q
			} else {
				l.merge(first, q, nil)
			}
		}
		if first == nil {
			continue
		}
		g := &gradient{g: first.d, raw: r}
		if k := first.view.Norm; k != 0 {
			n := r.norms[k]
			if !first.alone {
				l.merge(first, nil, n)
			}
			l.step(nil, func(p *exec.Program) {
				n.Backward(p, first.stats, norm.Backward{DGamma: l.m.gradient(k, 0), DBeta: l.m.gradient(k, 1), Accumulate: l.accumulate, Frozen: n.op.Frozen})
			})
			g.norm = n.Batch
		}
		all = append(all, g)
	}
	switch {
	case len(all) == 0 || !l.flows[r.node]:
		return nil
	case len(all) == 1:
		return all[0]
	}
	return l.added(all...)
}

// merge adds the finished gradient of a port to that of another one with the same batch norm or, with n, leaves the sums of the first.
func (l *lowering) merge(first, q *port, n *normed) {
	from := first
	if q != nil {
		from = q
	}
	l.step(append(first.raw.touched(), first.d, from.d), func(p *exec.Program) {
		sink := tensor.Sink{D: first.d.buf, Accumulate: q != nil}
		if n != nil {
			z := first.raw.plain()
			z.Scale, z.Shift = n.Scale, n.Shift
			sink.Of = &z
			sink.Mean, sink.InvStd = n.Mean, n.InvStd
		}
		s := elementwise.SumGradient{Shape: first.raw.shape, G: from.d.buf, Terms: []elementwise.TermGradient{{Sink: sink}}}
		if stats := s.Record(p)[0]; n != nil {
			first.stats = stats
		}
	})
}

// backward adds the steps of the gradient.
func (l *lowering) backward() {
	for _, r := range l.order {
		for _, group := range r.groups {
			group[0].alone = len(group) == 1
		}
	}
	for k := len(l.order) - 1; k >= 0; k-- {
		r := l.order[k]
		if !l.live[r.node] {
			continue
		}
		if g := l.complete(r); g != nil {
			l.undo(r, g)
		}
	}
}

// undo adds the backward steps of a stored node's operation.
func (l *lowering) undo(r *raw, g *gradient) {
	m, i, in := l.m, r.node, l.reads[r.node]
	switch op := m.Net.Nodes[i].Op.(type) {
	case nn.Conv:
		l.undoConvolution(r, g, op)
	case nn.Linear:
		l.undoConvolution(r, g, linear(op))
	case nn.MaxPool, nn.AvgPool:
		g = l.plain(g)
		touched := append(in[0].touched(), g.g)
		l.hand(in[0], touched, func(p *exec.Program, s tensor.Sink) tensor.Stats { return r.pool.RecordBackward(p, g.g.buf, s) })
	case nn.GlobalPool:
		g = l.plain(g)
		if len(in[0].gated) > 0 {
			l.ungate(in[0], g.g)
			return
		}
		l.hand(in[0], []*value{g.g}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
			return pool.Global{In: l.input(in[0])}.RecordBackward(p, g.g.buf, s)
		})
	case nn.Dropout:
		g = l.plain(g)
		l.step(append(r.touched(), g.g), func(p *exec.Program) { l.dropout(r, op).RecordBackward(p, g.g.buf, g.g.buf) })
		l.share(r, g)
	case nn.BatchNorm, nn.Activation, nn.Gate, nn.Add, nn.DropPath:
		l.share(r, l.plain(g))
	case nn.Concat:
		g = l.plain(g)
		at := 0
		for _, q := range in {
			from := at
			at += q.raw.shape.C
			l.handOn(q, []*value{g.g}, func() elementwise.SumGradient {
				return elementwise.SumGradient{G: g.g.buf.Slice(from, g.g.len-from), GStride: r.shape.C}
			})
		}
	case nn.Shuffle:
		g = l.plain(g)
		l.hand(in[0], []*value{g.g}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
			return elementwise.Shuffle{In: l.input(in[0]), Groups: op.Groups, Out: r.buffer()}.RecordBackward(p, g.g.buf, s)
		})
	case nn.Slice:
		l.undoSlice(r, l.plain(g), op)
	}
}

// share hands the gradient in a sum on to its terms.
func (l *lowering) share(r *raw, g *gradient) {
	var turns []handover
	touched := []*value{g.g}
	for _, q := range l.reads[r.node] {
		if q.needed {
			h := l.turn(q)
			turns = append(turns, h)
			touched = append(touched, h.touched()...)
		}
	}
	if len(turns) == 0 {
		return
	}
	l.step(touched, func(p *exec.Program) {
		for some := range slices.Chunk(turns, mostTerms) {
			s := elementwise.SumGradient{Shape: r.shape, G: g.g.buf}
			for _, h := range some {
				s.Terms = append(s.Terms, elementwise.TermGradient{Sink: l.sink(h), Weight: r.factors})
			}
			for k, stats := range s.Record(p) {
				if some[k].last {
					some[k].port.stats = stats
				}
			}
		}
	})
	for _, h := range turns {
		l.settle(h.port)
	}
}

// undoSlice adds the gradient in some channels to that of all.
func (l *lowering) undoSlice(r *raw, g *gradient, op nn.Slice) {
	q := l.reads[r.node][0]
	if !q.needed {
		return
	}
	h := l.turn(q)
	if !h.accumulate { // zeros first: the output times zero
		l.step(append(q.raw.touched(), q.d), func(p *exec.Program) {
			all := q.raw.plain()
			all.Scale, all.Shift = l.m.zeros, l.m.zeros
			elementwise.Sum{Terms: []elementwise.Term{{In: all}}, Out: q.d.buf}.Record(p)
		})
	}
	l.step([]*value{g.g, q.d}, func(p *exec.Program) {
		part := tensor.Sink{D: q.d.buf.Slice(op.From, q.d.len-op.From), Stride: q.raw.shape.C, Accumulate: true}
		elementwise.SumGradient{Shape: r.shape, G: g.g.buf, Terms: []elementwise.TermGradient{{Sink: part}}}.Record(p)
	})
	if h.last {
		l.step(h.touched(), func(p *exec.Program) {
			sink := l.sink(h)
			sink.Accumulate = false
			q.stats = elementwise.SumGradient{Shape: q.raw.shape, G: q.d.buf, Terms: []elementwise.TermGradient{{Sink: sink}}}.Record(p)[0]
		})
	}
	l.settle(q)
}

func (l *lowering) undoConvolution(r *raw, g *gradient, op nn.Conv) {
	m, in := l.m, l.reads[r.node][0]
	c, dw := convolution(op, in.raw.shape)
	touched := append(in.touched(), g.touched()...)
	if dw != nil {
		b := depthwise.Backward{Conv: *dw, Accumulate: l.accumulate}
		record := func(p *exec.Program, s tensor.Sink) tensor.Stats {
			b.In, b.Grad, b.Weight, b.DWeight, b.Sink = l.input(in), g.read(), m.variable(r.node, 0), m.gradient(r.node, 0), s
			return b.Record(p)
		}
		if in.needed {
			l.hand(in, touched, record)
		} else {
			l.step(touched, func(p *exec.Program) { record(p, tensor.Sink{}) })
		}
		return
	}
	l.step(touched, func(p *exec.Program) {
		conv.WeightGradient{Conv: c, In: l.input(in), Grad: g.read(), DWeight: m.gradient(r.node, 0), Accumulate: l.accumulate}.Record(p)
	})
	if op.Bias {
		plain := l.plain(g)
		l.step(plain.touched(), func(p *exec.Program) {
			graph.ColumnSum{Out: m.gradient(r.node, 1), In: plain.g.buf, Rows: exec.Fixed(r.shape.Pixels()), Width: r.shape.C, Accumulate: l.accumulate}.Record(p)
		})
	}
	l.hand(in, g.touched(), func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return conv.InputGradient{Conv: c, Grad: g.read(), Weight: m.variable(r.node, 0), Sink: s}.Record(p)
	})
}
