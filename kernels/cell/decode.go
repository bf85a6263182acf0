// Package cell turns a controller's decisions into graphs without the host.
package cell

/*
#cgo CFLAGS: -g1 -std=gnu11
#cgo !asan CFLAGS: -O3
#include "decode.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var ints = exec.Ptr[C.int32_t]

// Rules say what decisions mean: a cell of 1 to Inner inner nodes, Edges edges and the operations of its nodes, numbers
// below 8. A sequence is the number of inner nodes less one; for each of them a node before it with an edge to it, then
// its operation, an index into Ops; the node with an edge to the output; then pairs of nodes, each an edge from the
// lower to the higher, or none where they are equal, until there are Edges. This is the sequence of the code released
// with the paper (ctnas/core/controller/nasbench.py).
type Rules struct {
	Inner, Edges  int
	Ops           []uint8
	Input, Output uint8
}

// Steps is the length of a sequence.
func (r Rules) Steps() int { return 2 * r.Edges }

func (r Rules) check() error {
	if r.Inner < 1 || r.Inner > C.CTN_CELL_NODES-2 || r.Edges <= r.Inner || len(r.Ops) == 0 || len(r.Ops) > 8 ||
		r.Input > 7 || r.Output > 7 {
		return fmt.Errorf("cells %+v", r)
	}
	for _, op := range r.Ops {
		if op > 7 {
			return fmt.Errorf("cells with operation %d", op)
		}
	}
	return nil
}

// Decode turns sequences of decisions into packed graphs (package graph, Pack) without the nodes that lie on no path
// from the input, node 0, to the output, the last node; the others keep their order. A decision that the rules do not
// allow counts as 0: check them before.
type Decode struct {
	Rules   Rules
	Batch   int
	Actions *exec.Buffer // [Batch, Rules.Steps()] integers
	Graphs  *exec.Buffer // out: [Batch, 2] integers, lower half first
}

// Record appends the operation to a program.
func (d Decode) Record(p *exec.Program) {
	if err := d.Rules.check(); err != nil {
		panic("decode: " + err.Error())
	}
	steps := d.Rules.Steps()
	if d.Batch < 1 || d.Actions.Len() < d.Batch*steps || d.Graphs.Len() < 2*d.Batch {
		panic(fmt.Sprintf("decode: %d sequences of %d decisions: a buffer is too short", d.Batch, steps))
	}
	args := C.ctn_decode_args{batch: C.int64_t(d.Batch), steps: C.int64_t(steps), actions: ints(d.Actions),
		graphs: ints(d.Graphs), inner: C.int32_t(d.Rules.Inner), edges: C.int32_t(d.Rules.Edges),
		input: C.uint32_t(d.Rules.Input), output: C.uint32_t(d.Rules.Output)}
	for i := range 8 { // a decision past the last operation counts as 0
		op := d.Rules.Ops[0]
		if i < len(d.Rules.Ops) {
			op = d.Rules.Ops[i]
		}
		args.ops |= C.uint32_t(op) << (3 * i)
	}
	exec.Call(p, "decode", unsafe.Pointer(&C.ctn_decode), &args, 0,
		exec.Launch{File: "decode", Entry: "cu_decode", Grid: [3]int{exec.Blocks(d.Batch, C.CTN_CELL_THREADS)},
			Block: C.CTN_CELL_THREADS})
}
