// Package dense holds what surrounds the products of dense layers (package gemm): bias, ReLU and dropout, the gradient
// of a bias, heads of a few outputs, and finding the largest of many scores.
package dense

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "dense.h"
*/
import "C"

import (
	"embed"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Dense is what surrounds a layer's product: Out = dropout(relu(In + Bias)), each part optional. In and Out are rows x
// Width and may be the same; both may be stored as bfloat16.
//
// Dropout keeps an element with probability Keep and divides it by Keep; its decisions are a function of (Seed, Stream,
// *Step, element), so the backward operation repeats them.
type Dense struct {
	Rows    exec.Dim
	Width   int
	Out, In *exec.Buffer // [rows, Width]
	Bias    *exec.Buffer // [Width], or nil
	Relu    bool
	Keep    float32 // 0 or 1: no dropout
	Seed    uint64
	Stream  uint32       // a purpose of package philox, with a layer's number in the high bits
	Step    *exec.Buffer // [1] integer: updates done
}

// Record appends the operation to a program.
func (d Dense) Record(p *exec.Program) {
	args := d.args("dense")
	exec.NeedStored("dense", "In", d.In, d.Rows.Max*d.Width)
	exec.Optional("dense", "Bias", d.Bias, d.Width)
	args.in, args.bias, args.out = floats(d.In), floats(d.Bias), floats(d.Out)
	exec.Call(p, "dense", unsafe.Pointer(&C.ctn_dense), &args, d.scratch(),
		exec.Over("dense", tensor.Entry("cu_dense", tensor.Half("dense", d.In, d.Out)), d.Rows.Max*d.Width, 4,
			C.CTN_DENSE_BLOCK))
}

// RecordBackward appends the gradient in In (and, summed over rows, in Bias): dIn from grad, the gradient of Out. Out
// must still hold the result; dIn may be grad.
func (d Dense) RecordBackward(p *exec.Program, dIn, grad *exec.Buffer) {
	args := d.args("dense_backward")
	exec.NeedStored("dense_backward", "dIn", dIn, d.Rows.Max*d.Width)
	exec.NeedStored("dense_backward", "grad", grad, d.Rows.Max*d.Width)
	args.in, args.grad, args.out = floats(d.Out), floats(grad), floats(dIn)
	exec.Call(p, "dense_backward", unsafe.Pointer(&C.ctn_dense_backward), &args, d.scratch(),
		exec.Over("dense", tensor.Entry("cu_dense_backward", tensor.Half("dense_backward", d.Out, dIn, grad)),
			d.Rows.Max*d.Width, 4, C.CTN_DENSE_BLOCK))
}

// scratch holds a task's factors of dropout.
func (d Dense) scratch() int {
	if d.Keep == 0 || d.Keep == 1 {
		return 0
	}
	return C.CTN_DENSE_ROWS * d.Width
}

func (d Dense) args(op string) C.ctn_dense_args {
	exec.NeedStored(op, "Out", d.Out, d.Rows.Max*d.Width)
	keep := d.Keep
	if keep == 0 {
		keep = 1
	}
	if keep < 1 {
		exec.Need(op, "Step", d.Step, 1)
	}
	args := C.ctn_dense_args{width: C.int64_t(d.Width), keep: C.float(keep), relu: flag(d.Relu),
		seed: C.uint64_t(d.Seed), stream: C.uint32_t(d.Stream), step: ints(d.Step)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	return args
}

// ColumnSum adds the rows of In ([rows, Width], which may be stored as bfloat16) in order: the gradient of a bias. Out
// has Width elements.
type ColumnSum struct {
	Out, In    *exec.Buffer // [Width]; [rows, Width]
	Rows       exec.Dim
	Width      int
	Accumulate bool
	// Of an accelerator: makes the sum; nil: a launch of its own does. It reads In where that has at most FewRows.
	Later *partial.Sums
}

// FewRows is how many rows ColumnSum adds up in one go on an accelerator, where their number is fixed.
const FewRows = 1024

// Record appends the operation to a program.
func (s ColumnSum) Record(p *exec.Program) {
	exec.Need("colsum", "Out", s.Out, s.Width)
	exec.NeedStored("colsum", "In", s.In, s.Rows.Max*s.Width)
	args := C.ctn_colsum_args{width: C.int64_t(s.Width), in: floats(s.In), out: floats(s.Out),
		accumulate: flag(s.Accumulate)}
	s.Rows.Put(unsafe.Pointer(&args.rows))
	if !p.Arena().Device().Accelerated() {
		exec.Call(p, "colsum", unsafe.Pointer(&C.ctn_colsum), &args, 0)
		return
	}
	sum := partial.Sum{In: s.In, Parts: s.Rows.Max, Len: s.Width, Out: s.Out, Accumulate: s.Accumulate}
	if s.Rows.At != nil || s.Rows.Max > FewRows {
		across, rows := exec.Blocks(s.Width, C.CTN_COLSUM_COLUMNS), max(1, s.Rows.Max)
		split := exec.Blocks(rows, max(1, min(fewBlocks/across, rows/256)))
		sum.Parts = exec.Blocks(rows, split)
		sum.In = p.Arena().F32(sum.Parts * s.Width)
		args.split, args.parts = C.int64_t(split), floats(sum.In)
		exec.Call(p, "colsum", nil, &args, 0, exec.Launch{File: "dense", Entry: tensor.Entry("cu_colsum", s.In.Half()),
			Grid: [3]int{across, sum.Parts}, Block: C.CTN_DENSE_BLOCK,
			Work: exec.Work{Bytes: s.In.Bytes(rows * s.Width)}})
	}
	sum.Record(p, s.Later)
}

// RowDot is a linear head with a few outputs: Out[r][h] = In[r] · Weight[h]; In is [rows, Width], Weight [Heads,
// Width], Out [rows, Heads].
type RowDot struct {
	Out, In, Weight *exec.Buffer // [rows, Heads]; [rows, Width]; [Heads, Width]
	Rows            exec.Dim
	Width, Heads    int
}

// Record appends the operation to a program.
func (d RowDot) Record(p *exec.Program) {
	exec.Need("rowdot", "Out", d.Out, d.Rows.Max*d.Heads)
	exec.Need("rowdot", "In", d.In, d.Rows.Max*d.Width)
	exec.Need("rowdot", "Weight", d.Weight, d.Heads*d.Width)
	args := C.ctn_rowdot_args{width: C.int64_t(d.Width), heads: C.int64_t(d.Heads), in: floats(d.In),
		weight: floats(d.Weight), out: floats(d.Out)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	exec.Call(p, "rowdot", unsafe.Pointer(&C.ctn_rowdot), &args, 0,
		exec.Launch{File: "dense", Entry: "cu_rowdot", Grid: [3]int{exec.Blocks(d.Rows.Max, C.CTN_DENSE_BLOCK/32)},
			Block: C.CTN_DENSE_BLOCK})
}

// RowDotBackward is the gradient of RowDot in its input: DInput[r] = mask( Σ_h Grad[r][h]·Weight[h] ). Mask is
// optional, as in Gather. The weight's gradient is a product: gemm.Op{C: dWeight, A: Grad, B: In, TransA: true}.
type RowDotBackward struct {
	DInput, Grad, Weight, Mask *exec.Buffer // [rows, Width]; [rows, Heads]; [Heads, Width]; [rows, Width], or nil
	Rows                       exec.Dim
	Width, Heads               int
	Accumulate                 bool
}

// Record appends the operation to a program.
func (d RowDotBackward) Record(p *exec.Program) {
	exec.Need("rowdot_backward", "DInput", d.DInput, d.Rows.Max*d.Width)
	exec.Need("rowdot_backward", "Grad", d.Grad, d.Rows.Max*d.Heads)
	exec.Need("rowdot_backward", "Weight", d.Weight, d.Heads*d.Width)
	exec.Optional("rowdot_backward", "Mask", d.Mask, d.Rows.Max*d.Width)
	args := C.ctn_rowdot_args{width: C.int64_t(d.Width), heads: C.int64_t(d.Heads), weight: floats(d.Weight),
		grad: floats(d.Grad), mask: floats(d.Mask), dinput: floats(d.DInput), accumulate: flag(d.Accumulate)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	exec.Call(p, "rowdot_backward", unsafe.Pointer(&C.ctn_rowdot_backward), &args, 0,
		exec.Over("dense", "cu_rowdot_backward", d.Rows.Max*d.Width, 1, C.CTN_DENSE_BLOCK))
}

// fewBlocks is some blocks for every multiprocessor of a large GPU: below it an operation is split further.
const fewBlocks = 256
