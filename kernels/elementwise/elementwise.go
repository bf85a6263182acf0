// Package elementwise holds what goes through tensors pixel by pixel: sums (and with them copies, concatenations,
// activations that are stored and mixtures), the gradients of a gate and of a mixture's weights, channel shuffles, the
// factors of stochastic depth, and zeros.
package elementwise

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "elementwise.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Term is a summand, as it is read through what stands before it, times a factor an image (from DropPath for instance)
// and a factor that all of it has (its weight in a mixture), both optional.
type Term struct {
	In     tensor.Input
	Weight *exec.Buffer // [N], or nil
	Scalar *exec.Buffer // [1], or nil
}

// Sum is Out = Σ Scalar·Weight·In over one to eight inputs of one shape, plain. With one input it is a copy, which
// stores an activation; with an OutStride larger than the channels it is a part of a concatenation. Out may be the Z of
// inputs that have the same stride. It may be float32 where the inputs are bfloat16, and the other way round.
type Sum struct {
	Terms     []Term
	Out       *exec.Buffer // [N, H, W, C], pixels OutStride elements apart
	OutStride int
	Sums      bool // leave sums of Out for norm.Forward
}

// Record appends the operation to a program and returns the sums, if there are any.
func (s Sum) Record(p *exec.Program) tensor.Stats {
	if len(s.Terms) < 1 || len(s.Terms) > C.CTN_SUM_TERMS {
		panic(fmt.Sprintf("sum: %d terms", len(s.Terms)))
	}
	shape := s.Terms[0].In.Shape
	args := sumArgs(shape, len(s.Terms))
	var tensors []*exec.Buffer
	for _, t := range s.Terms {
		tensors = append(tensors, t.In.Z)
	}
	half := tensor.Half("sum", tensors...)
	sweep := tensor.NewSweep(shape.Pixels(), shape.C, half)
	if p.Arena().Device().Accelerated() {
		args.block, args.groups = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
	}
	for i, t := range s.Terms {
		t.In.Check("sum")
		if t.In.Shape != shape {
			panic(fmt.Sprintf("sum: %+v and %+v", shape, t.In.Shape))
		}
		t.In.Put(unsafe.Pointer(&args.in[i]))
		if t.In.Z.Pointer() == s.Out.Pointer() {
			if from, to := stride(t.In.Stride, shape.C), stride(s.OutStride, shape.C); from != to {
				panic(fmt.Sprintf("sum: pixels of Out lie %d elements apart, and those of a term there %d", to, from))
			}
			args.apart |= flag(i > 0)
		}
		args.weight[i], args.scalar[i] = weight(t.Weight, shape.N), scalar(t.Scalar)
	}
	tensor.Span("sum", "Out", s.Out, shape, s.OutStride)
	args.out, args.out_ld = floats(s.Out), stride(s.OutStride, shape.C)
	var stats tensor.Stats
	if s.Sums {
		stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, shape.C, tensor.Parts(shape.Pixels(), int(args.block)),
			sweep.Chunks)
		args.stats, args.norm = floats(stats.Rows), (*C.ctn_norm)(stats.Norm())
	}
	launch := sweep.Launch(file, "cu_sum", half)
	switch out := s.Out.Half(); {
	case half && !out:
		launch.Entry = "cu_sum_bf16_f32"
	case out && !half:
		launch.Entry = "cu_sum_f32_bf16"
	}
	launch.Work.Bytes = s.Out.Bytes(shape.Len())
	for _, t := range s.Terms {
		launch.Work.Bytes += t.In.Bytes()
	}
	exec.Call(p, "sum", unsafe.Pointer(&C.ctn_sum), &args, 2*C.CTN_SUM_PIXELS*shape.C, launch)
	return stats
}

