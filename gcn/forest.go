package gcn

import (
	"fmt"
	"slices"
)

// Graph is an architecture as the comparator sees it: one operation a node, edges from lower to higher node numbers.
// Node 0 is the input, the last node the output.
type Graph struct {
	Ops   []uint16
	Edges [][2]uint8
}

// Direction tells which neighbours send messages to a node.
type Direction int

const (
	FromInputs  Direction = iota // a node aggregates its predecessors
	FromOutputs                  // a node aggregates its successors
)

// Forest is a set of graphs whose equal parts are computed once.
//
// What a node's row holds after k rounds of messages depends only on its unfolding tree: its operation and the multiset
// of its neighbours' trees. Over all 423,624 cells of NAS-Bench-101 the 2,965,368 rows of a four-layer GCN are 416,102
// different ones, and the product of layer k runs over the different rows of layer k-1: 49 times fewer operations and
// exactly the same result. In training, the gradient of a shared row is the sum over its uses.
//
// Rows are numbered over all levels. A row of level l sums rows of earlier levels only.
type Forest struct {
	Start []int32 // level l holds rows Start[l] .. Start[l+1]-1
	Label []int32 // a row's operation
	Self  []int32 // synchronous rounds: the row's own row one level below; otherwise empty
	Ptr   []int32 // row r aggregates the rows Idx[Ptr[r]:Ptr[r+1]], rows in ascending order
	Idx   []int32

	ReadPtr []int32 // graph g reads the rows ReadIdx[ReadPtr[g]:ReadPtr[g+1]] ...
	ReadIdx []int32
}

// Levels is the number of levels, Rows the number of rows in all of them, Graphs the number of graphs.
func (f *Forest) Levels() int { return len(f.Start) - 1 }

// Rows is the number of rows over all levels.
func (f *Forest) Rows() int { return len(f.Label) }

// Graphs is the number of graphs.
func (f *Forest) Graphs() int { return len(f.ReadPtr) - 1 }

// Level returns the rows [begin, end) of a level.
func (f *Forest) Level(l int) (begin, end int) { return int(f.Start[l]), int(f.Start[l+1]) }

// Check tells whether a graph can be encoded with an alphabet of n operations.
func (g Graph) Check(n int) error {
	if len(g.Ops) == 0 {
		return fmt.Errorf("a graph without nodes")
	}
	for i, op := range g.Ops {
		if int(op) >= n {
			return fmt.Errorf("node %d has operation %d of %d", i, op, n)
		}
	}
	for _, e := range g.Edges {
		if e[0] >= e[1] || int(e[1]) >= len(g.Ops) {
			return fmt.Errorf("edge %d-%d in a graph of %d nodes: want from < to", e[0], e[1], len(g.Ops))
		}
	}
	return nil
}

// neighbours lists, for each node, the nodes that it aggregates.
func (g Graph) neighbours(d Direction) [][]int {
	out := make([][]int, len(g.Ops))
	for _, e := range g.Edges {
		if d == FromInputs {
			out[e[1]] = append(out[e[1]], int(e[0]))
		} else {
			out[e[0]] = append(out[e[0]], int(e[1]))
		}
	}
	return out
}

// adjacency lists the nodes that each node of a graph aggregates. It is used for many graphs in turn.
type adjacency struct {
	ptr []int // node v aggregates the nodes idx[ptr[v]:ptr[v+1]]
	idx []uint8
	n   int
}

// of fills it with a graph's edges.
func (h *adjacency) of(g Graph, d Direction) {
	h.n = len(g.Ops)
	h.ptr = slices.Grow(h.ptr[:0], h.n+1)[:h.n+1]
	clear(h.ptr)
	h.idx = slices.Grow(h.idx[:0], len(g.Edges))[:len(g.Edges)]
	to, from := 1, 0
	if d == FromOutputs {
		to, from = 0, 1
	}
	for _, e := range g.Edges {
		h.ptr[int(e[to])+1]++
	}
	for v := range h.n {
		h.ptr[v+1] += h.ptr[v]
	}
	for k := len(g.Edges) - 1; k >= 0; k-- { // from the end of each node's part to its beginning
		e := g.Edges[k]
		h.ptr[int(e[to])+1]--
		h.idx[h.ptr[int(e[to])+1]] = e[from]
	}
	copy(h.ptr, h.ptr[1:]) // the beginnings are one too far up now
	h.ptr[h.n] = len(g.Edges)
}

// rows fills list with the rows of the nodes that node v aggregates, ascending. Padding aggregates none.
func (h *adjacency) rows(v int, rows, list []int32) []int32 {
	list = list[:0]
	if v >= h.n {
		return list
	}
	for _, u := range h.idx[h.ptr[v]:h.ptr[v+1]] {
		list = append(list, rows[u])
	}
	slices.Sort(list)
	return list
}

