package trainer

import (
	"cmp"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// unrolled moves the weights for the gradient of α in second order (Liu et al. 2019, equations 7 and 8): one step of
// stochastic gradient descent ahead, and a little along a gradient and against it.
type unrolled struct {
	before                     *exec.Buffer // the weights as they are [Params]
	keep, restore, ahead, move *exec.Program
	w, v, g                    *exec.Buffer // factors of the weights, of the momentum and of the gradient ahead [1]
	along                      *exec.Buffer // how far they go along the gradient [1]
}

// newUnrolled records the moves of a supernet's weights, of which the optimizer's first moment is the momentum.
func newUnrolled(s *Supernet, o *optimizer) *unrolled {
	a := s.arena
	weights := s.State.Slice(0, s.Params)
	u := &unrolled{before: a.Zeros(s.Params), w: a.Zeros(1), v: a.Zeros(1), g: a.Zeros(1), along: a.Zeros(1)}
	term := func(b, scalar *exec.Buffer) elementwise.Term {
		return elementwise.Term{In: tensor.Input{Shape: flat(tensor.Shape{N: 1, H: b.Len(), W: 1, C: 1}), Z: b},
			Scalar: scalar}
	}
	program := func(name string, out *exec.Buffer, terms ...elementwise.Term) *exec.Program {
		p := a.NewProgram(name)
		elementwise.Sum{Terms: terms, Out: out}.Record(p)
		return p
	}
	u.keep = program("keep weights", u.before, term(weights, nil))
	u.restore = program("restore weights", weights, term(u.before, nil))
	u.ahead = program("unroll", weights, term(weights, u.w), term(o.moments[0], u.v), term(s.Grad, u.g))
	u.move = program("move weights", weights, term(u.before, nil), term(s.Grad, u.along))
	return u
}

// step takes the step that an update of the rate would: w - rate (momentum v + g + decay w).
func (u *unrolled) step(rate, momentum, decay float64) {
	u.w.WriteF32(0, []float32{float32(1 - rate*decay)})
	u.v.WriteF32(0, []float32{float32(-rate * momentum)})
	u.g.WriteF32(0, []float32{float32(-rate)})
	u.keep.Run(1)
	u.ahead.Run(1)
}

// shift sets the weights to those before the step, plus so many times the gradient.
func (u *unrolled) shift(by float64) {
	u.along.WriteF32(0, []float32{float32(by)})
	u.move.Run(1)
}

// finiteStep is the 2-norm of the step by which the gradient of α is differentiated (quark0/darts, architect.py).
const finiteStep = 0.01

// secondOrder leaves the gradient of α for the weights that a step on the training images leads to.
func (r *mixedRun) secondOrder() error {
	rec := r.SupernetJob.Recipe
	rate := r.state.Rate * r.rate(r.state.Update)
	each := func(do func(p *rankedMixture)) error {
		return r.each(func(i int, _ *rank) error {
			do(r.parts[i])
			return nil
		})
	}
	if err := r.pass(passUnroll, r.training()); err != nil {
		return err
	}
	if err := each(func(p *rankedMixture) { p.unrolled.step(rate, rec.Momentum, rec.WeightDecay) }); err != nil {
		return err
	}
	err := r.aroundStep(rate, each)
	return cmp.Or(err, each(func(p *rankedMixture) { p.unrolled.restore.Run(1) }))
}

// aroundStep is secondOrder with weights that have taken the step, at a rate. What they were comes back after it.
func (r *mixedRun) aroundStep(rate float64, each func(do func(p *rankedMixture)) error) error {
	if err := r.firstOrder(passAlpha, PathOptions{Second: true}); err != nil {
		return err
	}
	total := r.s.Mixture.AlphaGrad.Values()
	r.s.FinishGradient()
	norm := r.s.GradientNorm()
	if !finite(norm) {
		r.alphaLoss = norm
		return nil
	}
	if norm == 0 { // nothing that α change would change the weights
		return nil
	}
	loss, by := r.alphaLoss, finiteStep/norm
	for _, side := range []struct {
		pass int
		sign float64
	}{{passForward, 1}, {passBackward, -1}} {
		if err := each(func(p *rankedMixture) { p.unrolled.shift(side.sign * by) }); err != nil {
			return err
		}
		o := r.training()
		o.FixedMixture, o.FixedWeights = false, true
		if err := r.firstOrder(side.pass, o); err != nil {
			return err
		}
		for k, d := range r.s.Mixture.AlphaGrad.Values() {
			total[k] -= float32(side.sign * rate * float64(d) / (2 * by))
		}
	}
	if finite(r.alphaLoss) {
		r.alphaLoss = loss
	}
	return each(func(p *rankedMixture) { p.Mixture.AlphaGrad.WriteF32(0, total) })
}
