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

// activations are those that the kernels apply.
var activations = map[nn.Activation]tensor.Act{
	nn.Identity: tensor.None, nn.ReLU: tensor.ReLU, nn.ReLU6: tensor.ReLU6, nn.HSigmoid: tensor.HSigmoid, nn.HSwish: tensor.HSwish, nn.Swish: tensor.Swish,
	nn.Sigmoid: tensor.Sigmoid,
}

// touched lists what an operation that reads the port touches.
func (q *port) touched() []*value {
	v := q.raw.touched()
	if q.factors != nil {
		v = append(v, q.factors)
	}
	return v
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
