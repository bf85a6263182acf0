package bench

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// convolutions adds the dense ones: those of NAS-Bench-101's networks, which arithmetic bounds, and those of
// MobileNetV3-Large, which memory does.
func convolutions(add func(name, shape string, f func(l *layer, p *exec.Program))) {
	for _, c := range []struct{ side, in, out, k, stride int }{
		{32, 128, 128, 3, 1}, {16, 256, 256, 3, 1}, {8, 512, 512, 3, 1}, {32, 128, 128, 1, 1},
		{224, 3, 16, 3, 2}, {112, 16, 64, 1, 1}, {56, 64, 24, 1, 1}, {28, 120, 40, 1, 1}, {14, 80, 480, 1, 1},
		{14, 672, 112, 1, 1}, {7, 160, 960, 1, 1}, {7, 960, 160, 1, 1},
	} {
		geometry := func(l *layer) conv.Conv {
			g := conv.Conv{In: tensor.Shape{N: l.batch, H: c.side, W: c.side, C: c.in}, Out: c.out, KH: c.k, KW: c.k,
				Stride: c.stride, PadH: c.k / 2, PadW: c.k / 2}
			if c.k > 1 && c.in > 3 {
				l.flops = 2 * float64(g.MAdds())
			}
			return g
		}
		name := fmt.Sprintf("%d_%d_%d_k%ds%d", c.side, c.in, c.out, c.k, c.stride)
		shape := fmt.Sprintf("%dx%d, %d to %d channels, %dx%d taps, stride %d", c.side, c.side, c.in, c.out, c.k,
			c.k, c.stride)
		weight := func(l *layer, g conv.Conv) *exec.Buffer { return l.ar.Floats(random(g.WeightLen(), 9)) }
		add("conv_"+name, shape+": batch norm and ReLU on load, sums", func(l *layer, p *exec.Program) {
			g := geometry(l)
			in, _ := l.input(g.In, tensor.ReLU)
			_, z := l.room(g.Shape())
			conv.Forward{Conv: g, In: in, Weight: weight(l, g), Z: z, Sums: true}.Record(p)
		})
		if c.in > 3 {
			add("conv_input_"+name, shape+": the gradient in the input, sums", func(l *layer, p *exec.Program) {
				g := geometry(l)
				in, n := l.input(g.In, tensor.ReLU)
				out, after := l.input(g.Shape(), tensor.None)
				_, grad := l.room(g.Shape())
				conv.InputGradient{Conv: g, Grad: after.Gradient(grad, out.Z), Weight: weight(l, g),
					Sink: l.sink(in, n)}.Record(p)
			})
		}
		add("conv_weight_"+name, shape+": the gradient in the weight", func(l *layer, p *exec.Program) {
			g := geometry(l)
			in, _ := l.input(g.In, tensor.ReLU)
			out, after := l.input(g.Shape(), tensor.None)
			_, grad := l.room(g.Shape())
			conv.WeightGradient{Conv: g, In: in, Grad: after.Gradient(grad, out.Z),
				DWeight: l.ar.F32(g.WeightLen())}.Record(p)
		})
	}
}
