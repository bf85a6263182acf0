// Package graph holds the comparator's operations on graphs: sums of node rows along edges, and what stands around them.
package graph

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "gather.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"math"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.cuh *.h
var Sources embed.FS

// Gather sums rows along edges: with S the rows of In,
//
//	Out[r] = mask( relu( Bias + Σ_e Weight[e]·S[Idx[e]] + Add[AddIdx[r]] ) ),  Ptr[r] <= e < Ptr[r+1]
//
// which is a layer of a graph convolution when the rows of In were multiplied by the layer's matrix, and its gradient when the
// edges are turned round. Everything but Out, In, Ptr and Idx is optional. Edges are added in their order.
type Gather struct {
	Out, In    *exec.Buffer // rows x Width; any number of rows x Width
	Rows       exec.Dim
	Width      int
	Ptr, Idx   *exec.Buffer // integers: Rows+1 and Ptr[Rows]; the caller answers for their values
	Weight     *exec.Buffer // one factor an edge
	Bias       *exec.Buffer // Width
	Add        *exec.Buffer // rows x Width
	AddIdx     *exec.Buffer // integers: the row of Add for each row; without it row r
	Mask       *exec.Buffer // rows x Width: the result is kept where Mask > 0, the gradient of a ReLU whose output is Mask
	Relu       bool
	Accumulate bool // add to Out
}

// Record appends the operation to a program.
func (g Gather) Record(p *exec.Program) {
	need("gather", "Out", g.Out, g.Rows.Max*g.Width)
	need("gather", "Ptr", g.Ptr, g.Rows.Max+1)
	optional("gather", "Bias", g.Bias, g.Width)
	optional("gather", "AddIdx", g.AddIdx, g.Rows.Max)
	optional("gather", "Mask", g.Mask, g.Rows.Max*g.Width)
	optional("gather", "Weight", g.Weight, g.Idx.Len())
	if g.AddIdx == nil {
		optional("gather", "Add", g.Add, g.Rows.Max*g.Width)
	}
	args := C.ctn_gather_args{width: C.int64_t(g.Width), ptr: ints(g.Ptr), idx: ints(g.Idx), weight: floats(g.Weight), in: floats(g.In),
		bias: floats(g.Bias), add: floats(g.Add), add_idx: ints(g.AddIdx), mask: floats(g.Mask), out: floats(g.Out),
		relu: flag(g.Relu), accumulate: flag(g.Accumulate)}
	g.Rows.Put(unsafe.Pointer(&args.rows))
	// Where rows are few they get a block each, so that long ones, as an operation's row of a table has, are spread over the GPU.
	across := exec.Blocks(g.Width, C.CTN_GATHER_COLUMNS)
	args.block_rows = C.CTN_GATHER_ROWS
	if exec.Blocks(g.Rows.Max, C.CTN_GATHER_ROWS)*across < fewBlocks {
		args.block_rows = 1
	}
	p.Record(exec.Op{
		Name: "gather", CPU: unsafe.Pointer(&C.ctn_gather), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{{File: "gather", Entry: "cu_gather", Grid: [3]int{exec.Blocks(g.Rows.Max, int(args.block_rows)) * across}, Block: C.CTN_GRAPH_BLOCK}},
	})
}

// ColumnSum adds the rows of In (rows x Width, which may be stored as bfloat16) in order: the gradient of a bias. Out has Width elements.
type ColumnSum struct {
	Out, In    *exec.Buffer
	Rows       exec.Dim
	Width      int
	Accumulate bool
}

// Record appends the operation to a program.
func (s ColumnSum) Record(p *exec.Program) {
	need("colsum", "Out", s.Out, s.Width)
	needStored("colsum", "In", s.In, s.Rows.Max*s.Width)
	args := C.ctn_colsum_args{width: C.int64_t(s.Width), in: floats(s.In), out: floats(s.Out), accumulate: flag(s.Accumulate)}
	s.Rows.Put(unsafe.Pointer(&args.rows))
	op := exec.Op{Name: "colsum", CPU: unsafe.Pointer(&C.ctn_colsum), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args)}
	if p.Arena().Device().Accelerated() {
		across, rows := exec.Blocks(s.Width, C.CTN_COLSUM_COLUMNS), max(1, s.Rows.Max)
		split := exec.Blocks(rows, max(1, min(fewBlocks/across, rows/256)))
		splits := exec.Blocks(rows, split)
		args.split, args.parts = C.int64_t(split), floats(p.Arena().F32(splits*s.Width))
		op.GPU = []exec.Launch{
			{File: "gather", Entry: tensor.Entry("cu_colsum", s.In.Half()), Grid: [3]int{across, splits}, Block: C.CTN_GRAPH_BLOCK},
			{File: "gather", Entry: "cu_colsum_sum", Grid: [3]int{exec.Blocks(s.Width, C.CTN_GRAPH_BLOCK)}, Block: C.CTN_GRAPH_BLOCK},
		}
	}
	p.Record(op)
}

