package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/optim"
)

// optimizer updates parameters by a recipe, in one program. What it remembers is in moments.
type optimizer struct {
	m       *Parameters
	program *exec.Program
	lr      *exec.Buffer
	updates *exec.Buffer   // one integer: done so far; Adam counts them itself
	moments []*exec.Buffer // as many floats each as parameters
	starts  []float32      // what they begin with, all of their floats
	mean    *exec.Buffer   // the average of State; nil: none
}

func newOptimizer(m *Parameters, r Optimization) (o *optimizer, err error) {
	defer exec.Catch(&err)
	a := m.store
	o = &optimizer{m: m, lr: a.Zeros(1), updates: a.Ints(make([]int32, 1)), program: a.NewProgram("update")}
	w, scale := m.State.Slice(0, m.Params), m.Norm.Slice(1, 1)
	moment := func(start float32) *exec.Buffer {
		b := a.F32(m.Params)
		o.moments, o.starts = append(o.moments, b), append(o.starts, start)
		return b
	}
	if r.ClipValue > 0 { // before the factor that limits the norm
		optim.RecordClamp(o.program, optim.Clamp{G: m.Grad, Max: r.ClipValue})
	}
	decayed := m.Decayed
	if r.DecayAll {
		decayed = nil
	}
	switch r.Optimizer {
	case "sgd":
		optim.RecordSGD(o.program, optim.SGD{W: w, G: m.Grad, V: moment(0), LR: o.lr, Scale: scale,
			Momentum: r.Momentum, Nesterov: r.Nesterov, WeightDecay: r.WeightDecay, Decayed: decayed,
			Decoupled: r.Decoupled, Only: m.only})
	case "rmsprop":
		v, square := moment(0), moment(1)
		optim.RecordRMSProp(o.program, optim.RMSProp{W: w, G: m.Grad, V: v, Square: square, LR: o.lr, Scale: scale,
			Rho: r.Rho, Momentum: r.Momentum, Eps: r.Eps, WeightDecay: r.WeightDecay, Decayed: decayed,
			Decoupled: r.Decoupled, Only: m.only})
	case "adam", "adamw":
		optim.RecordAdam(o.program, optim.Adam{W: w, G: m.Grad, M: moment(0), V: moment(0), LR: o.lr, Step: o.updates,
			Scale: scale, Beta1: r.Beta1, Beta2: r.Beta2, Eps: r.Eps, WeightDecay: r.WeightDecay, Decayed: decayed,
			Decoupled: r.Decoupled || r.Optimizer == "adamw"})
	default:
		return nil, fmt.Errorf("optimizer %q is none", r.Optimizer)
	}
	if r.EMA > 0 {
		o.mean = a.Zeros(m.State.Len())
		optim.RecordEMA(o.program, optim.EMA{Mean: o.mean, W: m.State, Decay: r.EMA})
	}
	o.restart()
	return o, nil
}

// restart forgets what the optimizer remembers of gradients.
func (o *optimizer) restart() {
	for i, b := range o.moments {
		values := make([]float32, b.Len())
		for k := range values {
			values[k] = o.starts[i]
		}
		b.WriteF32(0, values)
	}
	o.updates.WriteI32(0, []int32{0})
}

// begin starts the average of weights, which are set.
func (o *optimizer) begin() {
	if o.mean != nil {
		o.mean.WriteF32(0, o.m.State.Values())
	}
}

// update changes the parameters by the gradient.
func (o *optimizer) update(rate float64) {
	o.lr.WriteF32(0, []float32{float32(rate)})
	o.program.Run(1)
}

// averaged calls f with the average of weights in the place of the weights.
func (o *optimizer) averaged(f func() error) error {
	if o.mean == nil {
		return f()
	}
	state, mean := o.m.State.Values(), o.mean.Values()
	o.m.State.WriteF32(0, mean)
	err := f()
	o.m.State.WriteF32(0, state)
	return err
}
