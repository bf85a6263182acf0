package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// input is the images: the buffer that they are written to, or a copy in the device's precision.
type input struct{}

func (input) facts() facts { return facts{} }

func (input) forward(l *lowering, out *output, _ []*operand, _ bool) bool {
	if !l.m.half() {
		out.fixed = l.m.Images
		return false
	}
	out.z = l.value(out.shape.Len())
	l.step(out.touched(), func(p *exec.Program) {
		images := tensor.Input{Shape: flat(out.shape), Z: l.m.Images}
		elementwise.Sum{Terms: []elementwise.Term{{In: images}}, Out: out.z.buf}.Record(p)
	})
	return false
}

func (input) backward(*lowering, *output, []*operand, *gradient) {}

// flat is a shape of as many elements, with many channels if their number allows it, for operations that treat all
// elements alike.
func flat(s tensor.Shape) tensor.Shape {
	if n := s.Len(); n%align == 0 {
		return tensor.Shape{N: 1, H: n / align, W: 1, C: align}
	}
	return s
}

// zero is DARTS's operation none: its output does not depend on its input.
type zero struct{}

func (zero) facts() facts { return facts{cut: true} }

func (zero) forward(l *lowering, out *output, _ []*operand, _ bool) bool {
	out.fixed = l.m.zeroes(out.shape.Len())
	return false
}

func (zero) backward(*lowering, *output, []*operand, *gradient) {}
