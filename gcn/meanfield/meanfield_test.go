package meanfield

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// rules are of two kinds of cells over the operations input, two that learn, a pooling and output.
func rules() []Rule {
	ops := []Op{1: {true, Relu, 0.35, 9}, 2: {true, 1, 0.5, 1}, 3: {Variance: 2.5, Gradient: 3.9}, 4: {}}
	return []Rule{
		{Ops: ops, Input: Op{true, 0.9 * Relu, 0.1, 1}, Concat: true, Correlation: 0.05, Cells: 3},
		{Ops: ops, Input: Identity, Cells: 2},
	}
}

// randomCell draws one in which every node lies on a path from the input to the output.
func randomCell(s *philox.Stream) (ops []uint16, edges [][2]uint8) {
	n := 2 + s.Intn(7)
	in, out := make([]int, n), make([]int, n)
	for u := range n {
		for v := u + 1; v < n; v++ {
			if s.Intn(2) == 0 {
				edges, in[v], out[u] = append(edges, [2]uint8{uint8(u), uint8(v)}), in[v]+1, out[u]+1
			}
		}
	}
	add := func(u, v int) {
		if e := [2]uint8{uint8(u), uint8(v)}; !slices.Contains(edges, e) {
			edges, in[v], out[u] = append(edges, e), in[v]+1, out[u]+1
		}
	}
	for v := range n {
		if v > 0 && in[v] == 0 {
			add(0, v)
		}
		if v < n-1 && out[v] == 0 {
			add(v, n-1)
		}
		ops = append(ops, uint16(1+s.Intn(3)))
	}
	ops[0], ops[n-1] = 0, 4
	slices.SortFunc(edges, func(a, b [2]uint8) int { return slices.Compare(a[:], b[:]) })
	return ops, edges
}

// reference has the definitions by recursion and, on the way back, as sums over paths.
type reference struct {
	Rule
	ops   []uint16
	edges [][2]uint8
}

func (r reference) from(v int) (list []int) {
	for _, e := range r.edges {
		if int(e[0]) == v {
			list = append(list, int(e[1]))
		}
	}
	return
}

func (r reference) into(v int) (list []int) {
	for _, e := range r.edges {
		if int(e[1]) == v {
			list = append(list, int(e[0]))
		}
	}
	return
}

func (r reference) share(v int) float64 {
	last := len(r.ops) - 1
	if !r.Concat || v == last {
		return 1
	}
	widest := 0.0
	for _, to := range r.from(v) {
		if to == last {
			interior := 0
			for _, u := range r.into(last) {
				if u > 0 {
					interior++
				}
			}
			return 1 / float64(interior)
		}
		widest = max(widest, r.share(to))
	}
	return widest
}

// variances of what comes into a node, and of what leaves it.
func (r reference) variances(v int) (in, out float64) {
	last := len(r.ops) - 1
	covered := func(list []float64) float64 { // the variance of a sum of correlated terms
		s := 0.0
		for i, a := range list {
			for j, b := range list {
				if i == j {
					s += a
				} else {
					s += r.Correlation * math.Sqrt(a*b)
				}
			}
		}
		return s
	}
	var terms []float64
	direct := false
	for _, u := range r.into(v) {
		if u == 0 {
			direct = true
			continue
		}
		_, x := r.variances(u)
		terms = append(terms, x)
	}
	if v == last && r.Concat && len(terms) > 0 {
		mean := 0.0
		for _, x := range terms {
			mean += x / float64(len(terms))
		}
		terms = []float64{mean}
	}
	if direct {
		terms = append(terms, r.Input.Variance)
	}
	in = covered(terms)
	switch op := r.Ops[r.ops[v]]; {
	case v == last:
		return in, in
	case op.Normalised:
		return in, op.Variance
	default:
		return in, op.Variance * in
	}
}

// gradient of what leaves a node: over all paths to the output the product of what the operations on the way hand back.
func (r reference) gradient(v int) float64 {
	last, s := len(r.ops)-1, 0.0
	for _, to := range r.from(v) {
		if to == last {
			s += r.share(v)
			continue
		}
		s += r.gradient(to) * r.hands(to)
	}
	return s
}

// hands is what a node's operation multiplies the gradient by.
func (r reference) hands(v int) float64 {
	op := r.Ops[r.ops[v]]
	in, _ := r.variances(v)
	if op.Normalised {
		return op.Gradient / in
	}
	return op.Gradient
}

