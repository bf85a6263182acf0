package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// concat lays the channels of its inputs side by side. Inputs that can be written into it at once are there already;
// see lowering.join.
type concat struct{}

func (concat) facts() facts { return facts{} }

func (concat) forward(l *lowering, out *output, in []*operand, _ bool) bool {
	l.allocate(out, in)
	at := 0
	for _, x := range in {
		from := at
		at += x.of.shape.C
		if x.of.z == out.z && x.of.at == from {
			continue // It is there already.
		}
		l.step(append(x.touched(), out.z), func(p *exec.Program) {
			part := out.z.buf.Slice(from, out.z.len-from)
			elementwise.Sum{Terms: []elementwise.Term{{In: l.input(x)}}, Out: part, OutStride: out.shape.C}.Record(p)
		})
	}
	return false
}

func (concat) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	at := 0
	for _, x := range in {
		from := at
		at += x.of.shape.C
		l.contributeSame(x, []*value{dout.tensor}, func() elementwise.SumGradient {
			return elementwise.SumGradient{G: dout.tensor.buf.Slice(from, dout.tensor.len-from), GStride: out.shape.C}
		})
	}
}

// inside is where in a concatenation a tensor lies.
type inside struct {
	whole  *value // the concatenation, [N, H, W, stride]
	at     int    // the first of the tensor's channels in it
	stride int    // channels of the concatenation: from a pixel to the next
}

// join finds the tensors that can be written straight into a concatenation: it reads them as they are stored, and their
// operations can leave gaps between pixels. Of several concatenations the first that reads a tensor holds it.
func (l *lowering) join() {
	l.inside = map[int]inside{}
	net, f := l.m.Net, l.m.fusion
	if l.mode == inspect { // Every tensor is looked at by itself.
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
			_, taken := l.inside[v.Node]
			if v == (nn.View{Node: v.Node}) && !taken && !output[v.Node] && l.m.ops[v.Node].facts().gaps {
				l.inside[v.Node] = inside{whole, at, net.Nodes[i].Shape.C}
			}
			at += net.Nodes[v.Node].Shape.C
		}
	}
}

// channels takes some channels out of its input.
type channels struct{ op nn.Slice }

func (channels) facts() facts { return facts{gaps: true} }

func (o channels) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	l.step(l.allocate(out, in), func(p *exec.Program) {
		terms := []elementwise.Term{{In: l.input(in[0]).Channels(o.op.From, o.op.To-o.op.From)}}
		out.sums = elementwise.Sum{Terms: terms, Out: out.buffer(), OutStride: out.stride, Sums: sums}.Record(p)
	})
	return true
}

// backward adds the gradient in some channels to that in all.
func (o channels) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	x := in[0]
	if !x.needed {
		return
	}
	c := l.next(x)
	if !c.accumulate { // Zeros come first: the output times zero.
		l.step(append(x.of.touched(), x.grad), func(p *exec.Program) {
			all := x.of.plain()
			all.Scale, all.Shift = l.m.zeros, l.m.zeros
			elementwise.Sum{Terms: []elementwise.Term{{In: all}}, Out: x.grad.buf}.Record(p)
		})
	}
	l.step([]*value{dout.tensor, x.grad}, func(p *exec.Program) {
		part := tensor.Sink{D: x.grad.buf.Slice(o.op.From, x.grad.len-o.op.From), Stride: x.of.shape.C,
			Accumulate: true}
		elementwise.SumGradient{Shape: out.shape, G: dout.tensor.buf,
			Terms: []elementwise.TermGradient{{Sink: part}}}.Record(p)
	})
	if c.last {
		l.step(c.touched(), func(p *exec.Program) {
			sink := l.sink(c)
			sink.Accumulate = false
			x.stats = elementwise.SumGradient{Shape: x.of.shape, G: x.grad.buf,
				Terms: []elementwise.TermGradient{{Sink: sink}}}.Record(p)[0]
		})
	}
	l.passGate(x)
}

// shuffle deals the channels out over groups, as ShuffleNet does.
type shuffle struct{ op nn.Shuffle }

func (shuffle) facts() facts { return facts{} }

func (o shuffle) forward(l *lowering, out *output, in []*operand, _ bool) bool {
	l.step(l.allocate(out, in), func(p *exec.Program) {
		elementwise.Shuffle{In: l.input(in[0]), Groups: o.op.Groups, Out: out.z.buf}.Record(p)
	})
	return false
}

func (o shuffle) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	l.contribute(in[0], []*value{dout.tensor}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return elementwise.Shuffle{In: l.input(in[0]), Groups: o.op.Groups, Out: out.buffer()}.RecordBackward(p,
			dout.tensor.buf, s)
	})
}
