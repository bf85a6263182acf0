package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// concat lays the channels of its inputs side by side. What can be written there at once is there already (lowering.join).
type concat struct{}

func (concat) facts() facts { return facts{} }

func (concat) forward(l *lowering, r *raw, in []*port, _ bool) bool {
	l.output(r, in)
	at := 0
	for _, q := range in {
		from := at
		at += q.raw.shape.C
		if q.raw.z == r.z && q.raw.at == from {
			continue // it is there
		}
		l.step(append(q.touched(), r.z), func(p *exec.Program) {
			out := r.z.buf.Slice(from, r.z.len-from)
			elementwise.Sum{Terms: []elementwise.Term{{In: l.input(q)}}, Out: out, OutStride: r.shape.C}.Record(p)
		})
	}
	return false
}

func (concat) backward(l *lowering, r *raw, in []*port, g *gradient) {
	g = l.stored(g)
	at := 0
	for _, q := range in {
		from := at
		at += q.raw.shape.C
		l.contributeSame(q, []*value{g.g}, func() elementwise.SumGradient {
			return elementwise.SumGradient{G: g.g.buf.Slice(from, g.g.len-from), GStride: r.shape.C}
		})
	}
}

// inside is where in a concatenation a tensor lies.
type inside struct {
	whole      *value
	at, stride int
}

// join finds what may be written into a concatenation at once: tensors that it reads as they are stored, of operations that can leave gaps
// between pixels. The first concatenation that reads a tensor has it.
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
		if _, ok := l.m.ops[i].(concat); !ok {
			continue
		}
		whole := l.value(l.shape(i).Len())
		l.inside[i] = inside{whole: whole}
		at := 0
		for _, v := range f.Reads(i) {
			_, taken := l.inside[v.Raw]
			if v == (nn.View{Raw: v.Raw}) && !taken && !output[v.Raw] && l.m.ops[v.Raw].facts().gaps {
				l.inside[v.Raw] = inside{whole, at, net.Nodes[i].Shape.C}
			}
			at += net.Nodes[v.Raw].Shape.C
		}
	}
}

// channels takes some channels out.
type channels struct{ op nn.Slice }

func (channels) facts() facts { return facts{gaps: true} }

func (o channels) forward(l *lowering, r *raw, in []*port, sums bool) bool {
	l.step(l.output(r, in), func(p *exec.Program) {
		terms := []elementwise.Term{{In: l.input(in[0]).Channels(o.op.From, o.op.To-o.op.From)}}
		r.sums = elementwise.Sum{Terms: terms, Out: r.buffer(), OutStride: r.stride, Sums: sums}.Record(p)
	})
	return true
}

// backward adds the gradient in some channels to that in all.
func (o channels) backward(l *lowering, r *raw, in []*port, g *gradient) {
	g = l.stored(g)
	q := in[0]
	if !q.needed {
		return
	}
	c := l.next(q)
	if !c.accumulate { // zeros first: the output times zero
		l.step(append(q.raw.touched(), q.d), func(p *exec.Program) {
			all := q.raw.plain()
			all.Scale, all.Shift = l.m.zeros, l.m.zeros
			elementwise.Sum{Terms: []elementwise.Term{{In: all}}, Out: q.d.buf}.Record(p)
		})
	}
	l.step([]*value{g.g, q.d}, func(p *exec.Program) {
		part := tensor.Sink{D: q.d.buf.Slice(o.op.From, q.d.len-o.op.From), Stride: q.raw.shape.C, Accumulate: true}
		elementwise.SumGradient{Shape: r.shape, G: g.g.buf, Terms: []elementwise.TermGradient{{Sink: part}}}.Record(p)
	})
	if c.last {
		l.step(c.touched(), func(p *exec.Program) {
			sink := l.sink(c)
			sink.Accumulate = false
			q.stats = elementwise.SumGradient{Shape: q.raw.shape, G: q.d.buf, Terms: []elementwise.TermGradient{{Sink: sink}}}.Record(p)[0]
		})
	}
	l.passGate(q)
}

// shuffle deals the channels of groups out.
type shuffle struct{ op nn.Shuffle }

func (shuffle) facts() facts { return facts{} }

func (o shuffle) forward(l *lowering, r *raw, in []*port, _ bool) bool {
	l.step(l.output(r, in), func(p *exec.Program) {
		elementwise.Shuffle{In: l.input(in[0]), Groups: o.op.Groups, Out: r.z.buf}.Record(p)
	})
	return false
}

func (o shuffle) backward(l *lowering, r *raw, in []*port, g *gradient) {
	g = l.stored(g)
	l.contribute(in[0], []*value{g.g}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return elementwise.Shuffle{In: l.input(in[0]), Groups: o.op.Groups, Out: r.buffer()}.RecordBackward(p, g.g.buf, s)
	})
}
