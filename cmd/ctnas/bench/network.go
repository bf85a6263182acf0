package bench

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/kernels/depthwise"
	transform "github.com/ctnas/ctnas/kernels/elastic"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/norm"
	"github.com/ctnas/ctnas/kernels/pool"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// networkBatch is the images of a batch on an accelerator, and on the CPU.
const networkBatch, networkBatchCPU = 256, 8

// layer is what the operations of a network are measured on: a batch of tensors as its operations read and write them,
// on an accelerator of precision bf16 stored so.
type layer struct {
	ar    *exec.Arena
	batch int
	half  bool
	moved float64 // bytes that tensors were given room for, each counted once
	flops float64 // 0 where memory bounds
}

// room is a tensor of a shape without N, filled with numbers.
func (l *layer) room(s tensor.Shape) (tensor.Shape, *exec.Buffer) {
	s.N = l.batch
	size, b := 4.0, (*exec.Buffer)(nil)
	if l.half {
		size, b = 2, l.ar.BF16((s.Len()+1)/2*2) // an even number, to be filled
	} else {
		b = l.ar.F32(s.Len())
	}
	l.moved += size * float64(s.Len())
	fill(b)
	return s, b.Slice(0, s.Len())
}

// input is a tensor as it is read through a batch norm and an activation.
func (l *layer) input(s tensor.Shape, act tensor.Act) (tensor.Input, *norm.Batch) {
	s, z := l.room(s)
	n := norm.New(l.ar, s.C, 1e-3)
	for i, b := range []*exec.Buffer{n.Mean, n.InvStd, n.Scale, n.Shift, n.P, n.Q, n.R} {
		b.WriteF32(0, random(s.C, uint32(2+i)))
	}
	return n.Input(z, s, act), n
}

// sink is where the gradient in an input goes, finished: with the activation's slope and sums.
func (l *layer) sink(in tensor.Input, n *norm.Batch) tensor.Sink {
	_, d := l.room(in.Shape)
	return tensor.Sink{D: d, Of: &in, Mean: n.Mean, InvStd: n.InvStd}
}

// layered is the setup of a case that f records.
func layered(f func(l *layer, p *exec.Program)) func(context.Context, *Env) (func() error, error) {
	return func(ctx context.Context, e *Env) (func() error, error) {
		return recorded(func(ar *exec.Arena, p *exec.Program) {
			d := ar.Device()
			l := &layer{ar: ar, batch: e.batch(networkBatchCPU, networkBatch), half: d.Precision() == exec.BF16}
			f(l, p)
			e.moved, e.worked = l.moved, l.flops
		})(ctx, e)
	}
}

// kernelTransforms are what once-for-all's widest depthwise weight takes for a path that makes it smaller.
func kernelTransforms() []Case {
	const size, channels = 7, 960
	weights := func(l *layer, n int) *exec.Buffer {
		l.moved += 4 * float64(n)
		return l.ar.Floats(random(n, uint32(n)))
	}
	forward := func(l *layer, steps int) transform.Shrink {
		s := transform.Shrink{K: size, C: channels, Weight: weights(l, size*size*channels)}
		for k := size - 2; k > 1 && len(s.Matrices) < steps; k -= 2 {
			s.Matrices = append(s.Matrices, weights(l, k*k*k*k))
		}
		k := size - 2*steps
		s.Out = weights(l, k*k*channels)
		return s
	}
	var out []Case
	for steps := 1; steps <= 2; steps++ {
		name := fmt.Sprintf("%d_k%d", channels, size-2*steps)
		shape := fmt.Sprintf("a depthwise weight of %d channels, %dx%d to %dx%d taps by %d matrices", channels, size,
			size, size-2*steps, size-2*steps, steps)
		out = append(out, Case{Name: "shrink_" + name, Shape: shape, Setup: layered(func(l *layer, p *exec.Program) {
			forward(l, steps).Record(p)
		})}, Case{Name: "shrink_backward_" + name, Shape: shape + ": all gradients",
			Setup: layered(func(l *layer, p *exec.Program) {
				s := forward(l, steps)
				g := transform.Gradient{K: s.K, C: s.C, Weight: s.Weight, Matrices: s.Matrices, DOut: s.Out,
					DWeight: weights(l, s.Weight.Len())}
				for _, m := range s.Matrices {
					g.DMatrices = append(g.DMatrices, weights(l, m.Len()))
				}
				g.Record(p)
			})})
	}
	return out
}

