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

func (o pooling) forward(l *lowering, r *raw, in []*port, _ bool) bool {
	l.step(l.output(r, in), func(p *exec.Program) {
		w := o.window
		w.In, w.Out, w.OutH, w.OutW = l.input(in[0]), r.z.buf, r.shape.H, r.shape.W
		r.pool = pool.New(l.m.arena, w)
		r.pool.Record(p)
	})
	return false
}

func (pooling) backward(l *lowering, r *raw, in []*port, g *gradient) {
	g = l.stored(g)
	l.contribute(in[0], append(in[0].touched(), g.g), func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return r.pool.RecordBackward(p, g.g.buf, s)
	})
}

// globalPool is the mean over all pixels of an image.
type globalPool struct{}

func (globalPool) facts() facts { return facts{} }

func (globalPool) forward(l *lowering, r *raw, in []*port, _ bool) bool {
	l.step(l.output(r, in), func(p *exec.Program) { pool.Global{In: l.input(in[0]), Out: r.z.buf}.Record(p) })
	return false
}

func (globalPool) backward(l *lowering, _ *raw, in []*port, g *gradient) {
	g = l.stored(g)
	if len(in[0].gated) > 0 { // squeeze and excitation: the same tensor is gated, and one operation adds both gradients
		l.contributeGated(in[0], g.g)
		return
	}
	l.contribute(in[0], []*value{g.g}, func(p *exec.Program, s tensor.Sink) tensor.Stats {
		return pool.Global{In: l.input(in[0])}.RecordBackward(p, g.g.buf, s)
	})
}
