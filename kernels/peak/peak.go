// Package peak measures ceilings: multiply-adds in registers and copies, the most that any kernel on the same device,
// instruction set and threads can reach. It is for benchmarks.
package peak

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "peak.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"slices"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats = exec.Ptr[C.float]

// levels is the order of the instruction sets in kernels' tables.
var levels = []string{"portable", "avx2", "avx2x16", "avx512"}

// Record appends one task an element of out. Each halves some numbers and adds 0.5 + its number, rounds times, and
// writes their sum. It returns how many floating-point operations that is in all tasks; a multiply-add counts as two. A
// GPU is full with some thousand tasks.
func Record(p *exec.Program, out *exec.Buffer, rounds int) (flops float64) {
	d := p.Arena().Device()
	lanes := float64(C.CTN_PEAK_BLOCK)
	if !d.Accelerated() {
		level := slices.Index(levels, d.Level())
		if level < 0 {
			panic("peak: unknown instruction set " + d.Level())
		}
		lanes = float64(C.ctn_peak_lanes[level])
	}
	record(p, out, rounds, "cu_peak_f32", unsafe.Pointer(&C.ctn_peak))
	return 2 * C.CTN_PEAK_CHAINS * lanes * float64(rounds) * float64(out.Len())
}

// RecordBF16 is Record for the tensor cores of a device of precision BF16: each task adds 1 to some numbers that begin
// at the task's number, as products of 16x16 and 16x8 matrices, rounds times, and writes their sum.
func RecordBF16(p *exec.Program, out *exec.Buffer, rounds int) (flops float64) {
	if p.Arena().Device().Precision() != exec.BF16 {
		panic("peak: tensor cores on a device that multiplies in float32")
	}
	record(p, out, rounds, "cu_peak_bf16", nil)
	const product = 2 * 16 * 16 * 8
	return product * C.CTN_PEAK_BF16_CHAINS * C.CTN_PEAK_BLOCK / 32 * float64(rounds) * float64(out.Len())
}

func record(p *exec.Program, out *exec.Buffer, rounds int, entry string, cpu unsafe.Pointer) {
	if rounds < 1 {
		panic(fmt.Sprintf("peak: %d rounds", rounds))
	}
	args := C.ctn_peak_args{tasks: C.int64_t(out.Len()), rounds: C.int64_t(rounds), out: floats(out)}
	exec.Call(p, "peak", cpu, &args, 0,
		exec.Launch{File: "peak", Entry: entry, Grid: [3]int{out.Len()}, Block: C.CTN_PEAK_BLOCK})
}

// RecordCopy appends a copy of src to dst, whole buffers of one length. It returns how many bytes are read and written.
func RecordCopy(p *exec.Program, dst, src *exec.Buffer) (bytes float64) {
	n := src.Len()
	if dst.Len() != n {
		panic(fmt.Sprintf("peak: copy of %d floats to %d", n, dst.Len()))
	}
	exec.Aligned("peak", dst, src)
	args := C.ctn_copy_args{n: C.int64_t(n), src: floats(src), dst: floats(dst)}
	exec.Call(p, "copy", unsafe.Pointer(&C.ctn_copy), &args, 0,
		exec.Launch{File: "peak", Entry: "cu_copy", Grid: [3]int{exec.Blocks(n, C.CTN_COPY_EACH*C.CTN_PEAK_BLOCK)},
			Block: C.CTN_PEAK_BLOCK, Work: exec.Work{Bytes: 8 * float64(n)}})
	return 8 * float64(n)
}
