// Package pool holds maximum, average and global average pooling with their gradients.
package pool

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wno-psabi
#include "pool_cpu.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Pool takes the maximum or the average of windows of K x K pixels of In, as it is read through what stands before it. Pixels outside the image are no
// part of a maximum; an average divides by the number of pixels inside, or by K² with CountPad. Of equal maxima the first is taken.
//
// The result, Out, is dense and plain.
type Pool struct {
	In             tensor.Input
	K, Stride, Pad int // Stride 0 is 1
	OutH, OutW     int // 0: floor((H + 2 Pad - K)/Stride) + 1
	Average        bool
	CountPad       bool
	Out            *exec.Buffer
	arg            *exec.Buffer
}

// New checks a pooling and reserves what its gradient needs to know.
func New(a *exec.Arena, op Pool) *Pool {
	op.In.Check("pool")
	op.Stride = max(1, op.Stride)
	if op.OutH == 0 && op.OutW == 0 {
		op.OutH, op.OutW = (op.In.H+2*op.Pad-op.K)/op.Stride+1, (op.In.W+2*op.Pad-op.K)/op.Stride+1
	}
	if op.K < 1 || op.K > 11 || op.Pad < 0 || op.Pad >= op.K || op.OutH < 1 || op.OutW < 1 || (op.OutH-1)*op.Stride-op.Pad >= op.In.H ||
		(op.OutW-1)*op.Stride-op.Pad >= op.In.W {
		panic(fmt.Sprintf("pool: windows of %d by %d, padding %d, on %+v", op.K, op.Stride, op.Pad, op.In.Shape))
	}
	tensor.Need("pool", "Out", op.Out, op.Shape().Len())
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
	record(p, "pool", unsafe.Pointer(&C.ctn_pool), &args, band)
}

// RecordBackward appends the gradient in the input from grad (dense), that in the output.
func (o *Pool) RecordBackward(p *exec.Program, grad *exec.Buffer, sink tensor.Sink) tensor.Stats {
	tensor.Need("pool_backward", "grad", grad, o.Shape().Len())
	args := o.args()
	args.grad = floats(grad)
	stats := put(p, &args, o.In.Shape, sink)
	const lanes = 16 // of the widest vector
	record(p, "pool_backward", unsafe.Pointer(&C.ctn_pool_backward), &args, o.In.W*lanes)
	return stats
}

func (o *Pool) args() C.ctn_pool_args {
	args := C.ctn_pool_args{n: C.int64_t(o.In.N), h: C.int64_t(o.In.H), w: C.int64_t(o.In.W), c: C.int64_t(o.In.C), ho: C.int64_t(o.OutH), wo: C.int64_t(o.OutW),
		k: C.int64_t(o.K), stride: C.int64_t(o.Stride), pad: C.int64_t(o.Pad), out: floats(o.Out), arg: (*C.int8_t)(o.arg.Pointer()),
		arg_ld: C.int64_t(argStride(o.In.C))}
	if o.Average {
		args.average = 1
	}
	if o.CountPad {
		args.count_pad = 1
	}
	o.In.Put(unsafe.Pointer(&args.in))
	return args
}

// Global is the mean over all pixels of an image: Out is images x channels.
type Global struct {
	In  tensor.Input
	Out *exec.Buffer
}

// Record appends the operation to a program.
func (o Global) Record(p *exec.Program) {
	args := o.args()
	tensor.Need("pool_global", "Out", o.Out, o.In.N*o.In.C)
	args.out = floats(o.Out)
	record(p, "pool_global", unsafe.Pointer(&C.ctn_pool_global), &args, 2*o.In.C)
}

// RecordBackward appends the gradient in the input from grad (images x channels), that in the output.
func (o Global) RecordBackward(p *exec.Program, grad *exec.Buffer, sink tensor.Sink) tensor.Stats {
	args := o.args()
	tensor.Need("pool_global_backward", "grad", grad, o.In.N*o.In.C)
	args.grad = floats(grad)
	stats := put(p, &args, o.In.Shape, sink)
	record(p, "pool_global_backward", unsafe.Pointer(&C.ctn_pool_global_backward), &args, o.In.C)
	return stats
}

func (o Global) args() C.ctn_pool_args {
	o.In.Check("pool_global")
	args := C.ctn_pool_args{n: C.int64_t(o.In.N), h: C.int64_t(o.In.H), w: C.int64_t(o.In.W), c: C.int64_t(o.In.C)}
	o.In.Put(unsafe.Pointer(&args.in))
	return args
}

// put stores the sink, splits the input's pixels into tasks and returns the room for their sums.
func put(p *exec.Program, args *C.ctn_pool_args, s tensor.Shape, sink tensor.Sink) tensor.Stats {
	sink.Check("pool_backward", s)
	args.block = C.int64_t(max(1, min(512, 32768/s.C)))
	var stats tensor.Stats
	if sink.Sums() {
		stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, s.C, tensor.Parts(s.Pixels(), int(args.block)))
	}
	sink.Put(unsafe.Pointer(&args.sink), s.C, stats)
	return stats
}

func record(p *exec.Program, name string, table unsafe.Pointer, args *C.ctn_pool_args, scratch int) {
	p.Record(exec.Op{Name: name, CPU: table, Args: unsafe.Pointer(args), Size: unsafe.Sizeof(*args), Scratch: scratch})
}

func floats(b *exec.Buffer) *C.float { return (*C.float)(b.Pointer()) }
