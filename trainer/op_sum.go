package trainer

import (
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// sum adds up tensors as they are read. A batch norm, an activation or a gate whose output has to be stored, though it
// could be applied where it is read, is a sum of one term that is read through it.
type sum struct{}

func (sum) facts() facts { return facts{gaps: true} }

func (sum) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	l.sum(out, in, l.allocate(out, in), sums)
	return true
}

func (sum) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	l.contributeToTerms(out, in, l.materialize(dout), nil)
}

// batchNorm is a batch norm whose output is stored.
type batchNorm struct{ sum }

func (batchNorm) facts() facts { return facts{trained: true, gaps: true} }

func (batchNorm) view(i int, _ nn.Node, v nn.View) nn.View {
	v.Norm = i
	return v
}

// activation is an activation whose output is stored.
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

// gate is a product of a tensor and a factor for each channel, stored. The factors [N, C] are its second input.
type gate struct{ sum }

func (gate) view(_ int, node nn.Node, v nn.View) nn.View {
	v.Gate = node.In[1]
	return v
}

// dropPath is a sum of one term, which each image leaves out with the node's probability.
type dropPath struct {
	sum
	op nn.DropPath
}

func (o dropPath) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	touched := l.allocate(out, in)
	if l.mode == train {
		out.factors = l.m.arena.F32(l.m.Batch)
		l.step(nil, func(p *exec.Program) {
			elementwise.DropPath{Out: out.factors, Keep: float32(1 - o.op.P), Rate: l.m.rate, Seed: l.m.Seed,
				Stream: stream(out.node), Step: l.m.step}.Record(p)
		})
	}
	l.sum(out, in, touched, sums)
	return true
}

// dropout is a sum of one term, some elements of which are then set to zero where they lie.
type dropout struct{ op nn.Dropout }

func (dropout) facts() facts { return facts{} }

func (o dropout) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	touched, drops := l.allocate(out, in), l.mode == train
	l.sum(out, in, touched, sums && !drops)
	if drops {
		l.step(touched, func(p *exec.Program) { o.mask(l, out).Record(p) })
	}
	return !drops
}

func (o dropout) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	l.step(append(out.touched(), dout.tensor), func(p *exec.Program) {
		o.mask(l, out).RecordBackward(p, dout.tensor.buf, dout.tensor.buf)
	})
	l.contributeToTerms(out, in, dout, nil)
}

func (o dropout) mask(l *lowering, out *output) dense.Dense {
	return dense.Dense{Rows: exec.Fixed(out.shape.N), Width: out.shape.Len() / out.shape.N, Out: out.z.buf,
		In: out.z.buf, Keep: float32(1 - o.op.P), Seed: l.m.Seed, Stream: stream(out.node), Step: l.m.step}
}

// stream is the stream of random numbers of a node's dropout; see nn.Kept.
func stream(node int) uint32 { return philox.PurposeTrain | uint32(node)<<16 }

// sum adds the step that stores the sum of what it reads, each image times out.factors where there are any.
func (l *lowering) sum(out *output, in []*operand, touched []*value, sums bool) {
	l.step(touched, func(p *exec.Program) {
		s := elementwise.Sum{Out: out.buffer(), OutStride: out.stride, Sums: sums}
		for _, x := range in {
			s.Terms = append(s.Terms, elementwise.Term{In: l.input(x), Weight: out.factors})
		}
		out.sums = addUp(p, s)
	})
}

// mostTerms is how many tensors an operation adds up.
const mostTerms = 8

// addUp records a sum of any number of terms. Many take several operations, each of which goes on from the sum so far.
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

// contributeToTerms contributes the gradient in a sum to each of its terms, times the number [1] that scalar says of
// the k-th; nil: 1.
func (l *lowering) contributeToTerms(out *output, in []*operand, dout *gradient, scalar func(k int) *exec.Buffer) {
	var all []contribution
	var scalars []*exec.Buffer
	touched := []*value{dout.tensor}
	for k, x := range in {
		if x.needed {
			c := l.next(x)
			all = append(all, c)
			if scalar != nil {
				scalars = append(scalars, scalar(k))
			}
			touched = append(touched, c.touched()...)
		}
	}
	if len(all) == 0 {
		return
	}
	l.step(touched, func(p *exec.Program) {
		for from := 0; from < len(all); from += mostTerms {
			some := all[from:min(from+mostTerms, len(all))]
			s := elementwise.SumGradient{Shape: out.shape, G: dout.tensor.buf}
			for k, c := range some {
				t := elementwise.TermGradient{Sink: l.sink(c), Weight: out.factors}
				if scalars != nil {
					t.Scalar = scalars[from+k]
				}
				s.Terms = append(s.Terms, t)
			}
			for k, stats := range s.Record(p) {
				if some[k].last {
					some[k].to.stats = stats
				}
			}
		}
	})
	for _, c := range all {
		l.passGate(c.to)
	}
}
