package trainer

import (
	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// value is memory that some steps need, from the first to the last that touches it.
type value struct {
	len         int  // elements
	half        bool // stored as bfloat16
	first, last int  // steps that touch it; once planned, first is the float of the shared memory at which it begins
	buf         *exec.Buffer
}

// value is a tensor of n elements, an output or a gradient in one, stored in the device's precision.
func (l *lowering) value(n int) *value {
	v := l.floats(n)
	if v.half = l.m.half(); v.half {
		v.len = up(n, 2*align)
	}
	return v
}

// floats is a value of float32, whatever the device.
func (l *lowering) floats(n int) *value {
	v := &value{len: up(n, align), first: -1}
	l.values = append(l.values, v)
	return v
}

// size is how many floats of memory the value takes.
func (v *value) size() int {
	if v.half {
		return v.len / 2
	}
	return v.len
}

// step adds a step that touches values.
func (l *lowering) step(values []*value, record func(p *exec.Program)) {
	for _, v := range values {
		if v.first < 0 {
			v.first = len(l.steps)
		}
		v.last = len(l.steps)
	}
	l.steps, l.nodes = append(l.steps, record), append(l.nodes, l.node)
}

// plan decides where each value lies in the memory that all values share, in floats from its beginning, and returns how
// many floats that memory has.
func (l *lowering) plan() int64 {
	p := nn.Place(l.lifetimes(), 4*align)
	for i, v := range l.values {
		v.first = int(p.Offsets[i] / 4)
	}
	return p.Peak / 4
}

// lifetimes says from which step to which each value lives.
func (l *lowering) lifetimes() []nn.Lifetime {
	lives := make([]nn.Lifetime, len(l.values))
	for i, v := range l.values {
		lives[i] = nn.Lifetime{Bytes: 4 * int64(v.size()), First: v.first, Last: v.last}
		if l.mode == inspect {
			lives[i].Last = len(l.steps)
		}
	}
	return lives
}

func (l *lowering) record(a *exec.Arena, memory *exec.Buffer) *exec.Program {
	l.assign(memory)
	first := a.NewProgram(l.name)
	p := first
	l.packing = &conv.Packing{}
	for k, step := range l.steps {
		for i := range l.rest {
			if l.rest[i].step == k {
				l.rest[i].program = a.NewProgram(l.name)
				p = l.rest[i].program
			}
		}
		step(p)
	}
	first.First(func() { l.packing.Record(first) }) // no program changes the weights of its convolutions
	return first
}

// assign gives the values their memory as it was planned.
func (l *lowering) assign(memory *exec.Buffer) {
	for _, v := range l.values {
		if v.buf = memory.Slice(v.first, v.size()); v.half {
			v.buf = v.buf.AsBF16()
		}
	}
}