// trees numbers different unfolding trees: a tree is its head (an operation, or its own row a round earlier) and the
// sorted list of the rows that it aggregates. It is a hash table with open addressing whose entries are the rows
// themselves.
type trees struct {
	head, ptr, idx []int32
	slots          []int32 // a row + 1, or 0
	begin          int     // rows below belong to finished rounds and are not looked up
}

func newTrees() *trees { return &trees{ptr: []int32{0}, slots: make([]int32, 1024)} }

func (t *trees) rows() int { return len(t.head) }

func (t *trees) list(r int32) []int32 { return t.idx[t.ptr[r]:t.ptr[r+1]] }

func (t *trees) slot(head int32, list []int32) int {
	h := uint64(uint32(head))*0x9E3779B97F4A7C15 + 1
	for _, v := range list {
		h = (h ^ h>>29 ^ uint64(uint32(v))) * 0xBF58476D1CE4E5B9
	}
	h ^= h >> 32
	mask := len(t.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		r := t.slots[i] - 1
		if r < 0 || t.head[r] == head && slices.Equal(t.list(r), list) {
			return i
		}
	}
}

// add appends a tree without looking for an equal one.
func (t *trees) add(head int32, list []int32) int32 {
	t.head = append(t.head, head)
	t.idx = append(t.idx, list...)
	t.ptr = append(t.ptr, int32(len(t.idx)))
	return int32(len(t.head) - 1)
}

// find returns a tree's row, a new one where there is none yet, and whether it is new.
func (t *trees) find(head int32, list []int32) (row int32, isNew bool) {
	i := t.slot(head, list)
	if r := t.slots[i]; r > 0 {
		return r - 1, false
	}
	row = t.add(head, list)
	t.slots[i] = row + 1
	if used := t.rows() - t.begin; used*2 > len(t.slots) {
		t.slots = make([]int32, 2*len(t.slots))
		for r := t.begin; r < t.rows(); r++ {
			t.slots[t.slot(t.head[r], t.list(int32(r)))] = int32(r) + 1
		}
	}
	return row, true
}

// round forgets the rows so far for look-ups: a new round's trees are different ones.
func (t *trees) round() {
	clear(t.slots)
	t.begin = t.rows()
}

// GraphSet is a numbered set of graphs, so that a space of hundreds of thousands need not hold them all.
type GraphSet struct {
	N    int
	At   func(i int) Graph
	Stop func() error // asked now and then while they are encoded; what it returns ends that. May be nil
}

// stopEvery is how many graphs are encoded between two questions whether to stop: some milliseconds' worth.
const stopEvery = 4096

// get is At, or the reason to stop.
func (s GraphSet) get(i int) (Graph, error) {
	if s.Stop != nil && i%stopEvery == 0 {
		if err := s.Stop(); err != nil {
			return Graph{}, err
		}
	}
	return s.At(i), nil
}

// Slice is the set of the graphs of a slice.
func Slice(graphs []Graph) GraphSet {
	return GraphSet{N: len(graphs), At: func(i int) Graph { return graphs[i] }}
}

// Layered builds the forest of `layers` synchronous rounds, as in a GCN: level 0 has one row for each operation of the
// alphabet, and level k holds the rows after round k, each of which aggregates its own row and its neighbours'. A graph
// with fewer than `nodes` nodes is padded with nodes of operation `pad` that aggregate only themselves (nodes = 0: no
// padding). With share = false equal rows are kept apart. Each graph reads all its rows of the last level.
func Layered(graphs GraphSet, alphabet, layers, nodes, pad int, d Direction, share bool) (*Forest, error) {
	f := &Forest{Start: []int32{0, int32(alphabet)}, ReadPtr: make([]int32, 1, graphs.N+1)}
	t := newTrees()
	for op := range alphabet {
		f.Label = append(f.Label, int32(op))
		t.add(int32(op), nil)
	}
	for i := range graphs.N { // the current row of each node; ReadIdx holds them all
		g, err := graphs.get(i)
		if err != nil {
			return nil, err
		}
		if err := g.Check(alphabet); err != nil {
			return nil, fmt.Errorf("graph %d: %w", i, err)
		}
		for _, op := range g.Ops {
			f.ReadIdx = append(f.ReadIdx, int32(op))
		}
		for n := len(g.Ops); n < nodes; n++ {
			f.ReadIdx = append(f.ReadIdx, int32(pad))
		}
		f.ReadPtr = append(f.ReadPtr, int32(len(f.ReadIdx)))
	}
	var list []int32
	var h adjacency
	next := make([]int32, 0, 16)
	for range layers {
		t.round()
		for i := range graphs.N {
			g, err := graphs.get(i)
			if err != nil {
				return nil, err
			}
			rows := f.ReadIdx[f.ReadPtr[i]:f.ReadPtr[i+1]]
			h.of(g, d)
			next = next[:0]
			for v, self := range rows {
				list = h.rows(v, rows, list)
				row, isNew := int32(0), true
				if share {
					row, isNew = t.find(self, list)
				} else {
					row = t.add(self, list)
				}
				if isNew {
					f.Label = append(f.Label, f.Label[self])
				}
				next = append(next, row)
			}
			copy(rows, next)
		}
		f.Start = append(f.Start, int32(t.rows()))
	}
	f.Self, f.Ptr, f.Idx = t.head, t.ptr, t.idx
	return f, nil
}

