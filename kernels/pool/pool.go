// Package pool holds maximum, average and global average pooling with their gradients.
package pool

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "pool.h"
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

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

// Pool takes the maximum or the average of windows of K x K pixels of In, as it is read through what stands before it.
// Pixels outside the image are no part of a maximum; an average divides by the number of pixels inside, or by K² with
// CountPad. Of equal maxima the first is taken.
//
// The result, Out, is dense and plain.
type Pool struct {
	In             tensor.Input
	K, Stride, Pad int // Stride 0 is 1
	OutH, OutW     int // 0: floor((H + 2 Pad - K)/Stride) + 1
	Average        bool
	CountPad       bool
	Out            *exec.Buffer // [N, OutH, OutW, C]
	arg            *exec.Buffer
}

// New checks a pooling and reserves what its gradient needs to know.
func New(a *exec.Arena, op Pool) *Pool {
	op.In.Check("pool")
	op.Stride = max(1, op.Stride)
	if op.OutH == 0 && op.OutW == 0 {
		op.OutH, op.OutW = (op.In.H+2*op.Pad-op.K)/op.Stride+1, (op.In.W+2*op.Pad-op.K)/op.Stride+1
	}
	if op.K < 1 || op.K > 11 || op.Pad < 0 || op.Pad >= op.K || op.OutH < 1 || op.OutW < 1 ||
		(op.OutH-1)*op.Stride-op.Pad >= op.In.H || (op.OutW-1)*op.Stride-op.Pad >= op.In.W {
		panic(fmt.Sprintf("pool: windows of %d by %d, padding %d, on %+v", op.K, op.Stride, op.Pad, op.In.Shape))
	}
	tensor.Span("pool", "Out", op.Out, op.Shape(), 0)
	if !op.Average {
		op.arg = a.I32(op.Shape().Pixels() * argStride(op.In.C) / 4)
	}
	return &op
}

// Shape is that of the output.
func (o *Pool) Shape() tensor.Shape { return tensor.Shape{N: o.In.N, H: o.OutH, W: o.OutW, C: o.In.C} }

// argStride is the bytes from a pixel's places to the next one's: whole vectors.
func argStride(c int) int { return (c + 15) / 16 * 16 }

// Record appends the operation to a program.
func (o *Pool) Record(p *exec.Program) {
	args := o.args()
	rows := max(1, min(o.OutH, 32768/(o.In.W*o.In.C*o.Stride)))
	args.block = C.int64_t(rows * o.OutW)
	// A task of `rows` rows of output may begin in one image and end in the next.
	band := (rows*o.Stride + o.K + o.In.H) * o.In.W * o.In.C
	half := tensor.Half("pool", o.In.Z, o.Out)
	sweep := tensor.NewSweep(o.Shape().Pixels(), o.In.C, half)
	if p.Arena().Device().Accelerated() {
		args.block, args.groups = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
	}
	launch := sweep.Launch("pool", o.entry(), half)
	launch.Work.Bytes = o.In.Bytes() + o.written()
	exec.Call(p, "pool", unsafe.Pointer(&C.ctn_pool), &args, band, launch)
}

// written is the bytes of the output and of the places of its maxima.
func (o *Pool) written() float64 {
	n := o.Out.Bytes(o.Shape().Len())
	if !o.Average {
		n += float64(o.Shape().Len())
	}
	return n
}

// RecordBackward appends the gradient in the input from grad (dense), that in the output.
func (o *Pool) RecordBackward(p *exec.Program, grad *exec.Buffer, sink tensor.Sink) tensor.Stats {
	tensor.Span("pool_backward", "grad", grad, o.Shape(), 0)
	args := o.args()
	args.grad = floats(grad)
	stats, launch := put(p, &args, o.In.Shape, sink, grad, o.entry()+"_backward")
	launch.Work.Bytes = o.written() + sink.Bytes(o.In.Shape)
	const lanes = 16 // of the widest vector
	exec.Call(p, "pool_backward", unsafe.Pointer(&C.ctn_pool_backward), &args, o.In.W*lanes, launch)
	return stats
}