// SumGradient is the gradient in the terms of a sum: with G that in Out, each term's sink gets Scalar·Weight·(Gate·G +
// Mean/(H·W)). Gate and Mean (both [images, channels], optional) serve a squeeze-and-excitation: G is then the gradient
// in the gated tensor and Mean that in its global mean, stored as G is, and the only term is the tensor itself.
//
// G may be the D of one of the sinks, which then is the last term, if it has the same stride. A term whose sink has no
// D is left out.
type SumGradient struct {
	Shape   tensor.Shape
	G       *exec.Buffer // [N, H, W, C], pixels GStride elements apart
	GStride int
	Gate    *exec.Buffer // [N, C], or nil
	Mean    *exec.Buffer // [N, C], or nil
	Terms   []TermGradient
}

// TermGradient is where the gradient in a term goes.
type TermGradient struct {
	Sink   tensor.Sink
	Weight *exec.Buffer // [N], or nil
	Scalar *exec.Buffer // [1], or nil
}

// Record appends the operation to a program and returns the sums of each sink that leaves some.
func (s SumGradient) Record(p *exec.Program) []tensor.Stats {
	if len(s.Terms) < 1 || len(s.Terms) > C.CTN_SUM_TERMS {
		panic(fmt.Sprintf("sum_gradient: %d terms", len(s.Terms)))
	}
	args := sumArgs(s.Shape, len(s.Terms))
	tensor.Span("sum_gradient", "G", s.G, s.Shape, s.GStride)
	args.grad, args.grad_ld = floats(s.G), stride(s.GStride, s.Shape.C)
	if s.Gate != nil {
		exec.Need("sum_gradient", "Gate", s.Gate, s.Shape.N*s.Shape.C)
	}
	tensors := []*exec.Buffer{s.G}
	if s.Mean != nil {
		tensor.Span("sum_gradient", "Mean", s.Mean, tensor.Shape{N: s.Shape.N, H: 1, W: 1, C: s.Shape.C}, 0)
		tensors = append(tensors, s.Mean)
	}
	for _, t := range s.Terms {
		if t.Sink.D != nil {
			tensors = append(tensors, t.Sink.Tensors()...)
		}
	}
	half := tensor.Half("sum_gradient", tensors...)
	sweep := tensor.NewSweep(s.Shape.Pixels(), s.Shape.C, half)
	if p.Arena().Device().Accelerated() {
		args.block, args.groups = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
	}
	args.gate, args.mean = floats(s.Gate), floats(s.Mean)
	out := make([]tensor.Stats, len(s.Terms))
	for i, t := range s.Terms {
		if t.Sink.D == nil {
			continue
		}
		t.Sink.Check("sum_gradient", s.Shape)
		if t.Sink.Sums() {
			out[i] = tensor.NewStats(p.Arena(), tensor.BackwardRows, s.Shape.C,
				tensor.Parts(s.Shape.Pixels(), int(args.block)), sweep.Chunks)
		}
		t.Sink.Put(unsafe.Pointer(&args.sink[i]), s.Shape.C, out[i])
		args.weight[i], args.scalar[i] = weight(t.Weight, s.Shape.N), scalar(t.Scalar)
	}
	launch := sweep.Launch(file, "cu_sum_backward", half)
	launch.Work.Bytes = s.G.Bytes(s.Shape.Len())
	for _, t := range s.Terms {
		launch.Work.Bytes += t.Sink.Bytes(s.Shape)
	}
	exec.Call(p, "sum_gradient", unsafe.Pointer(&C.ctn_sum_backward), &args, 2*C.CTN_SUM_PIXELS*((s.Shape.C+15)/16*16),
		launch)
	return out
}

// MixGradient is the gradient in the scalars of a sum whose terms have no weights: with G that in the sum, Out[k] grows
// by the sum over all elements of G times term k, as Sum reads it. The order of summation depends on the shape alone.
type MixGradient struct {
	Shape   tensor.Shape
	G       *exec.Buffer // [N, H, W, C], pixels GStride elements apart
	GStride int
	Terms   []tensor.Input // one to eight
	Out     *exec.Buffer   // [len(Terms)] float32
}