// Topological builds the forest of one sweep along the edges, node by node: a row is an operation and the rows of the
// neighbours that it aggregates, and its level is one more than their highest. A node that aggregates none stands on
// level 0. Graph g reads the rows of its nodes in their order or, with ends, only that of its last node in the sweep's
// direction.
func Topological(graphs GraphSet, alphabet int, d Direction, ends bool) (*Forest, error) {
	t := newTrees()
	var levels []int32 // of each row
	f := &Forest{ReadPtr: make([]int32, 1, graphs.N+1)}
	highest := int32(-1)
	var list []int32
	var h adjacency
	rows := make([]int32, 256)
	for i := range graphs.N {
		g, err := graphs.get(i)
		if err != nil {
			return nil, err
		}
		if err := g.Check(alphabet); err != nil {
			return nil, fmt.Errorf("graph %d: %w", i, err)
		}
		h.of(g, d)
		for n := range g.Ops {
			v := n
			if d == FromOutputs {
				v = len(g.Ops) - 1 - n
			}
			list = h.rows(v, rows, list)
			row, isNew := t.find(int32(g.Ops[v]), list)
			if isNew {
				level := int32(0)
				for _, u := range list {
					level = max(level, levels[u]+1)
				}
				levels = append(levels, level)
				highest = max(highest, level)
			}
			rows[v] = row
		}
		switch {
		case !ends:
			f.ReadIdx = append(f.ReadIdx, rows[:len(g.Ops)]...)
		case d == FromInputs:
			f.ReadIdx = append(f.ReadIdx, rows[len(g.Ops)-1])
		default:
			f.ReadIdx = append(f.ReadIdx, rows[0])
		}
		f.ReadPtr = append(f.ReadPtr, int32(len(f.ReadIdx)))
	}
	// Number the rows by level.
	f.Start = make([]int32, highest+2)
	for _, l := range levels {
		f.Start[l+1]++
	}
	for l := range highest + 1 {
		f.Start[l+1] += f.Start[l]
	}
	next := slices.Clone(f.Start)
	number, order := make([]int32, len(levels)), make([]int32, len(levels))
	for r, l := range levels {
		number[r] = next[l]
		order[next[l]] = int32(r)
		next[l]++
	}
	f.Ptr = make([]int32, 1, len(levels)+1)
	for _, old := range order {
		f.Label = append(f.Label, t.head[old])
		first := len(f.Idx)
		for _, u := range t.list(old) {
			f.Idx = append(f.Idx, number[u])
		}
		slices.Sort(f.Idx[first:])
		f.Ptr = append(f.Ptr, int32(len(f.Idx)))
	}
	for i, r := range f.ReadIdx {
		f.ReadIdx[i] = number[r]
	}
	return f, nil
}

// transpose returns, for n sources, which of the rows [0, len(ptr)-1) use each one: the edges turned round.
func transpose(ptr, idx []int32, n int) (tptr, tidx []int32) {
	tptr = make([]int32, n+1)
	for _, s := range idx[ptr[0]:ptr[len(ptr)-1]] {
		tptr[s+1]++
	}
	for i := range n {
		tptr[i+1] += tptr[i]
	}
	next := append([]int32(nil), tptr...)
	tidx = make([]int32, tptr[n])
	for r := 0; r+1 < len(ptr); r++ {
		for _, s := range idx[ptr[r]:ptr[r+1]] {
			tidx[next[s]] = int32(r)
			next[s]++
		}
	}
	return
}

// split separates a forest of which each graph reads one row. inner holds the rows that others aggregate, renumbered,
// and roots has one row for each graph, in the graphs' order, whose edges lead to rows of inner. Roots that several
// graphs share stand there several times.
func (f *Forest) split() (inner, roots *Forest) {
	number := make([]int32, f.Rows())
	for _, u := range f.Idx {
		number[u] = 1
	}
	inner, roots = &Forest{Start: []int32{0}, Ptr: []int32{0}}, &Forest{Ptr: []int32{0}}
	list := func(to *Forest, r int32) {
		to.Label = append(to.Label, f.Label[r])
		for _, u := range f.Idx[f.Ptr[r]:f.Ptr[r+1]] {
			to.Idx = append(to.Idx, number[u])
		}
		to.Ptr = append(to.Ptr, int32(len(to.Idx)))
	}
	for l := range f.Levels() {
		b, e := f.Level(l)
		for r := b; r < e; r++ {
			if number[r] == 1 {
				number[r] = int32(inner.Rows())
				list(inner, int32(r))
			}
		}
		inner.Start = append(inner.Start, int32(inner.Rows()))
	}
	for _, r := range f.ReadIdx {
		list(roots, r)
	}
	return inner, roots
}
