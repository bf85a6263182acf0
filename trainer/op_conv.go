package trainer

import (
	"errors"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/depthwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// convolution is a convolution of any kind; a linear layer is one over a single pixel. Its weight is variable 0 of the
// node, its bias variable 1.
type convolution struct{ op nn.Conv }

// maxTaps is the largest window, in pixels, that the convolutions' kernels take.
const maxTaps = 64

func newConvolution(op nn.Conv) (operation, error) {
	if op.Kernel.H*op.Kernel.W > maxTaps {
		return nil, errors.New("there is no kernel for a " + op.String() + " with more than 64 taps")
	}
	return convolution{op}, nil
}

func newLinear(op nn.Linear) (operation, error) {
	c := nn.Conv2D(1, op.Out)
	c.Bias = op.Bias
	return newConvolution(c)
}

func (convolution) facts() facts { return facts{trained: true, gaps: true} }

func (c convolution) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	standard, dw := geometry(c.op, in[0].of.shape)
	touched := l.allocate(out, in)
	if dw != nil {
		l.step(touched, func(p *exec.Program) {
			out.sums = depthwise.Forward{Conv: *dw, In: l.input(in[0]), Weight: l.m.recordKernel(p, out.node),
				Z: out.buffer(), ZStride: out.stride, Sums: sums}.Record(p)
		})
		return true
	}
	row, tap := l.m.distances(out.node, 0)
	read := l.convolved(in[0], standard, row, tap)
	l.step(append(out.touched(), read.touched...), func(p *exec.Program) {
		f := conv.Forward{Conv: read.conv, In: read.input(), Weight: l.m.variable(out.node, 0), WeightLD: row,
			TapLD: read.tap, Packing: l.packing, Z: out.buffer(), ZStride: out.stride, Sums: sums}
		if c.op.Bias {
			f.Bias = l.m.variable(out.node, 1)
		}
		out.sums = f.Record(p)
	})
	return true
}

func (c convolution) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	m, x := l.m, in[0]
	standard, dw := geometry(c.op, x.of.shape)
	if dw != nil {
		c.depthwiseBackward(l, *dw, out, x, dout, append(x.touched(), dout.touched()...))
		return
	}
	if m.plain() && standard.PlainGradient() {
		dout = l.materialize(dout)
	}
	row, tap := m.distances(out.node, 0)
	if !m.fixedWeights {
		read := l.convolved(x, standard, row, tap)
		l.weight(append(read.touched, dout.touched()...), func(p *exec.Program, together *conv.Weights) {
			conv.WeightGradient{Conv: read.conv, In: read.input(), Grad: dout.read(), DWeight: m.gradient(out.node, 0),
				WeightLD: row, TapLD: read.tap, Accumulate: l.accumulate, Later: l.sums, Together: together}.Record(p)
		})
	}
	if c.op.Bias && !m.fixedWeights {
		plain := l.materialize(dout)
		l.step(plain.touched(), func(p *exec.Program) {
			dense.ColumnSum{Out: m.gradient(out.node, 1), In: plain.tensor.buf, Rows: exec.Fixed(out.shape.Pixels()),
				Width: out.shape.C, Accumulate: l.accumulate, Later: l.sums}.Record(p)
		})
		if l.sums != nil && out.shape.Pixels() <= dense.FewRows {
			l.summed = append(l.summed, plain.tensor)
		}
	}
	l.contribute(x, dout.touched(), func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return conv.InputGradient{Conv: standard, Grad: dout.read(), Weight: m.variable(out.node, 0), WeightLD: row,
			TapLD: tap, Packing: l.packing, Sink: s}.Record(p)
	})
}

// convolved is what a convolution reads, and as which convolution: the operand, a tensor that is stored for it (store),
// or patches of the images.
type convolved struct {
	conv    conv.Conv
	tap     int // elements from a tap of the weight to the next
	touched []*value
	input   func() tensor.Input // buffers are known only while the program is recorded
}