// Record appends the operation to a program.
func (m MixGradient) Record(p *exec.Program) {
	const op = "mix_gradient"
	if len(m.Terms) < 1 || len(m.Terms) > C.CTN_SUM_TERMS {
		panic(fmt.Sprintf("%s: %d terms", op, len(m.Terms)))
	}
	tensor.Span(op, "G", m.G, m.Shape, m.GStride)
	exec.Need(op, "Out", m.Out, len(m.Terms))
	args := C.ctn_mix_args{pixels: C.int64_t(m.Shape.Pixels()), c: C.int64_t(m.Shape.C), block: block(m.Shape.C),
		terms: C.int64_t(len(m.Terms)), grad: floats(m.G), grad_ld: stride(m.GStride, m.Shape.C), out: floats(m.Out)}
	tensors := []*exec.Buffer{m.G}
	for i, in := range m.Terms {
		in.Check(op)
		if in.Shape != m.Shape {
			panic(fmt.Sprintf("%s: %+v and %+v", op, m.Shape, in.Shape))
		}
		in.Put(unsafe.Pointer(&args.in[i]))
		tensors = append(tensors, in.Z)
	}
	half := tensor.Half(op, tensors...)
	sweep := tensor.NewSweep(m.Shape.Pixels(), m.Shape.C, half)
	accelerated := p.Arena().Device().Accelerated()
	parts := exec.Blocks(m.Shape.Pixels(), int(args.block))
	if accelerated {
		args.block, args.groups = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
		parts = sweep.Parts * sweep.Chunks
	}
	args.parts, args.partial = C.int64_t(parts), floats(p.Arena().F32(parts*C.CTN_SUM_TERMS))
	if accelerated {
		exec.Call(p, op, nil, &args, 0, sweep.Launch(file, "cu_mix_gradient", half), exec.Launch{File: file,
			Entry: "cu_mix_reduce", Grid: [3]int{len(m.Terms)}, Block: tensor.SweepThreads})
		return
	}
	exec.Call(p, op, unsafe.Pointer(&C.ctn_mix_gradient), &args, C.CTN_SUM_PIXELS*m.Shape.C)
	exec.Call(p, "mix_reduce", unsafe.Pointer(&C.ctn_mix_reduce), &args, 0)
}

// GateGradient is the gradient in a gate ([images, channels]): the sum over each image of G, the gradient in the gated
// tensor, times Act(Scale·Z + Shift) of In, whose own Gate is not looked at. DGate is a gradient and stored as G is. On
// an accelerator it may be a sink of images of one pixel instead, which leaves no sums.
type GateGradient struct {
	In      tensor.Input
	G       *exec.Buffer // [N, H, W, C], pixels GStride elements apart
	GStride int
	DGate   *exec.Buffer // [N, C]
	Sink    tensor.Sink  // where the gradient goes if DGate is nil
}

