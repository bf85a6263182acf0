// Package elastic makes small kernels of depthwise convolutions out of large ones that they share (Cai et al.,
// Once-for-all, ICLR 2020): the inner taps of a channel's kernel, as a vector, times a matrix that all channels share.
package elastic

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "elastic.h"
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

var floats = exec.Ptr[C.float]

// Shrink is the first C channels of a shared kernel, two taps smaller each way for every matrix: without one a dense
// copy; with those of once-for-all 7x7, its inner 5x5 times the first, the inner 3x3 of that times the second.
type Shrink struct {
	K, C, LD int            // taps each way, at most 7; channels; elements from a tap of Weight to the next, 0 for C
	Weight   *exec.Buffer   // [K, K, C], taps LD elements apart
	Matrices []*exec.Buffer // of the steps: [n, n] with n = (K-2)², (K-4)² ..: from input taps to output taps
	Out      *exec.Buffer   // [k, k, C] with k = K - 2·len(Matrices)
}

// Record appends the operation to a program.
func (s Shrink) Record(p *exec.Program) {
	args, k := arguments("shrink", s.K, s.C, s.LD, s.Weight, s.Matrices)
	exec.Need("shrink", "Out", s.Out, k*k*s.C)
	args.out = floats(s.Out)
	exec.Call(p, "shrink", unsafe.Pointer(&C.ctn_shrink), &args, scratch, launch("cu_shrink", blocks(s.C)))
}

// Gradient adds the gradients in the kernel and in the matrices that a Shrink with the same fields read. The rest of
// DWeight (other channels, outer taps) is left alone.
type Gradient struct {
	K, C, LD  int
	Weight    *exec.Buffer   // [K, K, C], taps LD elements apart
	Matrices  []*exec.Buffer // [n, n] each
	DOut      *exec.Buffer   // [k, k, C]: the gradient in Out
	DWeight   *exec.Buffer   // [K, K, C], taps LD elements apart
	DMatrices []*exec.Buffer // [n, n] each
}

// Record appends the operation to a program. The order of summation depends on C alone.
func (g Gradient) Record(p *exec.Program) {
	const op = "shrink_backward"
	args, k := arguments(op, g.K, g.C, g.LD, g.Weight, g.Matrices)
	exec.Need(op, "DOut", g.DOut, k*k*g.C)
	exec.Need(op, "DWeight", g.DWeight, (g.K*g.K-1)*int(args.ld)+g.C)
	args.dout, args.dweight = floats(g.DOut), floats(g.DWeight)
	if len(g.DMatrices) != len(g.Matrices) {
		panic(fmt.Sprintf("%s: gradients of %d matrices of %d", op, len(g.DMatrices), len(g.Matrices)))
	}
	for s, m := range g.DMatrices {
		inputs := C.ctn_elastic_inputs(&args, C.int64_t(s))
		exec.Need(op, "a gradient in a matrix", m, int(inputs*inputs))
		args.dmatrix[s] = floats(m)
		args.entries += inputs * C.ctn_elastic_outputs(&args, C.int64_t(s))
	}
	launches := []exec.Launch{launch("cu_shrink_backward", blocks(g.C))}
	if len(g.Matrices) > 0 {
		args.partial = floats(p.Arena().F32(blocks(g.C) * int(args.entries)))
		launches = append(launches, launch("cu_shrink_reduce", exec.Blocks(int(args.entries), C.CTN_ELASTIC_BLOCK)))
	}
	if p.Arena().Device().Accelerated() {
		exec.Call(p, op, nil, &args, 0, launches...)
		return
	}
	exec.Call(p, op, unsafe.Pointer(&C.ctn_shrink_backward), &args, scratch)
	if len(g.Matrices) > 0 {
		exec.Call(p, "shrink_reduce", unsafe.Pointer(&C.ctn_shrink_reduce), &args, 0)
	}
}

// scratch is what a task of the CPU has near: the inputs of all steps, two gradients, and one of them turned.
const scratch = C.CTN_ELASTIC_CHANNELS * ((C.CTN_ELASTIC_STEPS+2)*C.CTN_ELASTIC_TAPS + C.CTN_ELASTIC_CHANNELS)

func blocks(channels int) int { return exec.Blocks(channels, C.CTN_ELASTIC_CHANNELS) }

func launch(entry string, blocks int) exec.Launch {
	return exec.Launch{File: "elastic", Entry: entry, Grid: [3]int{blocks}, Block: C.CTN_ELASTIC_BLOCK}
}

// arguments checks what both directions read, and returns the size of the kernel that comes out too.
func arguments(op string, k, c, ld int, weight *exec.Buffer, matrices []*exec.Buffer) (args C.ctn_shrink_args,
	size int) {
	if ld == 0 {
		ld = c
	}
	size = k - 2*len(matrices)
	if k < 1 || k > C.CTN_ELASTIC_SIZE || c < 1 || ld < c || size < 1 {
		panic(fmt.Sprintf("%s: %d channels, %d apart, of %d x %d taps through %d matrices", op, c, ld, k, k,
			len(matrices)))
	}
	exec.Need(op, "Weight", weight, (k*k-1)*ld+c)
	args = C.ctn_shrink_args{k: C.int64_t(k), c: C.int64_t(c), ld: C.int64_t(ld), steps: C.int64_t(len(matrices)),
		weight: floats(weight)}
	for s, m := range matrices {
		taps := (k - 2*s - 2) * (k - 2*s - 2)
		exec.Need(op, "a matrix", m, taps*taps)
		args.matrix[s] = floats(m)
	}
	return args, size
}
