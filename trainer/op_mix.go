package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// mix adds up tensors as they are read, each times a weight of the mixture, which is a number on the device.
type mix struct{ op nn.Mix }

func (mix) facts() facts { return facts{mixes: true, gaps: true} }

func (o mix) forward(l *lowering, out *output, in []*operand, sums bool) bool {
	weights := o.places(l)
	l.step(l.allocate(out, in), func(p *exec.Program) {
		s := elementwise.Sum{Out: out.buffer(), OutStride: out.stride, Sums: sums}
		for k, x := range in {
			weight := l.m.mixture.Weights.Slice(weights[k], 1)
			s.Terms = append(s.Terms, elementwise.Term{In: l.input(x), Scalar: weight})
		}
		out.sums = addUp(p, s)
	})
	return true
}

func (o mix) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout, weights := l.materialize(dout), o.places(l)
	if !l.m.fixedMixture { // before the contributions: dout may be the memory that one of them overwrites
		touched := []*value{dout.tensor}
		for _, x := range in {
			touched = append(touched, x.touched()...)
		}
		l.step(touched, func(p *exec.Program) {
			for from := 0; from < len(in); {
				to := from + 1
				for to < len(in) && to < from+mostTerms && weights[to] == weights[to-1]+1 {
					to++
				}
				g := elementwise.MixGradient{Shape: out.shape, G: dout.tensor.buf,
					Out: l.m.mixture.WeightGrad.Slice(weights[from], to-from)}
				for _, x := range in[from:to] {
					g.Terms = append(g.Terms, l.input(x))
				}
				g.Record(p)
				from = to
			}
		})
	}
	l.contributeToTerms(out, in, dout, func(k int) *exec.Buffer { return l.m.mixture.Weights.Slice(weights[k], 1) })
}

// places are where the weights of the mixture's inputs stand in its buffers.
func (o mix) places(l *lowering) []int {
	var at []int
	for _, c := range l.m.Net.Choices(o.op) {
		at = append(at, l.m.mixture.choice(c))
	}
	return at
}