// network lists the operations of a network.
func network() []Case {
	batch := fmt.Sprintf("batch %d, on the CPU %d", networkBatch, networkBatchCPU)
	var out []Case
	add := func(name, shape string, f func(l *layer, p *exec.Program)) {
		out = append(out, Case{Name: name, Shape: shape + "; " + batch, Setup: layered(f)})
	}
	for _, c := range []struct{ side, channels, k, stride int }{{112, 64, 3, 2}, {56, 72, 3, 1}, {56, 72, 5, 2},
		{28, 120, 5, 1}, {14, 480, 3, 1}, {7, 960, 5, 1}} {
		conv := func(l *layer) depthwise.Conv {
			return depthwise.Conv{In: tensor.Shape{N: l.batch, H: c.side, W: c.side, C: c.channels}, K: c.k,
				Stride: c.stride, PadH: c.k / 2, PadW: c.k / 2}
		}
		name := fmt.Sprintf("%d_%d_k%ds%d", c.side, c.channels, c.k, c.stride)
		shape := fmt.Sprintf("a depthwise layer of MobileNetV3-Large, %dx%d, %d channels, %dx%d taps, stride %d",
			c.side, c.side, c.channels, c.k, c.k, c.stride)
		add("depthwise_"+name, shape+": batch norm and h-swish on load, sums", func(l *layer, p *exec.Program) {
			g := conv(l)
			in, _ := l.input(g.In, tensor.HSwish)
			_, z := l.room(g.Shape())
			depthwise.Forward{Conv: g, In: in, Weight: l.ar.Floats(random(g.WeightLen(), 9)), Z: z,
				Sums: true}.Record(p)
		})
		add("depthwise_backward_"+name, shape+": both gradients, sums", func(l *layer, p *exec.Program) {
			g := conv(l)
			in, n := l.input(g.In, tensor.HSwish)
			out, after := l.input(g.Shape(), tensor.None)
			_, grad := l.room(g.Shape())
			depthwise.Backward{Conv: g, In: in, Grad: after.Gradient(grad, out.Z),
				Weight: l.ar.Floats(random(g.WeightLen(), 9)), Sink: l.sink(in, n),
				DWeight: l.ar.F32(g.WeightLen())}.Record(p)
		})
	}
	out = append(out, kernelTransforms()...)
	convolutions(add)
	cell := tensor.Shape{H: 32, W: 32, C: 128}
	for _, name := range []string{"pool_max", "pool_average"} {
		build := func(l *layer, in tensor.Input) *pool.Pool {
			_, out := l.room(in.Shape)
			return pool.New(l.ar, pool.Pool{In: in, K: 3, Pad: 1, Average: name == "pool_average", Out: out})
		}
		add(name, "3x3 windows on 32x32, 128 channels: batch norm and ReLU on load", func(l *layer, p *exec.Program) {
			in, _ := l.input(cell, tensor.ReLU)
			build(l, in).Record(p)
		})
		add(name+"_backward", "its gradient, with sums", func(l *layer, p *exec.Program) {
			in, n := l.input(cell, tensor.ReLU)
			o := build(l, in)
			_, grad := l.room(cell)
			o.RecordBackward(p, grad, l.sink(in, n))
		})
	}
	add("sum_3", "three tensors of 32x32, 128 channels: batch norm and ReLU on load, sums",
		func(l *layer, p *exec.Program) {
			var s elementwise.Sum
			for range 3 {
				in, _ := l.input(cell, tensor.ReLU)
				s.Terms = append(s.Terms, elementwise.Term{In: in})
			}
			_, s.Out = l.room(cell)
			s.Sums = true
			s.Record(p)
		})
	add("classes_1000", "softmax cross-entropy of 1,000 classes with label smoothing, and its gradient",
		func(l *layer, p *exec.Program) {
			s, logit := l.room(tensor.Shape{H: 1, W: 1, C: 1000})
			loss.Classes{N: s.N, Classes: s.C, Logit: logit, Label: l.ar.Ints(make([]int32, s.N)), Smoothing: 0.1,
				DLogit: logit, Loss: l.ar.F32(1)}.Record(p)
		})
	return out
}
