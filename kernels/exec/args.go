package exec

import (
	"fmt"
	"math"
)

// What the families need to fill a kernel's arguments. C's types are each package's own, so they take Ptr and Flag by
// the type:
//
//	var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Ptr is the buffer's address as a kernel gets it; a nil buffer has none.
func Ptr[T any](b *Buffer) *T { return (*T)(b.Pointer()) }

// Flag is 1 for true.
func Flag[T ~int32](b bool) T {
	if b {
		return 1
	}
	return 0
}

// Need panics if an operation's buffer has fewer than n elements, or not 32 bits each.
func Need(op, name string, b *Buffer, n int) {
	if b == nil || b.Len() < n || b.Half() {
		panic(fmt.Sprintf("%s: %s needs %d elements of 32 bits", op, name, n))
	}
}

// NeedStored is Need for what may be stored as bfloat16.
func NeedStored(op, name string, b *Buffer, n int) {
	if b == nil || b.Len() < n {
		panic(fmt.Sprintf("%s: %s needs %d elements", op, name, n))
	}
}

// Optional is Need for a buffer that may be nil.
func Optional(op, name string, b *Buffer, n int) {
	if b != nil {
		Need(op, name, b, n)
	}
}

// Aligned panics if a buffer does not start on 16 bytes: its kernels read four floats at a time. A nil one does.
func Aligned(op string, buffers ...*Buffer) {
	for i, b := range buffers {
		if uintptr(b.Pointer())%16 != 0 {
			panic(fmt.Sprintf("%s: buffer %d must start on 16 bytes", op, i))
		}
	}
}

// Over is the launch of a kernel of which each thread has `each` of n elements. Kernels divide their numbers as 32-bit
// integers.
func Over(file, entry string, n, each, block int) Launch {
	if n > math.MaxUint32 {
		panic(fmt.Sprintf("%s: %d elements are too many", entry, n))
	}
	return Launch{File: file, Entry: entry, Grid: [3]int{Blocks(n, each*block)}, Block: block}
}
