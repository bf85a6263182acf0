package trainer

import (
	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// The life of a gradient.
//
// A stored output is read in one or more ways, its operands: as it is, through a batch norm, an activation, a gate.
// Backward, each consumer contributes to the gradient in the operand that it has read. The first contribution
// overwrites operand.grad, the others accumulate, and the last also applies what stands between the operand and the
// stored output (the activation's slope) and leaves the sums that a batch norm's gradient needs. When all contributions
// to all operands are there, the gradient in the output is whole, and the backward of the operation that made the
// output runs:
//
//	consumer  consumer      consumer            gated operand: its gradient goes to the gate
//	    \       /               |               and, times the gate, to its base (passGate)
//	   operand.grad       operand.grad  <-----------------+
//	         \                 |                contribute, contributeSame, contributeGated
//	          merged, where one batch norm has several operands   (merge)
//	                  |
//	          through the batch norm: P*grad + Q*z + R, and summed where there are several   (wholeGradient)
//	                  |
//	          operation.backward(..., dout)
//
// A gradient through a batch norm is not stored where its reader can apply the norm on load (gradient.read);
// materialize makes it a tensor.

// gradient is the gradient in a stored output, in the output's shape, as the backward of its operation reads it.
type gradient struct {
	tensor *value
	norm   *norm.Batch // the batch norm that it is still to be taken through; nil: tensor is the gradient itself
	of     *output
}

// read is the gradient as an operation reads it. Buffers are known only while the program is recorded.
func (g *gradient) read() tensor.Gradient {
	if g.norm == nil {
		return tensor.Gradient{G: g.tensor.buf}
	}
	d := g.norm.Gradient(g.tensor.buf, g.of.buffer())
	d.ZStride = g.of.stride
	return d
}

func (g *gradient) touched() []*value {
	if g.norm == nil {
		return []*value{g.tensor}
	}
	return append(g.of.touched(), g.tensor)
}

// terms are the terms of a sum that equals the gradient.
func (g *gradient) terms(zeros *exec.Buffer) []elementwise.Term {
	if g.norm == nil {
		return []elementwise.Term{{In: tensor.Input{Shape: g.of.shape, Z: g.tensor.buf}}}
	}
	z := g.of.plain()
	z.Scale, z.Shift = g.norm.Q, g.norm.R
	return []elementwise.Term{{In: tensor.Input{Shape: g.of.shape, Z: g.tensor.buf, Scale: g.norm.P, Shift: zeros}},
		{In: z}}
}

// addGradients adds up gradients in one stored output into a value of its own.
func (l *lowering) addGradients(all ...*gradient) *gradient {
	out := &gradient{tensor: l.value(all[0].of.shape.Len()), of: all[0].of}
	touched := []*value{out.tensor}
	for _, g := range all {
		touched = append(touched, g.touched()...)
	}
	l.step(touched, func(p *exec.Program) {
		s := elementwise.Sum{Out: out.tensor.buf}
		for _, g := range all {
			s.Terms = append(s.Terms, g.terms(l.m.zeros)...)
		}
		addUp(p, s)
	})
	return out
}

// materialize returns the gradient as a stored tensor, with its batch norm applied.
func (l *lowering) materialize(g *gradient) *gradient {
	if g.norm == nil {
		return g
	}
	return l.addGradients(g)
}

// contribution is what one consumer adds to the gradient in an operand.
type contribution struct {
	to         *operand
	accumulate bool
	last       bool // it finishes the gradient: it applies the activation's slope and leaves a batch norm's sums
}

// next counts one more contribution to an operand that needs its gradient.
func (l *lowering) next(x *operand) contribution {
	if x.grad == nil {
		x.grad = l.value(x.of.shape.Len())
	}
	x.left--
	c := contribution{x, x.written, x.left == 0 && x.base == nil && (x.view.Norm != 0 || x.view.Act != 0)}
	x.written = true
	return c
}

// touched lists the values that the operation which adds the contribution touches.
func (c contribution) touched() []*value {
	if !c.last {
		return []*value{c.to.grad}
	}
	return append(c.to.of.touched(), c.to.grad)
}

// sink is where that operation writes to. Buffers are known only while the program is recorded.
func (l *lowering) sink(c contribution) tensor.Sink {
	s := tensor.Sink{D: c.to.grad.buf, Accumulate: c.accumulate}
	if c.last {
		of := l.input(c.to)
		s.Of = &of
		if c.to.view.Norm != 0 && c.to.alone {
			n := c.to.of.norms[c.to.view.Norm]
			s.Mean, s.InvStd = n.Mean, n.InvStd
		}
	}
	return s
}

// contribute adds the step by which a consumer contributes to the gradient in an operand, if anyone needs it.
func (l *lowering) contribute(x *operand, touched []*value, record func(p *exec.Program,
	sink tensor.Sink) tensor.Stats) {
	if !x.needed {
		return
	}
	c := l.next(x)
	l.step(append(c.touched(), touched...), func(p *exec.Program) {
		if stats := record(p, l.sink(c)); c.last {
			x.stats = stats
		}
	})
	l.passGate(x)
}

// contributeSame contributes a gradient as it is, but for what elementwise.SumGradient does to it: a gate, the mean of
// a global pooling, a stride. The gradient may be the operand's own.
func (l *lowering) contributeSame(x *operand, touched []*value, record func() elementwise.SumGradient) {
	l.contribute(x, touched, func(p *exec.Program, sink tensor.Sink) tensor.Stats {
		s := record()
		s.Shape = x.of.shape
		s.Terms = []elementwise.TermGradient{{Sink: sink}}
		return s.Record(p)[0]
	})
}

// passGate follows a contribution to a gated operand: a whole gradient goes on to the gate at once, and to the base
// when the base's own consumers have contributed.
func (l *lowering) passGate(x *operand) {
	if x.base == nil || x.left > 0 || x.passed {
		return
	}
	x.passed = true
	switch {
	case x.gate.needed && l.m.arena.Device().Accelerated() && x.gate.view.Norm == 0: // no sums
		l.contribute(x.gate, append(x.base.touched(), x.grad), func(p *exec.Program, s tensor.Sink) tensor.Stats {
			elementwise.GateGradient{In: l.input(x.base), G: x.grad.buf, Sink: s}.Record(p)
			return tensor.Stats{}
		})
	case x.gate.needed:
		d := l.value(x.gate.of.shape.Len())
		l.step(append(x.base.touched(), x.grad, d), func(p *exec.Program) {
			elementwise.GateGradient{In: l.input(x.base), G: x.grad.buf, DGate: d.buf}.Record(p)
		})
		l.contributeSame(x.gate, []*value{d}, func() elementwise.SumGradient {
			return elementwise.SumGradient{G: d.buf}
		})
	}
	if x.base.needed {
		x.base.gated = append(x.base.gated, x)
	}
}

// contributeGated adds the gradient in a gated operand, times the gate, to that in its base, and with it the gradient
// in the base's global mean if there is one.
func (l *lowering) contributeGated(base *operand, mean *value) {
	x := base.gated[0]
	base.gated = base.gated[1:]
	if !base.written {
		base.grad = x.grad
	}
	touched := []*value{x.grad, x.factors}
	if mean != nil {
		touched = append(touched, mean)
		base.left--
	}
	l.contributeSame(base, touched, func() elementwise.SumGradient {
		s := elementwise.SumGradient{G: x.grad.buf, Gate: x.factors.buf}
		if mean != nil {
			s.Mean = mean.buf
		}
		return s
	})
}

// wholeGradient is the gradient in a stored output once all its consumers have contributed. It is nil where nothing
// before the output wants it.
func (l *lowering) wholeGradient(out *output) *gradient {
	var all []*gradient
	for _, group := range out.groups {
		var first *operand
		for _, x := range group {
			for len(x.gated) > 0 {
				l.contributeGated(x, nil)
			}
			if x.left != 0 {
				panic("trainer: a gradient is missing in " + l.m.Net.Nodes[out.node].Name)
			}
			if !x.written {
				continue
			}
			if first == nil {
				first = x
			} else {
				l.merge(first, x, nil)
			}
		}
		if first == nil {
			continue
		}
		g := &gradient{tensor: first.grad, of: out}
		if k := first.view.Norm; k != 0 {
			n := out.norms[k]
			if !first.alone {
				l.merge(first, nil, n)
			}
			l.normGradient(n, k, first)
			g.norm = n.Batch
		}
		all = append(all, g)
	}
	switch {
	case len(all) == 0 || !l.flows[out.node]:
		return nil
	case len(all) == 1:
		return all[0]
	}
	return l.addGradients(all...)
}

// normGradient adds the steps that take the gradient in an operand through its batch norm n, which is node k. The
// gradients in the norm's own parameters are those of the shard, which are added up as all others are.
func (l *lowering) normGradient(n *normed, k int, x *operand) {
	own := norm.Backward{Accumulate: l.accumulate, Frozen: n.op.Frozen}
	affine := !n.op.NoAffine && !l.m.fixedWeights
	l.step(nil, func(p *exec.Program) {
		if affine {
			own.DGamma, own.DBeta = l.m.gradient(k, 0), l.m.gradient(k, 1)
		}
		n.Backward(p, x.stats, own)
	})
	if n.op.Frozen || !l.together() {
		return
	}
	stats := l.overShards(tensor.BackwardRows, func() tensor.Stats { return x.stats })
	l.step(nil, func(p *exec.Program) { n.Backward(p, stats(), norm.Backward{}) })
}

// merge adds the finished gradient in an operand to that in the first one with the same batch norm. With n it only
// leaves the sums of the first, which its batch norm needs.
func (l *lowering) merge(first, x *operand, n *normed) {
	from := first
	if x != nil {
		from = x
	}
	l.step(append(first.of.touched(), first.grad, from.grad), func(p *exec.Program) {
		sink := tensor.Sink{D: first.grad.buf, Accumulate: x != nil}
		if n != nil {
			z := first.of.plain()
			z.Scale, z.Shift = n.Scale, n.Shift
			sink.Of = &z
			sink.Mean, sink.InvStd = n.Mean, n.InvStd
		}
		s := elementwise.SumGradient{Shape: first.of.shape, G: from.grad.buf,
			Terms: []elementwise.TermGradient{{Sink: sink}}}
		if stats := s.Record(p)[0]; n != nil {
			first.stats = stats
		}
	})
}

// waitingWeights are gradients in convolutions' weights that are still to be computed, and what they read. Nothing
// changes it meanwhile: a gradient in a convolution's output is whole before the convolution's backward begins.
type waitingWeights struct {
	record  []func(p *exec.Program, together *conv.Weights)
	touched []*value
}

// mostWaiting is how many gradients in weights wait for each other. What they read lives as long.
const mostWaiting = 8

// weight adds the step that computes the gradient in a convolution's weight: on an accelerator with those of other
// convolutions, since nothing waits for it.
func (l *lowering) weight(touched []*value, record func(p *exec.Program, together *conv.Weights)) {
	if l.sums == nil {
		l.step(touched, func(p *exec.Program) { record(p, nil) })
		return
	}
	w := &l.weights
	w.record, w.touched = append(w.record, record), append(w.touched, touched...)
	if len(w.record) == mostWaiting {
		l.flushWeights()
	}
}

// flushWeights adds the step that computes the gradients that wait.
func (l *lowering) flushWeights() {
	w := l.weights
	l.weights = waitingWeights{}
	if len(w.record) == 0 {
		return
	}
	l.step(w.touched, func(p *exec.Program) {
		var together conv.Weights
		for _, record := range w.record {
			record(p, &together)
		}
		together.Record(p)
	})
}

// backward adds the steps that compute the gradient in the parameters. On an accelerator the last of them adds up what
// all others have left in parts.
func (l *lowering) backward() {
	if l.m.arena.Device().Accelerated() {
		l.sums = &partial.Sums{}
	}
	for _, out := range l.order {
		for _, group := range out.groups {
			group[0].alone = len(group) == 1
		}
	}
	for k := len(l.order) - 1; k >= 0; k-- {
		out := l.order[k]
		if !l.live[out.node] {
			continue
		}
		if dout := l.wholeGradient(out); dout != nil {
			l.m.ops[out.node].backward(l, out, l.reads[out.node], dout)
		}
		l.cut(out.node)
	}
	l.finishSums()
	if n := len(l.rest); n > 0 && l.rest[n-1].step == len(l.steps) {
		l.rest = l.rest[:n-1] // nothing follows it: the rest has no gradient
	}
}

// finishSums adds the steps that leave whole what is left in parts so far.
func (l *lowering) finishSums() {
	if l.sums == nil {
		return
	}
	l.flushWeights()
	l.step(l.summed, func(p *exec.Program) {
		l.sums.Record(p)
		*l.sums = partial.Sums{}
	})
	l.summed = nil
}

// segment is what a program does behind a cut.
type segment struct {
	step    int // its first
	whole   int // when it begins the gradient is whole from this float on
	program *exec.Program
	// exchange comes before it, where it begins with a batch norm over all shards; otherwise nil.
	exchange *exchange
}

// cut ends a segment of the program where so many more of the gradient's last floats are whole, as a bucket has, when
// the backward of a stored node is done: nodes stand in the gradient behind those that they read. What is whole at the
// end of the program needs no cut.
func (l *lowering) cut(node int) {
	if l.bucket == 0 {
		return
	}
	last := l.m.Params
	if n := len(l.rest); n > 0 {
		last = l.rest[n-1].whole
	}
	by := map[int]int{} // of norms, the stored node whose backward makes their gradients
	for _, out := range l.order {
		for k := range out.norms {
			by[k] = out.node
		}
	}
	whole := last
	for i := len(l.m.variables) - 1; i >= 0; i-- {
		v := l.m.variables[i]
		if at := l.m.offset[l.m.bindings[i].Shared]; v.Role.Trainable() && at < last {
			if made, ok := by[v.Node]; ok && made < node || !ok && v.Node < node {
				break
			}
			whole = at
		}
	}
	if last-whole < l.bucket || whole == 0 {
		return
	}
	l.finishSums()
	l.rest = append(l.rest, segment{step: len(l.steps), whole: whole})
}
