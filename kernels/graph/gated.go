package graph

/*
#include "gated.h"
*/
import "C"

import (
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Gated is the update of a node from what it aggregated: a minimal gated unit, after the gated recurrences over graphs
// of D-VAE (Zhang et al., NeurIPS 2019), with an operation that scales its messages as in GATES (Ning et al., ECCV
// 2020). With a the sum of its neighbours' rows, e and m its operation's rows of two tables,
//
//	z = σ(e_z + m_z·(aW)_z)    t = tanh(e_t + m_t·(aW)_t)    h = z·t + (1-z)·a
//
// Nodes without neighbors have neither Aggregated nor Product: a = 0.
type Gated struct {
	Rows       exec.Dim
	Width      int
	Label      *exec.Buffer // [rows] integers: each row's operation
	Table      *exec.Buffer // [operations, 2·Width]: e, z first, then t
	Scale      *exec.Buffer // [operations, 2·Width]: m
	Aggregated *exec.Buffer // [rows, Width]: a, or nil
	Product    *exec.Buffer // [rows, 2·Width]: aW, or nil
	Gates      *exec.Buffer // [rows, 2·Width]: out, z and t
	Out        *exec.Buffer // [rows, Width]
}

// Record appends the operation to a program.
func (g Gated) Record(p *exec.Program) {
	args := g.args("gated")
	exec.Need("gated", "Out", g.Out, g.Rows.Max*g.Width)
	args.out = floats(g.Out)
	exec.Call(p, "gated", unsafe.Pointer(&C.ctn_gated), &args, 0,
		exec.Over("gated", "cu_gated", g.Rows.Max*g.Width, 1, C.CTN_GRAPH_BLOCK))
}

// RecordBackward appends the gradient from grad ([rows, Width]), the gradient of Out. It overwrites Gates with the
// gradient of the rows of Table and Product with that of the rows of Scale, and writes dproduct, the gradient of aW,
// and daggregated, the part of a's gradient that does not pass through W. The last three are skipped for nodes without
// neighbors.
func (g Gated) RecordBackward(p *exec.Program, grad, dproduct, daggregated *exec.Buffer) {
	args := g.args("gated_backward")
	exec.Need("gated_backward", "grad", grad, g.Rows.Max*g.Width)
	args.grad = floats(grad)
	if g.Aggregated != nil {
		exec.Need("gated_backward", "dproduct", dproduct, g.Rows.Max*2*g.Width)
		exec.Need("gated_backward", "daggregated", daggregated, g.Rows.Max*g.Width)
		args.dproduct, args.daggregated = floats(dproduct), floats(daggregated)
	}
	exec.Call(p, "gated_backward", unsafe.Pointer(&C.ctn_gated_backward), &args, 0,
		exec.Over("gated", "cu_gated_backward", g.Rows.Max*g.Width, 1, C.CTN_GRAPH_BLOCK))
}

func (g Gated) args(op string) C.ctn_gated_args {
	exec.Need(op, "Label", g.Label, g.Rows.Max)
	exec.Need(op, "Gates", g.Gates, g.Rows.Max*2*g.Width)
	if g.Aggregated != nil {
		exec.Need(op, "Aggregated", g.Aggregated, g.Rows.Max*g.Width)
		exec.Need(op, "Product", g.Product, g.Rows.Max*2*g.Width)
	}
	args := C.ctn_gated_args{width: C.int64_t(g.Width), label: ints(g.Label), table: floats(g.Table),
		scale: floats(g.Scale), product: floats(g.Product), gates: floats(g.Gates), aggregated: floats(g.Aggregated)}
	g.Rows.Put(unsafe.Pointer(&args.rows))
	return args
}