func (o *Pool) args() C.ctn_pool_args {
	args := C.ctn_pool_args{n: C.int64_t(o.In.N), h: C.int64_t(o.In.H), w: C.int64_t(o.In.W), c: C.int64_t(o.In.C),
		ho: C.int64_t(o.OutH), wo: C.int64_t(o.OutW), k: C.int64_t(o.K), stride: C.int64_t(o.Stride),
		pad: C.int64_t(o.Pad), out: floats(o.Out), arg: (*C.int8_t)(o.arg.Pointer()),
		arg_ld: C.int64_t(argStride(o.In.C))}
	args.average = flag(o.Average)
	args.count_pad = flag(o.CountPad)
	o.In.Put(unsafe.Pointer(&args.in))
	return args
}

// Global is the mean over all pixels of an image: Out is [images, channels].
type Global struct {
	In  tensor.Input
	Out *exec.Buffer // [N, C]
}

// Record appends the operation to a program.
func (o Global) Record(p *exec.Program) {
	args := o.args()
	tensor.Span("pool_global", "Out", o.Out, o.shape(), 0)
	args.out = floats(o.Out)
	half := tensor.Half("pool_global", o.In.Z, o.Out)
	s := tensor.NewSweep(o.In.Pixels(), o.In.C, half).Images(o.In.N)
	args.groups = C.int64_t(s.Groups)
	launch := s.Launch("pool", "cu_pool_global", half)
	launch.Work.Bytes = o.In.Bytes() + o.Out.Bytes(o.shape().Len())
	exec.Call(p, "pool_global", unsafe.Pointer(&C.ctn_pool_global), &args, 2*o.In.C, launch)
}

// RecordBackward appends the gradient in the input from grad ([images, channels]), that in the output.
func (o Global) RecordBackward(p *exec.Program, grad *exec.Buffer, sink tensor.Sink) tensor.Stats {
	args := o.args()
	tensor.Span("pool_global_backward", "grad", grad, o.shape(), 0)
	args.grad = floats(grad)
	stats, launch := put(p, &args, o.In.Shape, sink, grad, "cu_pool_global_backward")
	launch.Work.Bytes = grad.Bytes(o.shape().Len()) + sink.Bytes(o.In.Shape)
	exec.Call(p, "pool_global_backward", unsafe.Pointer(&C.ctn_pool_global_backward), &args, o.In.C, launch)
	return stats
}

func (o Global) shape() tensor.Shape { return tensor.Shape{N: o.In.N, H: 1, W: 1, C: o.In.C} }

func (o Global) args() C.ctn_pool_args {
	o.In.Check("pool_global")
	args := C.ctn_pool_args{n: C.int64_t(o.In.N), h: C.int64_t(o.In.H), w: C.int64_t(o.In.W), c: C.int64_t(o.In.C)}
	o.In.Put(unsafe.Pointer(&args.in))
	return args
}

// put stores the sink, splits the input's pixels into tasks and returns the room for their sums, and the launch of an
// entry.
func put(p *exec.Program, args *C.ctn_pool_args, s tensor.Shape, sink tensor.Sink, grad *exec.Buffer,
	entry string) (stats tensor.Stats, launch exec.Launch) {
	sink.Check("pool_backward", s)
	args.block = C.int64_t(max(1, min(512, 32768/s.C)))
	chunks := 1
	if p.Arena().Device().Accelerated() {
		half := tensor.Half("pool_backward", append(sink.Tensors(), grad)...)
		sweep := tensor.NewSweep(s.Pixels(), s.C, half)
		args.block, args.groups = C.int64_t(sweep.Block), C.int64_t(sweep.Groups)
		launch, chunks = sweep.Launch("pool", entry, half), sweep.Chunks
	}
	if sink.Sums() {
		stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, s.C, tensor.Parts(s.Pixels(), int(args.block)), chunks)
	}
	sink.Put(unsafe.Pointer(&args.sink), s.C, stats)
	return stats, launch
}

// entry is the kernel for accelerators.
func (o *Pool) entry() string {
	if o.Average {
		return "cu_pool_average"
	}
	return "cu_pool_max"
}
