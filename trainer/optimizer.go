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
	mean    *exec.Buffer   // the average of State; nil: none
}

func newOptimizer(m *Parameters, r Optimization) (o *optimizer, err error) {
	defer exec.Catch(&err)
	a := m.store
	o = &optimizer{m: m, lr: a.Zeros(1), updates: a.Ints(make([]int32, 1)), program: a.NewProgram("update")}
	w, scale := m.State.Slice(0, m.Params), m.Norm.Slice(1, 1)
	moment := func() *exec.Buffer {
		b := a.Zeros(m.Params)
		o.moments = append(o.moments, b)
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
		optim.RecordSGD(o.program, optim.SGD{W: w, G: m.Grad, V: moment(), LR: o.lr, Scale: scale, Momentum: r.Momentum,
			Nesterov: r.Nesterov, WeightDecay: r.WeightDecay, Decayed: decayed, Decoupled: r.Decoupled})
	case "rmsprop":
		v, square := moment(), moment()
		ones := make([]float32, m.Params)
		for i := range ones {
			ones[i] = 1
		}
		square.WriteF32(0, ones)
		optim.RecordRMSProp(o.program, optim.RMSProp{W: w, G: m.Grad, V: v, Square: square, LR: o.lr, Scale: scale,
			Rho: r.Rho, Momentum: r.Momentum, Eps: r.Eps, WeightDecay: r.WeightDecay, Decayed: decayed,
			Decoupled: r.Decoupled})
	case "adam", "adamw":
		optim.RecordAdam(o.program, optim.Adam{W: w, G: m.Grad, M: moment(), V: moment(), LR: o.lr, Step: o.updates,
			Scale: scale, Beta1: r.Beta1, Beta2: r.Beta2, Eps: r.Eps, WeightDecay: r.WeightDecay, Decayed: decayed,
			Decoupled: r.Decoupled || r.Optimizer == "adamw"})
	default:
		return nil, fmt.Errorf("optimizer %q is none", r.Optimizer)
	}
	if r.EMA > 0 {
		o.mean = a.Zeros(m.State.Len())
		optim.RecordEMA(o.program, optim.EMA{Mean: o.mean, W: m.State, Decay: r.EMA})
	}
	return o, nil
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
