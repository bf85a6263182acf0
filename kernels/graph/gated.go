package graph

/*
#include "gated.h"
*/
import "C"

import (
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Gated is the update of a node from what it heard: a minimal gated unit, after the gated recurrences over graphs of D-VAE (Zhang et al.,
// NeurIPS 2019), with an operation that scales its messages as in GATES (Ning et al., ECCV 2020). With a the sum of its
// neighbours' rows, e and m its operation's rows of two tables,
//
//	z = σ(e_z + m_z·(aW)_z)    t = tanh(e_t + m_t·(aW)_t)    h = z·t + (1-z)·a
//
// Nodes that hear nobody have neither Heard nor Product: a = 0.
type Gated struct {
	Rows    exec.Dim
	Width   int
	Label   *exec.Buffer // integers: each row's operation
	Table   *exec.Buffer // operations x 2·Width: e, z first, then t
	Scale   *exec.Buffer // operations x 2·Width: m
	Heard   *exec.Buffer // rows x Width: a, or nil
	Product *exec.Buffer // rows x 2·Width: aW, or nil
	Gates   *exec.Buffer // rows x 2·Width: out, z and t
	Out     *exec.Buffer // rows x Width
}

// Record appends the operation to a program.
func (g Gated) Record(p *exec.Program) {
	args := g.args("gated")
	need("gated", "Out", g.Out, g.Rows.Max*g.Width)
	args.out = floats(g.Out)
	p.Record(exec.Op{
		Name: "gated", CPU: unsafe.Pointer(&C.ctn_gated), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{elementwise("gated", "cu_gated", g.Rows.Max*g.Width, 1)},
	})
}

// RecordBackward appends the gradient from grad (rows x Width), the gradient of Out. It overwrites Gates with the gradient of the rows of Table and
// Product with that of the rows of Scale, and writes dproduct, the gradient of aW, and dheard, the part of a's gradient that does not
// pass through W. The last three are skipped for nodes that hear nobody.
func (g Gated) RecordBackward(p *exec.Program, grad, dproduct, dheard *exec.Buffer) {
	args := g.args("gated_backward")
	need("gated_backward", "grad", grad, g.Rows.Max*g.Width)
	args.grad = floats(grad)
	if g.Heard != nil {
		need("gated_backward", "dproduct", dproduct, g.Rows.Max*2*g.Width)
		need("gated_backward", "dheard", dheard, g.Rows.Max*g.Width)
		args.dproduct, args.dheard = floats(dproduct), floats(dheard)
	}
	p.Record(exec.Op{
		Name: "gated_backward", CPU: unsafe.Pointer(&C.ctn_gated_backward), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{elementwise("gated", "cu_gated_backward", g.Rows.Max*g.Width, 1)},
	})
}

func (g Gated) args(op string) C.ctn_gated_args {
	need(op, "Label", g.Label, g.Rows.Max)
	need(op, "Gates", g.Gates, g.Rows.Max*2*g.Width)
	if g.Heard != nil {
		need(op, "Heard", g.Heard, g.Rows.Max*g.Width)
		need(op, "Product", g.Product, g.Rows.Max*2*g.Width)
	}
	args := C.ctn_gated_args{width: C.int64_t(g.Width), label: ints(g.Label), table: floats(g.Table), scale: floats(g.Scale), product: floats(g.Product),
		gates: floats(g.Gates), heard: floats(g.Heard)}
	g.Rows.Put(unsafe.Pointer(&args.rows))
	return args
}

// Dense is what surrounds a layer's product: Out = dropout(relu(In + Bias)), each part optional. In and Out are rows x Width and may be the same; both may be stored as bfloat16.
//
// Dropout keeps an element with probability Keep and divides it by Keep; its decisions are a function of (Seed, Stream, *Step, element), so the
// backward operation repeats them.
type Dense struct {
	Rows    exec.Dim
	Width   int
	Out, In *exec.Buffer
	Bias    *exec.Buffer // Width
	Relu    bool
	Keep    float32 // 0 or 1: no dropout
	Seed    uint64
	Stream  uint32       // a purpose of package philox, with a layer's number in the high bits
	Step    *exec.Buffer // one integer
}

// Record appends the operation to a program.
func (d Dense) Record(p *exec.Program) {
	args := d.args("dense")
	needStored("dense", "In", d.In, d.Rows.Max*d.Width)
	optional("dense", "Bias", d.Bias, d.Width)
	args.in, args.bias, args.out = floats(d.In), floats(d.Bias), floats(d.Out)
	p.Record(exec.Op{
		Name: "dense", CPU: unsafe.Pointer(&C.ctn_dense), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args), Scratch: d.scratch(),
		GPU: []exec.Launch{elementwise("gated", tensor.Entry("cu_dense", tensor.Half("dense", d.In, d.Out)), d.Rows.Max*d.Width, 4)},
	})
}

// RecordBackward appends the gradient in In (and, summed over rows, in Bias): dIn from grad, the gradient of Out. Out must still hold the
// result; dIn may be grad.
func (d Dense) RecordBackward(p *exec.Program, dIn, grad *exec.Buffer) {
	args := d.args("dense_backward")
	needStored("dense_backward", "dIn", dIn, d.Rows.Max*d.Width)
	needStored("dense_backward", "grad", grad, d.Rows.Max*d.Width)
	args.in, args.grad, args.out = floats(d.Out), floats(grad), floats(dIn)
	p.Record(exec.Op{
		Name: "dense_backward", CPU: unsafe.Pointer(&C.ctn_dense_backward), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args), Scratch: d.scratch(),
		GPU: []exec.Launch{elementwise("gated", tensor.Entry("cu_dense_backward", tensor.Half("dense_backward", d.Out, dIn, grad)), d.Rows.Max*d.Width, 4)},
	})
}

// scratch holds a task's factors of dropout.
func (d Dense) scratch() int {
	if d.Keep == 0 || d.Keep == 1 {
		return 0
	}
	return C.CTN_DENSE_ROWS * d.Width
}

func (d Dense) args(op string) C.ctn_dense_args {
	needStored(op, "Out", d.Out, d.Rows.Max*d.Width)
	keep := d.Keep
	if keep == 0 {
		keep = 1
	}
	if keep < 1 {
		need(op, "Step", d.Step, 1)
	}
	args := C.ctn_dense_args{width: C.int64_t(d.Width), keep: C.float(keep), relu: flag(d.Relu), seed: C.uint64_t(d.Seed), stream: C.uint32_t(d.Stream),
		step: ints(d.Step)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	return args
}
