package cell

import "slices"

// DecodeReference decodes one allowed sequence: the operations of the nodes that remain, and the edges in ascending
// order.
func DecodeReference(r Rules, actions []int32) (ops []uint8, edges [][2]uint8) {
	take := func() int {
		a := actions[0]
		actions = actions[1:]
		return int(a)
	}
	inner := 1 + take()
	last := inner + 1
	all := make([]uint8, last+1)
	all[0], all[last] = r.Input, r.Output
	edge := map[[2]int]bool{} // from, to
	for v := 1; v <= inner; v++ {
		edge[[2]int{take(), v}] = true
		all[v] = r.Ops[take()]
	}
	edge[[2]int{take(), last}] = true
	for range r.Edges - inner - 1 {
		if a, b := take(), take(); a != b {
			edge[[2]int{min(a, b), max(a, b)}] = true
		}
	}
	// path tells whether one leads from a node to another.
	var path func(from, to int) bool
	path = func(from, to int) bool {
		for v := from + 1; v <= to; v++ {
			if edge[[2]int{from, v}] && path(v, to) {
				return true
			}
		}
		return from == to
	}
	var kept []int
	for v := range all {
		if path(0, v) && path(v, last) {
			kept = append(kept, v)
			ops = append(ops, all[v])
		}
	}
	for e := range edge {
		u, v := slices.Index(kept, e[0]), slices.Index(kept, e[1])
		if u >= 0 && v >= 0 {
			edges = append(edges, [2]uint8{uint8(u), uint8(v)})
		}
	}
	slices.SortFunc(edges, func(a, b [2]uint8) int { return int(a[0])*8 + int(a[1]) - int(b[0])*8 - int(b[1]) })
	return ops, edges
}
