// Package gemm multiplies matrices: row-major float32, the number of rows possibly known only when the program runs.
package gemm

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "gemm.h"
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

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

// Op is a product of matrices.
//
//	C (MxN) = A (MxK) B (KxN)        plain
//	C (MxN) = A (MxK) B' , B is NxK  TransB
//	C (KxN) = A' B, A MxK, B MxN     TransA: summed over the rows, in ascending order
//
// Accumulate adds to C. With M = 0 a plain product writes nothing and a TransA product writes zeros (or adds nothing).
type Op struct {
	C, A, B    *exec.Buffer // [M, N]; [M, K]; [K, N], or as above
	Packed     *Packed      // takes the place of B and TransB; not with TransA
	M          exec.Dim
	N, K       int
	TransA     bool
	TransB     bool
	Accumulate bool
	Exact      bool // a plain product: in float32 also where the device multiplies in bfloat16
}

// panelFloats bounds a packed column panel's width over all instruction sets: two vectors of 16 floats.
const panelFloats = 32

// Packed is a matrix B as the products read it, for several products in one program.
type Packed struct {
	buf    *exec.Buffer // nil on an accelerator, whose products read B itself
	b      *exec.Buffer
	transB bool
	n, k   int
}

// Pack appends the packing of B (KxN, or NxK with transB) to a program. Products recorded later may use it as long as B
// does not change.
func Pack(p *exec.Program, b *exec.Buffer, n, k int, transB bool) *Packed {
	if n <= 0 || k <= 0 || b.Len() < n*k {
		panic(fmt.Sprintf("gemm: packing %dx%d from a buffer of %d", k, n, b.Len()))
	}
	if p.Arena().Device().Accelerated() {
		return &Packed{b: b, transB: transB, n: n, k: k}
	}
	packed := p.Arena().F32((n + panelFloats - 1) / panelFloats * panelFloats * k)
	args := C.ctn_gemm_args{n: C.int64_t(n), k: C.int64_t(k), b: floats(b), packed: floats(packed),
		trans_b: flag(transB)}
	exec.Call(p, "gemm_pack", unsafe.Pointer(&C.ctn_gemm_pack), &args, 0)
	return &Packed{buf: packed, n: n, k: k}
}

// Record appends the product to a program.
func Record(p *exec.Program, op Op) {
	if op.Packed != nil && (op.B != nil || op.TransA || op.TransB || op.Packed.n != op.N || op.Packed.k != op.K) {
		panic(fmt.Sprintf("gemm: a packed matrix of %dx%d for a product %dx%dx%d", op.Packed.k, op.Packed.n,
			op.M.Max, op.N, op.K))
	}
	rowsC, sizeB := op.M.Max, op.N*op.K
	if op.TransA {
		rowsC, sizeB = op.K, op.M.Max*op.N
	}
	if op.TransA && op.TransB || op.N <= 0 || op.K <= 0 || op.M.Max < 0 {
		panic(fmt.Sprintf("gemm: product %dx%dx%d, transposed %v %v", op.M.Max, op.N, op.K, op.TransA, op.TransB))
	}
	lenB := 0
	if op.B != nil {
		lenB = op.B.Len()
	}
	if op.C.Len() < rowsC*op.N || op.A.Len() < op.M.Max*op.K || op.Packed == nil && lenB < sizeB {
		panic(fmt.Sprintf("gemm: %dx%dx%d with buffers of %d, %d, %d", op.M.Max, op.N, op.K, op.C.Len(),
			op.A.Len(), lenB))
	}
	args := C.ctn_gemm_args{n: C.int64_t(op.N), k: C.int64_t(op.K), a: floats(op.A), b: floats(op.B), c: floats(op.C),
		trans_b: flag(op.TransB), accumulate: flag(op.Accumulate)}
	op.M.Put(unsafe.Pointer(&args.m))
	suffix, block := "_f32", C.CTN_GEMM_F32_BLOCK
	if p.Arena().Device().Precision() == exec.BF16 && !op.Exact {
		suffix, block = "_bf16", C.CTN_GEMM_BF16_BLOCK
	}
	if op.TransA {
		var gpu []exec.Launch
		if p.Arena().Device().Accelerated() {
			// Enough blocks for a large GPU, and at least 128 rows for each.
			split := exec.Blocks(max(1, op.M.Max), max(1, min(splitBlocks/(tiles(op.N)*tiles(op.K)), op.M.Max/128)))
			splits := exec.Blocks(max(1, op.M.Max), split)
			args.split, args.parts = C.int64_t(split), floats(p.Arena().F32(splits*op.K*op.N))
			gpu = []exec.Launch{
				{File: "gemm", Entry: "cu_gemm_tn" + suffix, Grid: [3]int{tiles(op.K), tiles(op.N), splits},
					Block: block},
				{File: "gemm", Entry: "cu_gemm_tn_sum", Grid: [3]int{exec.Blocks(op.N*op.K, C.CTN_GEMM_SUM_BLOCK)},
					Block: C.CTN_GEMM_SUM_BLOCK},
			}
		}
		exec.Call(p, "gemm_tn", unsafe.Pointer(&C.ctn_gemm_tn), &args, C.CTN_GEMM_TN_ROWS*panelFloats, gpu...)
		return
	}
	packed := op.Packed
	if packed == nil {
		packed = Pack(p, op.B, op.N, op.K, op.TransB)
	}
	args.packed = floats(packed.buf)
	if packed.b != nil {
		args.b, args.trans_b = floats(packed.b), flag(packed.transB)
	}
	exec.Call(p, "gemm", unsafe.Pointer(&C.ctn_gemm), &args, 0,
		exec.Launch{File: "gemm", Entry: "cu_gemm" + suffix, Grid: [3]int{tiles(op.M.Max), tiles(op.N)}, Block: block})
}

// splitBlocks is how many blocks a product over rows is split into at most: some for every multiprocessor of a large
// GPU.
const splitBlocks = 512

// tiles is how many tiles of an accelerator's products lie along n.
func tiles(n int) int { return exec.Blocks(n, C.CTN_GEMM_TILE) }
