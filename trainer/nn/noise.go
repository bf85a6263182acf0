package nn

import "github.com/ctnas/ctnas/kernels/philox"

// Kept tells whether a node's dropout (or drop path) with probability p keeps an element (or an example) of the batch
// at a step. The decision is a function of its arguments, so that the backward pass and every executor repeat it. The
// stream is philox.PurposeTrain with the node's index in the high 16 bits.
func Kept(p float64, seed uint64, node int, step uint32, element int) bool {
	key := philox.Key{Seed: seed, Purpose: philox.PurposeTrain | uint32(node)<<16}
	bits := key.At(step, uint64(element)/4)[element%4]
	return float32(bits>>8)*0x1p-24 < float32(1-p)
}
