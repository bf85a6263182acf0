package trainer

import (
	"slices"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// output is the output of a node as a tensor [N, H, W, C] that is stored.
type output struct {
	node   int
	shape  tensor.Shape
	z      *value       // its memory; nil where fixed is set
	fixed  *exec.Buffer // memory that outlives the program: the images, or zeros
	at     int          // the element of z at which it begins
	stride int          // elements from a pixel to the next; 0: its channels
	sums   tensor.Stats // per-channel sums for batch norms [C], which are there once the step is recorded
	groups [][]*operand // the operands that read it, grouped by the batch norm that they read it through
	norms  map[int]*normed

	pool    *pool.Pool   // the recorded operation of a pooling, which its backward needs
	factors *exec.Buffer // the factor of each image under a drop path [N]
}

func (out *output) buffer() *exec.Buffer {
	if out.fixed != nil {
		return out.fixed
	}
	return out.z.buf.Slice(out.at, out.z.len-out.at)
}

// plain reads the tensor as it is stored.
func (out *output) plain() tensor.Input {
	return tensor.Input{Shape: out.shape, Z: out.buffer(), Stride: out.stride}
}

func (out *output) touched() []*value {
	if out.fixed != nil {
		return nil
	}
	return []*value{out.z}
}

// operand is one way in which a stored output is read: through a batch norm, an activation, a gate, or as it is. All
// consumers that read it so share the operand. Backward they add their gradients to it one after the other; see
// lowering_gradient.go and package tensor.
type operand struct {
	of      *output
	view    nn.View
	base    *operand // of a gated operand: the same without the gate
	gate    *operand // of a gated operand: what its factors are computed from
	factors *value   // the gate's factors as they are read [N, C], always float32
	alone   bool     // no other operand reads the output through the same batch norm
	stored  *value   // what is read as a tensor of its own, for convolutions (store); nil: there is none

	needed  bool         // a parameter or an input before it wants its gradient
	left    int          // consumers that have not added their gradient yet
	written bool         // grad holds the gradient of at least one consumer
	passed  bool         // of a gated operand: its gradient has gone to the gate, and waits in base.gated for the base
	grad    *value       // the gradient in what is read, in the output's shape
	stats   tensor.Stats // per-channel sums that the batch norm's gradient needs [C]; the last contribution leaves them
	gated   []*operand   // gated operands with a whole gradient that has to be added, times the gate, to this one
}

// input is the operand as an operation reads it. Buffers are known only while the program is recorded.
func (l *lowering) input(x *operand) tensor.Input {
	in := x.of.plain()
	if x.view.Norm != 0 {
		n := x.of.norms[x.view.Norm]
		in.Scale, in.Shift = n.Scale, n.Shift
	}
	if x.view.Act != 0 {
		in.Act = activations[l.m.Net.Nodes[x.view.Act].Op.(nn.Activation)]
	}
	if x.factors != nil {
		in.Gate = x.factors.buf
	}
	return in
}

// activations are those that the kernels apply.
var activations = map[nn.Activation]tensor.Act{
	nn.Identity: tensor.None, nn.ReLU: tensor.ReLU, nn.ReLU6: tensor.ReLU6, nn.HSigmoid: tensor.HSigmoid,
	nn.HSwish: tensor.HSwish, nn.Swish: tensor.Swish,
	nn.Sigmoid: tensor.Sigmoid, nn.GELU: tensor.GELU,
}

// touched lists the values that an operation touches when it reads the operand.
func (x *operand) touched() []*value {
	v := x.of.touched()
	if x.factors != nil {
		v = append(v, x.factors)
	}
	return v
}

// store adds the step that stores what is read as a tensor of its own, once for all convolutions that read it: they
// then copy it without a look at it, where each would apply norm, activation and gate for every tap and every tile of
// the channels it writes. It lives until the last of their weights' gradients.
func (l *lowering) store(x *operand) {
	if x.stored != nil || x.view == (nn.View{Node: x.view.Node}) {
		return
	}
	x.stored = l.value(x.of.shape.Len())
	l.step(append(x.touched(), x.stored), func(p *exec.Program) {
		elementwise.Sum{Terms: []elementwise.Term{{In: l.input(x)}}, Out: x.stored.buf}.Record(p)
	})
}

// kept is the operand as a convolution reads it: what store has stored, or as all others read it. Both are the same to
// the bit, because a convolution multiplies what it reads in the precision in which it is stored.
func (l *lowering) kept(x *operand) tensor.Input {
	if x.stored == nil {
		return l.input(x)
	}
	return tensor.Input{Shape: x.of.shape, Z: x.stored.buf}
}

// kept lists the values that a convolution touches when it reads the operand.
func (x *operand) kept() []*value {
	if x.stored == nil {
		return x.touched()
	}
	return []*value{x.stored}
}

// read returns the operand of a view for one more consumer. A live consumer will add a gradient to it.
func (l *lowering) read(v nn.View, live bool) *operand {
	x := l.operand(v)
	if live && x.needed {
		x.left++
		if x.base != nil && x.left == 1 {
			l.read(x.base.view, true)
			l.read(x.gate.view, true)
		}
	}
	return x
}

func (l *lowering) operand(v nn.View) *operand {
	if x := l.operands[v]; x != nil {
		return x
	}
	out := l.outputs[v.Node]
	x := &operand{of: out, view: v, needed: l.flows[v.Node] || v.Norm != 0 && !l.m.fixedWeights}
	l.operands[v] = x
	if v.Norm != 0 && out.norms[v.Norm] == nil {
		l.normalise(out, v.Norm)
	}
	if v.Gate == 0 {
		k := slices.IndexFunc(out.groups, func(g []*operand) bool { return g[0].view.Norm == v.Norm })
		if k < 0 {
			k = len(out.groups)
			out.groups = append(out.groups, nil)
		}
		out.groups[k] = append(out.groups[k], x)
		return x
	}
	x.base = l.operand(nn.View{Node: v.Node, Norm: v.Norm, Act: v.Act})
	x.gate = l.operand(l.m.fusion.Views[v.Gate])
	x.needed = x.base.needed || x.gate.needed
	if g := x.gate; g.view == (nn.View{Node: g.view.Node}) && g.of.fixed == nil && g.of.stride == 0 && !g.of.z.half {
		x.factors = g.of.z
	} else {
		x.factors = l.floats(g.of.shape.Len())
		l.step(append(g.touched(), x.factors), func(p *exec.Program) {
			elementwise.Sum{Terms: []elementwise.Term{{In: l.input(g)}}, Out: x.factors.buf}.Record(p)
		})
	}
	return x
}

// normalise adds the step that computes the scale and shift of a batch norm over a stored output from the sums that the
// output's step leaves.
func (l *lowering) normalise(out *output, node int) {
	n := l.m.norms[node]
	if l.mode == inspect || l.mode == transient { // leaves the running statistics alone
		b := *n.Batch
		n = &normed{&b, n.op, nil}
		if !n.op.Frozen {
			n.RunningMean, n.RunningVar = nil, nil
		}
	}
	out.norms[node] = n
	sums := func() tensor.Stats { return out.sums }
	if !n.op.Frozen {
		sums = l.overShards(tensor.ForwardRows, sums)
	}
	l.step(nil, func(p *exec.Program) {
		switch {
		case l.mode == evaluate || n.op.Frozen:
			n.Fixed(p)
		case l.mode == recalibrate:
			n.Forward(p, out.sums, norm.Running{Batches: n.batches, Biased: l.m.Biased})
		default:
			n.Forward(p, sums(), norm.Running{Momentum: n.op.Momentum})
		}
	})
}
