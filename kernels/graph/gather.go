// Package graph holds the comparator's operations on graphs: sums of node rows along edges, and what stands around
// them.
package graph

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "gather.h"
*/
import "C"

import (
	"embed"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.cuh *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Gather sums rows along edges: with S the rows of In,
//
//	Out[r] = mask( relu( Bias + Σ_e Weight[e]·S[Idx[e]] + Add[AddIdx[r]] ) ),  Ptr[r] <= e < Ptr[r+1]
//
// which is a layer of a graph convolution when the rows of In were multiplied by the layer's matrix, and its gradient
// when the edges are turned round. Everything but Out, In, Ptr and Idx is optional. Edges are added in their order.
type Gather struct {
	Out, In  *exec.Buffer // [rows, Width]; [any number of rows, Width]
	Rows     exec.Dim
	Width    int
	Ptr, Idx *exec.Buffer // integers: Rows+1 and Ptr[Rows]; the caller answers for their values
	Weight   *exec.Buffer // [edges]: factors, or nil
	Bias     *exec.Buffer // [Width], or nil
	Add      *exec.Buffer // [rows, Width]
	AddIdx   *exec.Buffer // [rows] integers: the row of Add for each row; nil: row r
	// [Rows, Width]: the result is kept where Mask > 0, the gradient of a ReLU whose output is Mask.
	Mask       *exec.Buffer
	Relu       bool
	Accumulate bool // add to Out
}

// Record appends the operation to a program.
func (g Gather) Record(p *exec.Program) {
	exec.Need("gather", "Out", g.Out, g.Rows.Max*g.Width)
	exec.Need("gather", "Ptr", g.Ptr, g.Rows.Max+1)
	exec.Optional("gather", "Bias", g.Bias, g.Width)
	exec.Optional("gather", "AddIdx", g.AddIdx, g.Rows.Max)
	exec.Optional("gather", "Mask", g.Mask, g.Rows.Max*g.Width)
	exec.Optional("gather", "Weight", g.Weight, g.Idx.Len())
	if g.AddIdx == nil {
		exec.Optional("gather", "Add", g.Add, g.Rows.Max*g.Width)
	}
	args := C.ctn_gather_args{width: C.int64_t(g.Width), ptr: ints(g.Ptr), idx: ints(g.Idx), weight: floats(g.Weight),
		in: floats(g.In), bias: floats(g.Bias), add: floats(g.Add), add_idx: ints(g.AddIdx), mask: floats(g.Mask),
		out: floats(g.Out), relu: flag(g.Relu), accumulate: flag(g.Accumulate)}
	g.Rows.Put(unsafe.Pointer(&args.rows))
	// Where rows are few they get a block each, so that long ones, as an operation's row of a table has, are spread
	// over the GPU.
	across := exec.Blocks(g.Width, C.CTN_GATHER_COLUMNS)
	args.block_rows = C.CTN_GATHER_ROWS
	if exec.Blocks(g.Rows.Max, C.CTN_GATHER_ROWS)*across < fewBlocks {
		args.block_rows = 1
	}
	exec.Call(p, "gather", unsafe.Pointer(&C.ctn_gather), &args, 0,
		exec.Launch{File: "gather", Entry: "cu_gather",
			Grid: [3]int{exec.Blocks(g.Rows.Max, int(args.block_rows)) * across}, Block: C.CTN_GRAPH_BLOCK})
}

// fewBlocks is some blocks for every multiprocessor of a large GPU: below it an operation is split further.
const fewBlocks = 256
