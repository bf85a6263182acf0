package trainer

import (
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// value is memory that some steps need.
type value struct {
	len         int
	half        bool // stored as bfloat16
	first, last int  // steps that touch it
	buf         *exec.Buffer
}

// value is a tensor of n elements, stored as the device's precision says: a raw output or a gradient in one.
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

// place decides where each value lies, in floats from the beginning of the memory that all share, and returns how many floats that has.
func (l *lowering) place() int64 {
	p := nn.Place(l.lifetimes(), 4*align)
	for i, v := range l.values {
		v.first = int(p.Offsets[i] / 4)
	}
	return p.Peak / 4
}

// lifetimes says how long each value lives.
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
	p := a.NewProgram(l.name)
	for _, step := range l.steps {
		step(p)
	}
	return p
}

// assign gives the values the places that were decided on.
func (l *lowering) assign(memory *exec.Buffer) {
	for _, v := range l.values {
		if v.buf = memory.Slice(v.first, v.size()); v.half {
			v.buf = v.buf.AsBF16()
		}
	}
}