// convolved adds the step that stores what the convolution reads, where that pays and was not done yet. Rows and taps
// of its weight are so far apart.
func (l *lowering) convolved(x *operand, c conv.Conv, row, tap int) convolved {
	switch plain := x.view == (nn.View{Node: x.view.Node}); {
	case l.patched(x.of.node, c, row, tap) && plain:
		v := l.patches[c]
		if v == nil {
			v = l.value(c.Shape().Pixels() * c.PatchWidth())
			l.patches[c] = v
			l.step([]*value{v}, func(p *exec.Program) {
				conv.Patches{Conv: c, In: l.m.Images, Out: v.buf}.Record(p)
			})
		}
		point, _ := c.Pointwise(nil)
		return convolved{point, 0, []*value{v}, func() tensor.Input {
			_, in := c.Pointwise(v.buf)
			return in
		}}
	case l.m.plain() && c.PlainInput():
		l.store(x)
	}
	return convolved{c, tap, x.kept(), func() tensor.Input { return l.kept(x) }}
}

// patched tells whether a convolution reads patches of the images, which are node 0.
func (l *lowering) patched(node int, c conv.Conv, row, tap int) bool {
	return l.m.plain() && node == 0 && c.Patched(row, tap)
}

// depthwiseBackward lists the steps of a depthwise convolution: one operation makes both gradients. Where the kernel is
// made of a shared one, the gradient in it is a value of its own, which goes on from there; where weights do not learn,
// it goes nowhere.
func (convolution) depthwiseBackward(l *lowering, dw depthwise.Conv, out *output, x *operand, dout *gradient,
	touched []*value) {
	made := l.m.kernel(out.node)
	weight, accumulate := l.m.kernelOf(out.node), l.accumulate
	var dweight *value
	if made != nil || l.m.fixedWeights {
		dweight, accumulate = l.floats(dw.WeightLen()), false
		touched = append(touched, dweight)
	}
	record := func(p *exec.Program, s tensor.Sink) tensor.Stats {
		b := depthwise.Backward{Conv: dw, In: l.input(x), Grad: dout.read(), Weight: weight, Sink: s,
			Accumulate: accumulate}
		if dweight == nil {
			b.DWeight, b.Later = l.m.gradient(out.node, 0), l.sums
		} else {
			b.DWeight = dweight.buf.Slice(0, dw.WeightLen())
		}
		return b.Record(p)
	}
	if x.needed {
		l.contribute(x, touched, record)
	} else {
		l.step(touched, func(p *exec.Program) { record(p, tensor.Sink{}) })
	}
	if made != nil && !l.m.fixedWeights {
		l.step([]*value{dweight}, func(p *exec.Program) {
			made.recordGradient(p, dweight.buf.Slice(0, made.weight.Len()))
		})
	}
}

// geometry is a convolution over an input as the kernels take it. A depthwise one has kernels of its own.
func geometry(op nn.Conv, in tensor.Shape) (conv.Conv, *depthwise.Conv) {
	out := func(n, kernel, stride, before, after int) int {
		return (n+before+after-op.Dilation*(kernel-1)-1)/stride + 1
	}
	h := out(in.H, op.Kernel.H, op.Stride.H, op.Pad.Top, op.Pad.Bottom)
	w := out(in.W, op.Kernel.W, op.Stride.W, op.Pad.Left, op.Pad.Right)
	square := op.Kernel.H == op.Kernel.W && op.Kernel.H <= 7 && op.Stride.H == op.Stride.W &&
		min(op.Pad.Top, op.Pad.Left) >= 0
	if op.Groups == in.C && op.Out == in.C && in.C > 1 && square && !op.Bias {
		return conv.Conv{}, &depthwise.Conv{In: in, K: op.Kernel.H, Stride: op.Stride.H, PadH: op.Pad.Top,
			PadW: op.Pad.Left, Dilation: op.Dilation, OutH: h, OutW: w}
	}
	return conv.Conv{In: in, Out: op.Out, KH: op.Kernel.H, KW: op.Kernel.W, Stride: op.Stride.H, StrideW: op.Stride.W,
		PadH: op.Pad.Top, PadW: op.Pad.Left, Dilation: op.Dilation, Groups: op.Groups, OutH: h, OutW: w}, nil
}