// Record appends the operation to a program.
func (g GateGradient) Record(p *exec.Program) {
	g.In.Gate = nil
	g.In.Check("gate_gradient")
	tensor.Span("gate_gradient", "G", g.G, g.In.Shape, g.GStride)
	shape, written := tensor.Shape{N: g.In.N, H: 1, W: 1, C: g.In.C}, []*exec.Buffer{g.DGate}
	if g.DGate != nil {
		tensor.Span("gate_gradient", "DGate", g.DGate, shape, 0)
	} else {
		if g.Sink.Sums() || !p.Arena().Device().Accelerated() {
			panic("gate_gradient: a sink with sums, or on the CPU")
		}
		g.Sink.Check("gate_gradient", shape)
		written = g.Sink.Tensors()
	}
	half := tensor.Half("gate_gradient", append(written, g.In.Z, g.G)...)
	sweep := tensor.NewSweep(g.In.Pixels(), g.In.C, half).Images(g.In.N)
	args := C.ctn_gate_args{n: C.int64_t(g.In.N), image: C.int64_t(g.In.H * g.In.W), c: C.int64_t(g.In.C),
		grad: floats(g.G), grad_ld: stride(g.GStride, g.In.C), dgate: floats(g.DGate), groups: C.int64_t(sweep.Groups)}
	g.In.Put(unsafe.Pointer(&args.in))
	if g.DGate == nil {
		g.Sink.Put(unsafe.Pointer(&args.sink), g.In.C, tensor.Stats{})
	}
	launch := sweep.Launch(file, "cu_gate_gradient", half)
	launch.Work.Bytes = g.In.Z.Bytes(g.In.Len()) + g.G.Bytes(g.In.Len())
	exec.Call(p, "gate_gradient", unsafe.Pointer(&C.ctn_gate_gradient), &args, C.CTN_GATE_CHANNELS,
		launch)
}

// Shuffle mixes the channels of groups (Zhang et al., ShuffleNet, CVPR 2018): with the channels as a matrix of Groups
// rows, Out has it transposed. Out is dense and does not overlap In.
type Shuffle struct {
	In     tensor.Input
	Groups int
	Out    *exec.Buffer // [N, H, W, C]
}

// Record appends the operation to a program.
func (s Shuffle) Record(p *exec.Program) {
	args := s.args()
	tensor.Span("shuffle", "Out", s.Out, s.In.Shape, 0)
	args.out = floats(s.Out)
	exec.Call(p, "shuffle", unsafe.Pointer(&C.ctn_shuffle), &args, s.In.C,
		flat(tensor.Entry("cu_shuffle", tensor.Half("shuffle", s.In.Z, s.Out)), s.In.Len()))
}

// RecordBackward appends the gradient in the input from grad (dense), that in Out.
func (s Shuffle) RecordBackward(p *exec.Program, grad *exec.Buffer, sink tensor.Sink) tensor.Stats {
	args := s.args()
	tensor.Span("shuffle_backward", "grad", grad, s.In.Shape, 0)
	sink.Check("shuffle_backward", s.In.Shape)
	half := tensor.Half("shuffle_backward", append(sink.Tensors(), grad)...)
	sweep := tensor.NewSweep(s.In.Pixels(), s.In.C, half)
	if p.Arena().Device().Accelerated() {
		args.block, args.lanes = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
	}
	var stats tensor.Stats
	if sink.Sums() {
		stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, s.In.C, tensor.Parts(s.In.Pixels(), int(args.block)),
			sweep.Chunks)
	}
	args.grad = floats(grad)
	sink.Put(unsafe.Pointer(&args.sink), s.In.C, stats)
	exec.Call(p, "shuffle_backward", unsafe.Pointer(&C.ctn_shuffle_backward), &args, s.In.C,
		sweep.Launch(file, "cu_shuffle_backward", half))
	return stats
}

func (s Shuffle) args() C.ctn_shuffle_args {
	s.In.Check("shuffle")
	if s.Groups < 1 || s.In.C%s.Groups != 0 {
		panic(fmt.Sprintf("shuffle: %d channels in %d groups", s.In.C, s.Groups))
	}
	args := C.ctn_shuffle_args{pixels: C.int64_t(s.In.Pixels()), c: C.int64_t(s.In.C), groups: C.int64_t(s.Groups),
		block: block(s.In.C)}
	s.In.Put(unsafe.Pointer(&args.in))
	return args
}

// DropPath draws the factors of stochastic depth (Huang et al., ECCV 2016), one an image: 1/k with probability k = 1 -
// (1-Keep)·Rate, otherwise 0. They are a function of (Seed, Stream, *Step, *Rate, image).
type DropPath struct {
	Out    *exec.Buffer // [N]
	Keep   float32
	Rate   *exec.Buffer // [1] from 0 to 1, for probabilities that change in the course of a training; nil: 1
	Seed   uint64
	Stream uint32       // a purpose of package philox, with the layer's number in the high bits
	Step   *exec.Buffer // [1] integer
}

