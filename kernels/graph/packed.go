package graph

// Layout of a packed graph: a graph of at most 8 nodes and 8 operations in 64 bits, which kernels decode in registers.
// Buffers hold it as two integers, the lower half first.
const (
	packedMax   = 8                               // nodes
	packedOpsAt = packedMax * (packedMax - 1) / 2 // bits below: edge u to v, u < v, at v(v-1)/2 + u
	packedOp    = 3                               // bits of a node's operation
	packedNAt   = packedOpsAt + packedOp*packedMax
	packedN     = 4 // bits of the number of nodes
)

// Pack puts a graph into 64 bits: bit v(v-1)/2 + u is set where there is an edge from u to v, 3 bits a node from bit 28
// on are its operation, 4 bits from bit 52 on the number of nodes. It tells whether the graph fits: 1 to 8 nodes,
// operations below 8, every edge from a lower to a higher node. The order of edges, and edges that are there twice, do
// not matter.
func Pack[Op uint8 | uint16](ops []Op, edges [][2]uint8) (uint64, bool) {
	n := len(ops)
	if n == 0 || n > packedMax {
		return 0, false
	}
	packed := uint64(n) << packedNAt
	for v, op := range ops {
		if op >= 1<<packedOp {
			return 0, false
		}
		packed |= uint64(op) << (packedOpsAt + packedOp*v)
	}
	for _, e := range edges {
		u, v := int(e[0]), int(e[1])
		if u >= v || v >= n {
			return 0, false
		}
		packed |= 1 << (v*(v-1)/2 + u)
	}
	return packed, true
}

// Unpack is the inverse of Pack, with edges in ascending order. Bits that no Pack sets are not looked at.
func Unpack(packed uint64) (ops []uint8, edges [][2]uint8) {
	n := min(int(packed>>packedNAt)&(1<<packedN-1), packedMax)
	ops = make([]uint8, n)
	for u := range n {
		ops[u] = uint8(packed>>(packedOpsAt+packedOp*u)) & (1<<packedOp - 1)
		for v := u + 1; v < n; v++ {
			if packed>>(v*(v-1)/2+u)&1 == 1 {
				edges = append(edges, [2]uint8{uint8(u), uint8(v)})
			}
		}
	}
	return ops, edges
}
