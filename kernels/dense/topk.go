package dense

/*
#include "topk.h"
*/
import "C"

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// MaxTopK is the largest k of a TopK.
const MaxTopK = C.CTN_TOPK_MAX

// TopK finds the k largest of n floats: Value holds them in descending order and Index where they stand. Of equal ones
// the lower index comes first; a NaN comes after all numbers. k is the length of Index, at most n and MaxTopK.
type TopK struct {
	In    *exec.Buffer // [n]
	Value *exec.Buffer // [k]
	Index *exec.Buffer // [k] integers
}

// Record appends the operation to a program.
func (t TopK) Record(p *exec.Program) {
	n, k := t.In.Len(), t.Index.Len()
	if k < 1 || k > min(n, MaxTopK) || n > math.MaxInt32 {
		panic(fmt.Sprintf("topk: %d of %d elements", k, n))
	}
	exec.Need("topk", "Value", t.Value, k)
	args := C.ctn_topk_args{n: C.int64_t(n), k: C.int64_t(k), in: floats(t.In), value: floats(t.Value),
		index: ints(t.Index), index_bits: C.int32_t(bits.Len(uint(n - 1)))}
	var gpu []exec.Launch
	if ar := p.Arena(); ar.Device().Accelerated() {
		state := C.ctn_topk_state{left: C.int32_t(k), shift: 32 + args.index_bits}
		const words = unsafe.Sizeof(state) / 4
		args.state = (*C.ctn_topk_state)(ar.Ints((*[words]int32)(unsafe.Pointer(&state))[:]).Pointer())
		args.count = (*C.uint32_t)(ar.Ints(make([]int32, C.CTN_TOPK_BINS)).Pointer())
		args.survivors = (*C.uint64_t)(ar.F32(2 * k).Pointer())
		scan := exec.Launch{File: "topk", Entry: "cu_topk_digit",
			Grid: [3]int{exec.Blocks(n, C.CTN_TOPK_EACH*C.CTN_DENSE_BLOCK)}, Block: C.CTN_DENSE_BLOCK}
		for range exec.Blocks(int(state.shift), C.CTN_TOPK_DIGIT) {
			gpu = append(gpu, scan)
		}
		scan.Entry = "cu_topk_collect"
		gpu = append(gpu, scan, exec.Launch{File: "topk", Entry: "cu_topk_sort", Block: C.CTN_TOPK_SORT_BLOCK})
	}
	exec.Call(p, "topk", unsafe.Pointer(&C.ctn_topk), &args, 2*k, gpu...)
}
