package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// input is the images: where they are written to, or a copy in the device's precision.
type input struct{}

func (input) facts() facts { return facts{} }

func (input) forward(l *lowering, r *raw, _ []*port, _ bool) bool {
	if !l.m.half() {
		r.fixed = l.m.Images
		return false
	}
	r.z = l.value(r.shape.Len())
	l.step(r.touched(), func(p *exec.Program) {
		images := tensor.Input{Shape: flat(r.shape), Z: l.m.Images}
		elementwise.Sum{Terms: []elementwise.Term{{In: images}}, Out: r.z.buf}.Record(p)
	})
	return false
}

func (input) backward(*lowering, *raw, []*port, *gradient) {}

// flat is a shape of as many elements with many channels where that can be, for what treats all elements alike.
func flat(s tensor.Shape) tensor.Shape {
	if n := s.Len(); n%align == 0 {
		return tensor.Shape{N: 1, H: n / align, W: 1, C: align}
	}
	return s
}

// zero is DARTS's operation none: its output does not depend on its input.
type zero struct{}

func (zero) facts() facts { return facts{cut: true} }

func (zero) forward(l *lowering, r *raw, _ []*port, _ bool) bool {
	r.fixed = l.m.zeroes(r.shape.Len())
	return false
}

func (zero) backward(*lowering, *raw, []*port, *gradient) {}
