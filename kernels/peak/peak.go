// Package peak measures the ceiling of arithmetic: multiply-adds in registers, the most that any kernel on the same instruction set
// and threads can reach. It is for benchmarks.
package peak

/*
#cgo CFLAGS: -O3 -std=gnu11 -Wno-psabi
#include "peak.h"
*/
import "C"

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// levels is the order of the instruction sets in kernels' tables.
var levels = []string{"portable", "avx2", "avx2x16", "avx512"}

// Record appends one task an element of out. Each halves some numbers and adds 0.5 + its number, rounds times, and writes their sum. It returns
// how many floating-point operations that is in all tasks; a multiply-add counts as two.
func Record(p *exec.Program, out *exec.Buffer, rounds int) (flops float64) {
	level := slices.Index(levels, p.Arena().Device().Level())
	if rounds < 1 || level < 0 {
		panic(fmt.Sprintf("peak: %d rounds on %s", rounds, p.Arena().Device().Level()))
	}
	args := C.ctn_peak_args{tasks: C.int64_t(out.Len()), rounds: C.int64_t(rounds), out: (*C.float)(out.Pointer())}
	p.Record(exec.Op{Name: "peak", CPU: unsafe.Pointer(&C.ctn_peak), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args)})
	return 2 * C.CTN_PEAK_CHAINS * float64(lanes(level)) * float64(rounds) * float64(out.Len())
}

func lanes(level int) int { return int(C.ctn_peak_lanes[level]) }