// RowDot is a linear head with a few outputs: Out[r][h] = In[r] · Weight[h]; In is rows x Width, Weight Heads x Width, Out rows x Heads.
type RowDot struct {
	Out, In, Weight *exec.Buffer
	Rows            exec.Dim
	Width, Heads    int
}

// Record appends the operation to a program.
func (d RowDot) Record(p *exec.Program) {
	need("rowdot", "Out", d.Out, d.Rows.Max*d.Heads)
	need("rowdot", "In", d.In, d.Rows.Max*d.Width)
	need("rowdot", "Weight", d.Weight, d.Heads*d.Width)
	args := C.ctn_rowdot_args{width: C.int64_t(d.Width), heads: C.int64_t(d.Heads), in: floats(d.In), weight: floats(d.Weight), out: floats(d.Out)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	p.Record(exec.Op{
		Name: "rowdot", CPU: unsafe.Pointer(&C.ctn_rowdot), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{{File: "gather", Entry: "cu_rowdot", Grid: [3]int{exec.Blocks(d.Rows.Max, C.CTN_GRAPH_BLOCK/32)}, Block: C.CTN_GRAPH_BLOCK}},
	})
}

// RowDotBackward is the gradient of RowDot in its input: DInput[r] = mask( Σ_h Grad[r][h]·Weight[h] ). Mask is optional, as in Gather. The
// weight's gradient is a product: gemm.Op{C: dWeight, A: Grad, B: In, TransA: true}.
type RowDotBackward struct {
	DInput, Grad, Weight, Mask *exec.Buffer
	Rows                       exec.Dim
	Width, Heads               int
	Accumulate                 bool
}

// Record appends the operation to a program.
func (d RowDotBackward) Record(p *exec.Program) {
	need("rowdot_backward", "DInput", d.DInput, d.Rows.Max*d.Width)
	need("rowdot_backward", "Grad", d.Grad, d.Rows.Max*d.Heads)
	need("rowdot_backward", "Weight", d.Weight, d.Heads*d.Width)
	optional("rowdot_backward", "Mask", d.Mask, d.Rows.Max*d.Width)
	args := C.ctn_rowdot_args{width: C.int64_t(d.Width), heads: C.int64_t(d.Heads), weight: floats(d.Weight), grad: floats(d.Grad),
		mask: floats(d.Mask), dinput: floats(d.DInput), accumulate: flag(d.Accumulate)}
	d.Rows.Put(unsafe.Pointer(&args.rows))
	p.Record(exec.Op{
		Name: "rowdot_backward", CPU: unsafe.Pointer(&C.ctn_rowdot_backward), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{elementwise("gather", "cu_rowdot_backward", d.Rows.Max*d.Width, 1)},
	})
}

// fewBlocks is some blocks for every multiprocessor of a large GPU: below it an operation is split further.
const fewBlocks = 256

// elementwise is the launch of a kernel whose threads own each elements of the n of a matrix. Kernels divide their numbers as 32-bit integers.
func elementwise(file, entry string, n, each int) exec.Launch {
	if n > math.MaxUint32 {
		panic(fmt.Sprintf("%s: %d elements are too many", entry, n))
	}
	return exec.Launch{File: file, Entry: entry, Grid: [3]int{exec.Blocks(n, each*C.CTN_GRAPH_BLOCK)}, Block: C.CTN_GRAPH_BLOCK}
}

func floats(b *exec.Buffer) *C.float { return (*C.float)(b.Pointer()) }

func ints(b *exec.Buffer) *C.int32_t { return (*C.int32_t)(b.Pointer()) }

func flag(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}

func need(op, name string, b *exec.Buffer, n int) {
	if needStored(op, name, b, n); b.Half() {
		panic(fmt.Sprintf("%s: %s is bfloat16", op, name))
	}
}

// needStored is need for what may be stored as bfloat16.
func needStored(op, name string, b *exec.Buffer, n int) {
	if b == nil || b.Len() < n {
		panic(fmt.Sprintf("%s: %s needs %d elements", op, name, n))
	}
}

func optional(op, name string, b *exec.Buffer, n int) {
	if b != nil {
		need(op, name, b, n)
	}
}
