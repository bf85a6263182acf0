package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Parameters are all numbers that training changes, on a device: the variables of one network, or those that the paths
// of a supernet share.
//
// They lie in one buffer, State: the parameters, each at a multiple of 16 floats, and behind them the running
// statistics. The gradient is one buffer in the order of the parameters.
type Parameters struct {
	Variables []nn.Variable
	State     *exec.Buffer // [Params + running statistics]
	Grad      *exec.Buffer // of the parameters [Params]
	// Params is how many floats of State are parameters, with the gaps between them, which stay zero.
	Params  int
	Decayed *exec.Buffer // 1 for each parameter that weight decay usually applies to (weights), otherwise 0 [Params]
	Norm    *exec.Buffer // the gradient's 2-norm and the factor that keeps it within a limit [2]

	store  *exec.Arena   // holds all of this, and what an optimizer remembers
	only   *optim.Subset // the variables that an update changes; nil: all
	offset []int         // of each variable in State
	// keep copies the running statistics away, restore copies them back; nil where there are none.
	keep, restore *exec.Program
}

// newParameters lays variables out in memory of an arena. Their values are zeros; norm is Norm.
func newParameters(a *exec.Arena, variables []nn.Variable, norm *exec.Buffer) *Parameters {
	p := &Parameters{Variables: variables, Norm: norm, store: a, offset: make([]int, len(variables))}
	at := 0
	lay := func(trainable bool) {
		for i, v := range variables {
			if v.Role.Trainable() == trainable {
				p.offset[i] = at
				at += up(v.Len(), align)
			}
		}
	}
	lay(true)
	p.Params = at
	lay(false)
	p.State, p.Grad = a.Zeros(at), a.Zeros(p.Params)
	decayed := make([]float32, p.Params)
	for i, v := range variables {
		if v.Role == nn.Weight {
			for k := range v.Len() {
				decayed[p.offset[i]+k] = 1
			}
		}
	}
	p.Decayed = a.Floats(decayed)
	p.recordKeeping()
	return p
}

// recordKeeping records the programs by which a training takes back an update's running statistics. They never leave
// the device.
func (p *Parameters) recordKeeping() {
	statistics := p.State.Slice(p.Params, p.State.Len()-p.Params)
	if statistics.Len() == 0 {
		return
	}
	kept := p.store.Zeros(statistics.Len())
	copying := func(name string, to, from *exec.Buffer) *exec.Program {
		program := p.store.NewProgram(name)
		in := tensor.Input{Shape: flat(tensor.Shape{N: 1, H: from.Len(), W: 1, C: 1}), Z: from}
		elementwise.Sum{Terms: []elementwise.Term{{In: in}}, Out: to}.Record(program)
		return program
	}
	p.keep, p.restore = copying("keep", kept, statistics), copying("restore", statistics, kept)
}

// KeepStatistics remembers the running statistics as they are, for RestoreStatistics.
func (p *Parameters) KeepStatistics() {
	if p.keep != nil {
		p.keep.Run(1)
	}
}

// RestoreStatistics sets the running statistics to what they were at the latest KeepStatistics.
func (p *Parameters) RestoreStatistics() {
	if p.restore != nil {
		p.restore.Run(1)
	}
}

// leaveUntouched makes an optimizer that is opened hereafter change nothing but what touch names.
func (p *Parameters) leaveUntouched() {
	tensors := make([]int32, p.Params/optim.Group) // each begins at a multiple of align, as a group does
	for i, v := range p.Variables {
		if !v.Role.Trainable() {
			continue
		}
		for at := p.offset[i]; at < p.offset[i]+v.Len(); at += optim.Group {
			tensors[at/optim.Group] = int32(i)
		}
	}
	p.only = &optim.Subset{Tensor: p.store.Ints(tensors), Changed: p.store.Ints(make([]int32, len(p.Variables)))}
}

// touch says that the next update changes the variables that some models have, of each all of it, whatever part they
// take. Where all variables change it does nothing.
func (p *Parameters) touch(models []*Model) {
	if p.only == nil {
		return
	}
	changed := make([]int32, len(p.Variables))
	for _, m := range models {
		for _, b := range m.bindings {
			changed[b.Shared] = 1
			for _, k := range b.Through {
				changed[k] = 1
			}
		}
	}
	p.only.Changed.WriteI32(0, changed)
}

// SetValues sets the variables, in their order and the layout of memory, but for those that are nil.
func (p *Parameters) SetValues(values [][]float32) {
	for i, v := range values {
		if v == nil {
			continue
		}
		p.State.WriteF32(p.offset[i], v)
	}
}

// Values returns the variables likewise.
func (p *Parameters) Values() [][]float32 {
	return p.split(p.State, func(nn.Role) bool { return true })
}

// Gradients returns the gradient in each variable; nil for running statistics.
func (p *Parameters) Gradients() [][]float32 { return p.split(p.Grad, nn.Role.Trainable) }

func (p *Parameters) split(b *exec.Buffer, in func(nn.Role) bool) [][]float32 {
	out := make([][]float32, len(p.Variables))
	for i, v := range p.Variables {
		if in(v.Role) {
			out[i] = make([]float32, v.Len())
			b.ReadF32(p.offset[i], out[i])
		}
	}
	return out
}

// GradientNorm is the 2-norm of the latest update's gradient, before clipping.
func (p *Parameters) GradientNorm() float64 {
	norm := make([]float32, 1)
	p.Norm.ReadF32(0, norm)
	return float64(norm[0])
}