// Record appends the operation to a program.
func (d DropPath) Record(p *exec.Program) {
	if !(d.Keep > 0 && d.Keep <= 1) || d.Out.Len() < 1 {
		panic(fmt.Sprintf("droppath: %d images kept with probability %g", d.Out.Len(), d.Keep))
	}
	if d.Rate != nil {
		exec.Need("droppath", "Rate", d.Rate, 1)
	}
	args := C.ctn_droppath_args{n: C.int64_t(d.Out.Len()), out: floats(d.Out), keep: C.float(d.Keep),
		rate: floats(d.Rate), seed: C.uint64_t(d.Seed), stream: C.uint32_t(d.Stream), step: ints(d.Step.Slice(0, 1))}
	exec.Call(p, "droppath", unsafe.Pointer(&C.ctn_droppath), &args, 0, flat("cu_droppath", d.Out.Len()))
}

// RecordAxpy appends Out = X + A[0]·Y over flat buffers of float32, all of one length but A. Out may be X or Y.
func RecordAxpy(p *exec.Program, out, x, y, a *exec.Buffer) {
	n := out.Len()
	if n == 0 || x.Len() != n || y.Len() != n || out.Half() {
		panic(fmt.Sprintf("axpy: %d and %d elements into %d", x.Len(), y.Len(), n))
	}
	exec.Need("axpy", "A", a, 1)
	const c = 256 // the buffer is a tensor of pixels of so many channels, and one of what is left
	part := func(at, pixels, c int) {
		if n := pixels * c; n > 0 {
			in := func(b *exec.Buffer) tensor.Input {
				return tensor.Input{Shape: tensor.Shape{N: 1, H: 1, W: pixels, C: c}, Z: b.Slice(at, n)}
			}
			Sum{Terms: []Term{{In: in(x)}, {In: in(y), Scalar: a}}, Out: out.Slice(at, n)}.Record(p)
		}
	}
	part(0, n/c, c)
	part(n/c*c, 1, n%c)
}

// RecordZero appends the filling of a buffer of float32 with zeros, whatever it holds.
func RecordZero(p *exec.Program, out *exec.Buffer) {
	exec.Need("zero", "out", out, out.Len())
	args := C.ctn_zero_args{n: C.int64_t(out.Len()), out: floats(out)}
	exec.Call(p, "zero", unsafe.Pointer(&C.ctn_zero), &args, 0, flat("cu_zero", out.Len()))
}

func sumArgs(s tensor.Shape, terms int) C.ctn_sum_args {
	if s.Len() <= 0 {
		panic(fmt.Sprintf("sum: %+v", s))
	}
	return C.ctn_sum_args{pixels: C.int64_t(s.Pixels()), image: C.int64_t(s.H * s.W), c: C.int64_t(s.C),
		terms: C.int64_t(terms), block: block(s.C)}
}

// block is the number of pixels a task.
func block(c int) C.int64_t { return C.int64_t(max(1, min(512, 32768/c))) }

func weight(b *exec.Buffer, n int) *C.float {
	if b != nil {
		exec.Need("sum", "Weight", b, n)
	}
	return floats(b)
}

func scalar(b *exec.Buffer) *C.float {
	if b != nil {
		exec.Need("sum", "Scalar", b, 1)
	}
	return floats(b)
}

func stride(ld, c int) C.int64_t {
	if ld == 0 {
		ld = c
	}
	return C.int64_t(ld)
}

// file has the kernels for accelerators.
const file = "elementwise"

// flat is the launch of an entry with a thread for each of n elements.
func flat(entry string, n int) exec.Launch { return exec.Over(file, entry, n, 1, tensor.SweepThreads) }
