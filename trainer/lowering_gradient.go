package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// The life of a gradient.
//
// A stored output (raw) is read in one or more ways (ports): as it is, through a batch norm, an activation, a gate. Backward, each consumer
// adds the gradient in what it has read to the port's d: its contribution. The first overwrites, the others accumulate, and the last
// also applies what stands between the port and the stored output (the activation's slope) and leaves the sums that a batch norm's
// gradient needs. When all contributions to all ports are there, the gradient in the output is whole, and the operation that made the
// output takes its turn:
//
//	consumer  consumer      consumer            gated port: its d goes to the gate, and times the gate to its base
//	    \       /               |                     |
//	     port.d (last: slope)  port.d  <---------------+      contribute, contributeSame, contributeGated, passGate
//	         \                 |
//	          merged, where one batch norm has several ports   merge
//	                  |
//	          through the batch norm: P*d + Q*z + R            wholeGradient; added up where there are several
//	                  |
//	          operation.backward(..., gradient)
//
// The gradient of a batch norm is not stored where its reader can apply it on load (gradient.read); stored makes it a tensor.

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

// addGradients is the sum of gradients in one stored output, in a value of its own.
func (l *lowering) addGradients(all ...*gradient) *gradient {
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

// stored is the gradient as a tensor, with its batch norm applied.
func (l *lowering) stored(g *gradient) *gradient {
	if g.norm == nil {
		return g
	}
	return l.addGradients(g)
}

// contribution is what one consumer adds to the gradient in a port.
type contribution struct {
	port       *port
	accumulate bool
	last       bool // it finishes the gradient: with the activation's slope, and sums where there is a batch norm
}

// next is the next contribution to a port that needs its gradient.
func (l *lowering) next(q *port) contribution {
	if q.d == nil {
		q.d = l.value(q.raw.shape.Len())
	}
	q.left--
	c := contribution{q, q.written, q.left == 0 && q.base == nil && (q.view.Norm != 0 || q.view.Act != 0)}
	q.written = true
	return c
}

// touched lists what the operation that adds the contribution touches.
func (c contribution) touched() []*value {
	if !c.last {
		return []*value{c.port.d}
	}
	return append(c.port.raw.touched(), c.port.d)
}

// sink is where that operation writes to; to be called while recording.
func (l *lowering) sink(c contribution) tensor.Sink {
	s := tensor.Sink{D: c.port.d.buf, Accumulate: c.accumulate}
	if c.last {
		of := l.input(c.port)
		s.Of = &of
		if c.port.view.Norm != 0 && c.port.alone {
			n := c.port.raw.norms[c.port.view.Norm]
			s.Mean, s.InvStd = n.Mean, n.InvStd
		}
	}
	return s
}

// contribute adds the step by which a consumer adds to the gradient in a port, if that is needed.
func (l *lowering) contribute(q *port, touched []*value, record func(p *exec.Program, sink tensor.Sink) tensor.Stats) {
	if !q.needed {
		return
	}
	c := l.next(q)
	l.step(append(c.touched(), touched...), func(p *exec.Program) {
		if stats := record(p, l.sink(c)); c.last {
			q.stats = stats
		}
	})
	l.passGate(q)
}

// contributeSame adds a gradient as it is, but for what elementwise.SumGradient does to it: a gate, the mean of a global pooling, a stride.
// The gradient may be the port's own.
func (l *lowering) contributeSame(q *port, touched []*value, record func() elementwise.SumGradient) {
	l.contribute(q, touched, func(p *exec.Program, sink tensor.Sink) tensor.Stats {
		s := record()
		s.Shape = q.raw.shape
		s.Terms = []elementwise.TermGradient{{Sink: sink}}
		return s.Record(p)[0]
	})
}

// passGate follows a contribution to a gated port: when its gradient is whole, it goes on to the gate and, later, to the base.
func (l *lowering) passGate(q *port) {
	if q.base == nil || q.left > 0 || q.settled {
		return
	}
	q.settled = true
	if q.gate.needed {
		d := l.value(q.gate.raw.shape.Len())
		l.step(append(q.base.touched(), q.d, d), func(p *exec.Program) {
			elementwise.GateGradient{In: l.input(q.base), G: q.d.buf, DGate: d.buf}.Record(p)
		})
		l.contributeSame(q.gate, []*value{d}, func() elementwise.SumGradient { return elementwise.SumGradient{G: d.buf} })
	}
	if q.base.needed {
		q.base.gated = append(q.base.gated, q)
	}
}

// contributeGated adds a gated port's gradient, times the gate, to that of its base, and with it that of the base's global mean if there is one.
func (l *lowering) contributeGated(base *port, mean *value) {
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
	l.contributeSame(base, touched, func() elementwise.SumGradient {
		s := elementwise.SumGradient{G: q.d.buf, Gate: q.factors.buf}
		if mean != nil {
			s.Mean = mean.buf
		}
		return s
	})
}

// wholeGradient is the gradient in a stored output when all its consumers have added theirs; nil where there is none.
func (l *lowering) wholeGradient(r *raw) *gradient {
	var all []*gradient
	for _, group := range r.groups {
		var first *port
		for _, q := range group {
			for len(q.gated) > 0 {
				l.contributeGated(q, nil)
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
	return l.addGradients(all...)
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
		if g := l.wholeGradient(r); g != nil {
			l.m.ops[r.node].backward(l, r, l.reads[r.node], g)
		}
	}
}