func (r reference) numbers() []float64 {
	last := len(r.ops) - 1
	out, _ := r.variances(last)
	back := func(v int) float64 { // the gradient in what comes into a node
		if v == last {
			return 1
		}
		return r.gradient(v) * r.hands(v)
	}
	gain, logs, variances, largest, sensitivity := 0.0, 0.0, 0.0, 0.0, 0.0
	learned := map[int]float64{}
	for _, v := range r.from(0) {
		g := back(v) * r.Input.Gradient
		if r.Input.Normalised {
			g /= out
		}
		gain += g
		learned[len(r.Ops)] += math.Sqrt(r.Input.Weights * back(v))
		sensitivity += math.Sqrt(r.Input.Weights * back(v) * r.share(v))
	}
	for v := 1; v < last; v++ {
		g, w := r.gradient(v), r.Ops[r.ops[v]].Weights
		in, _ := r.variances(v)
		logs, variances, largest = logs+math.Log(g+1e-3), variances+math.Log(in+1e-3), max(largest, g)
		learned[int(r.ops[v])] += math.Sqrt(r.share(v) * w * g)
		sensitivity += r.share(v) * math.Sqrt(w*g)
	}
	interior := max(1, float64(last-1))
	norms, sensitivities, g := 0.0, 0.0, 1.0
	for i := range r.Cells {
		for _, x := range learned {
			norms += x * math.Sqrt(g) * math.Pow(2, -float64(i)/2)
		}
		sensitivities += sensitivity * math.Sqrt(g) * math.Pow(2, -float64(i))
		g *= gain
	}
	list := []float64{math.Log(gain + 1e-12), math.Log(norms + 1e-3), math.Log(sensitivities + 1e-3),
		math.Log(out + 1e-12), variances / interior, math.Log(largest + 1e-3), logs / interior}
	for op := range r.Ops {
		if r.Ops[op].Weights > 0 {
			list = append(list, math.Log(learned[op]+1e-3))
		}
	}
	if r.Input.Weights > 0 {
		list = append(list, math.Log(learned[len(r.Ops)]+1e-3))
	}
	return list
}

// Numbers are the definitions' for random cells, and the same bits for any order of a cell's nodes.
func TestNumbers(t *testing.T) {
	s := philox.New(1, philox.PurposeTest, 0)
	moved := 0
	for range 300 {
		ops, edges := randomCell(s)
		other, order := renumbered(s, ops, edges)
		if !slices.Equal(other, ops) || !slices.Equal(order, edges) {
			moved++
		}
		for i := range rules() {
			r := rules()[i]
			got := r.Numbers([]float64{7}, ops, edges)
			require.Len(t, got, 1+r.Count())
			want := reference{r, ops, edges}.numbers()
			require.InDeltaSlice(t, want, got[1:], 1e-9, "%v %v", ops, edges)
			require.Equal(t, got, r.Numbers([]float64{7}, other, order), "%v %v", ops, edges)
		}
	}
	require.Greater(t, moved, 50)
}

// renumbered is the same cell with its nodes in another topological order.
func renumbered(s *philox.Stream, ops []uint16, edges [][2]uint8) ([]uint16, [][2]uint8) {
	n := len(ops)
	number := make([]int, n) // of each node, 0 until it has one
	number[0], number[n-1] = 0, n-1
	placed := map[int]bool{0: true}
	for next := 1; next < n-1; next++ {
		var ready []int
		for v := 1; v < n-1; v++ {
			ok := !placed[v]
			for _, e := range edges {
				ok = ok && (int(e[1]) != v || placed[int(e[0])])
			}
			if ok {
				ready = append(ready, v)
			}
		}
		v := ready[s.Intn(len(ready))]
		number[v], placed[v] = next, true
	}
	outOps, outEdges := make([]uint16, n), make([][2]uint8, len(edges))
	for v, op := range ops {
		outOps[number[v]] = op
	}
	for i, e := range edges {
		outEdges[i] = [2]uint8{uint8(number[e[0]]), uint8(number[e[1]])}
	}
	slices.SortFunc(outEdges, func(a, b [2]uint8) int { return slices.Compare(a[:], b[:]) })
	return outOps, outEdges
}

// A chain of two convolutions by hand: nothing is added, so every variance is that of a convolution's output, and the
// gradient that reaches the input went through both and through the projection.
func TestChain(t *testing.T) {
	r := Rule{Ops: []Op{1: {true, Relu, 0.5, 9}, 2: {}}, Input: Op{true, Relu, 0.5, 1}, Concat: true, Cells: 1}
	got := r.Numbers(nil, []uint16{0, 1, 1, 2}, [][2]uint8{{0, 1}, {1, 2}, {2, 3}})
	step := 0.5 / Relu
	require.InDelta(t, 3*math.Log(step), got[0], 1e-9)
	require.InDelta(t, math.Log(3*(1+math.Sqrt(step))+step+1e-3), got[1], 1e-9)
	require.InDelta(t, math.Log(Relu), got[3], 1e-9)
}
