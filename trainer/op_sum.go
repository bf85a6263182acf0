package trainer

import (
	"slices"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// sum adds up tensors as they are read. What is stored by itself though it could be applied where it is read (a batch norm, an
// activation, a gate) is a sum of one term that is read through it.
type sum struct{}

func (sum) facts() facts { return facts{gaps: true} }

func (sum) forward(l *lowering, r *raw, in []*port, sums bool) bool {
	l.sum(r, in, l.output(r, in), sums)
	return true
}

func (sum) backward(l *lowering, r *raw, in []*port, g *gradient) {
	l.contributeToTerms(r, in, l.stored(g))
}

// batchNorm is a batch norm that is stored.
type batchNorm struct{ sum }

func (batchNorm) facts() facts { return facts{trained: true, gaps: true} }

func (batchNorm) view(i int, _ nn.Node, v nn.View) nn.View {
	v.Norm = i
	return v
}

// activation is an activation that is stored.
type activation struct {
	sum
	op nn.Activation
}

func (o activation) view(i int, _ nn.Node, v nn.View) nn.View {
	if o.op != nn.Identity {
		v.Act = i
	}
	return v
}

// gate is a product with a factor a channel that is stored. The factors are its second input.
type gate struct{ sum }

func (gate) view(_ int, node nn.Node, v nn.View) nn.View {
	v.Gate = node.In[1]
	return v
}

// dropPath is a sum of one term that is left out, image by image, with the node's probability.
type dropPath struct {
	sum
	op nn.DropPath
}

func (o dropPath) forward(l *lowering, r *raw, in []*port, sums bool) bool {
	touched := l.output(r, in)
	if l.mode == train {
		r.factors = l.m.arena.F32(l.m.Batch)
		l.step(nil, func(p *exec.Program) {
			elementwise.DropPath{Out: r.factors, Keep: float32(1 - o.op.P), Rate: l.m.rate, Seed: l.m.Seed, Stream: stream(r.node),
				Step: l.m.step}.Record(p)
		})
	}
	l.sum(r, in, touched, sums)
	return true
}

// dropout is a sum of one term, elements of which are then set to zero in place.
type dropout struct{ op nn.Dropout }

func (dropout) facts() facts { return facts{} }

func (o dropout) forward(l *lowering, r *raw, in []*port, sums bool) bool {
	touched, drops := l.output(r, in), l.mode == train
	l.sum(r, in, touched, sums && !drops)
	if drops {
		l.step(touched, func(p *exec.Program) { o.mask(l, r).Record(p) })
	}
	return !drops
}

func (o dropout) backward(l *lowering, r *raw, in []*port, g *gradient) {
	g = l.stored(g)
	l.step(append(r.touched(), g.g), func(p *exec.Program) { o.mask(l, r).RecordBackward(p, g.g.buf, g.g.buf) })
	l.contributeToTerms(r, in, g)
}

func (o dropout) mask(l *lowering, r *raw) graph.Dense {
	return graph.Dense{Rows: exec.Fixed(r.shape.N), Width: r.shape.Len() / r.shape.N, Out: r.z.buf, In: r.z.buf, Keep: float32(1 - o.op.P),
		Seed: l.m.Seed, Stream: stream(r.node), Step: l.m.step}
}

// stream is that of a node's dropout: see nn.Kept.
func stream(node int) uint32 { return philox.PurposeTrain | uint32(node)<<16 }

// sum adds the step that stores the sum of what it reads, each image times r.factors where there are any.
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

// contributeToTerms adds the gradient in a sum to that in each of its terms.
func (l *lowering) contributeToTerms(r *raw, in []*port, g *gradient) {
	var all []contribution
	touched := []*value{g.g}
	for _, q := range in {
		if q.needed {
			c := l.next(q)
			all = append(all, c)
			touched = append(touched, c.touched()...)
		}
	}
	if len(all) == 0 {
		return
	}
	l.step(touched, func(p *exec.Program) {
		for some := range slices.Chunk(all, mostTerms) {
			s := elementwise.SumGradient{Shape: r.shape, G: g.g.buf}
			for _, c := range some {
				s.Terms = append(s.Terms, elementwise.TermGradient{Sink: l.sink(c), Weight: r.factors})
			}
			for k, stats := range s.Record(p) {
				if some[k].last {
					some[k].port.stats = stats
				}
			}
		}
	})
	for _, c := range all {
		l.passGate(c.port)
	}
}
