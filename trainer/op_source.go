package trainer

import (
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// input is the images: the buffer that they are written to, or a copy in the device's precision, unless none but
// convolutions of patches reads it.
type input struct{}

func (input) facts() facts { return facts{} }

func (input) forward(l *lowering, out *output, _ []*operand, _ bool) bool {
	if !l.m.half() || l.allPatched() {
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

// allPatched tells whether all that reads the images are convolutions of patches.
func (l *lowering) allPatched() bool {
	for _, i := range l.m.fusion.Stored {
		if i == 0 {
			continue
		}
		for _, v := range l.reading(i) {
			if v.Node != 0 {
				continue
			}
			op, ok := l.m.ops[i].(convolution)
			if !ok || v != (nn.View{}) {
				return false
			}
			row, tap := l.m.distances(i, 0)
			if c, dw := geometry(op.op, l.shape(0)); dw != nil || !l.patched(0, c, row, tap) {
				return false
			}
		}
	}
	return true
}

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
