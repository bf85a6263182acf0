package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// pooling is the maximum or mean over windows.
type pooling struct{ window pool.Pool }

// maxWindow is the largest side of a window that the kernels take.
const maxWindow = 11

func newPooling(op nn.Op, kernel, stride nn.Size, pad nn.Pad) (operation, error) {
	switch {
	case kernel.H != kernel.W || pad.Top != pad.Left || kernel.H > maxWindow:
		return nil, fmt.Errorf("there is no kernel for a %s over windows of %s with padding %+v", op, kernel, pad)
	case stride.H != stride.W:
		return nil, fmt.Errorf("there is no kernel for a %s with stride %s", op, stride)
	}
	w := pool.Pool{K: kernel.H, Stride: stride.H, Pad: pad.Top}
	if average, ok := op.(nn.AvgPool); ok {
		w.Average, w.CountPad = true, average.CountPad
	}
	return pooling{w}, nil
}

func (pooling) facts() facts { return facts{} }

func (o pooling) forward(l *lowering, out *output, in []*operand, _ bool) bool {
	l.step(l.allocate(out, in), func(p *exec.Program) {
		w := o.window
		w.In, w.Out, w.OutH, w.OutW = l.input(in[0]), out.z.buf, out.shape.H, out.shape.W
		out.pool = pool.New(l.m.arena, w)
		out.pool.Record(p)
	})
	return false
}

func (pooling) backward(l *lowering, out *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	l.contribute(in[0], append(in[0].touched(), dout.tensor), func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return out.pool.RecordBackward(p, dout.tensor.buf, s)
	})
}

// globalPool is the mean over all pixels of an image.
type globalPool struct{}

func (globalPool) facts() facts { return facts{} }

func (globalPool) forward(l *lowering, out *output, in []*operand, _ bool) bool {
	l.step(l.allocate(out, in), func(p *exec.Program) { pool.Global{In: l.input(in[0]), Out: out.z.buf}.Record(p) })
	return false
}

func (globalPool) backward(l *lowering, _ *output, in []*operand, dout *gradient) {
	dout = l.materialize(dout)
	if len(in[0].gated) > 0 {
		// Squeeze and excitation: the same tensor is gated, and one operation adds both gradients.
		l.contributeGated(in[0], dout.tensor)
		return
	}
	l.contribute(in[0], []*value{dout.tensor}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return pool.Global{In: l.input(in[0])}.RecordBackward(p, dout.tensor.buf, s)
	})
}
