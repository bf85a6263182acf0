package gcn

import "math"

// Features describes a graph by numbers that any architecture has, for the comparator's head. In this order: extra (for
// instance logarithms of costs); the nodes of each operation; nodes, edges, whether input and output are joined, the
// output's in-degree, the input's out-degree; the logarithm of the number of paths from input to output and their mean
// length; for each operation and for all nodes the most and the fewest on one path; for each the mean and standard
// deviation over random walks from the output back to the input, and the mean over random walks from the input on; for
// each operation its share among the nodes that feed the output and among those that the input feeds. The input itself
// is not counted on a path. No label is used.
func Features(g Graph, alphabet int, extra ...float64) []float32 {
	out := make([]float32, 0, FeatureCount(alphabet, len(extra)))
	for _, v := range extra {
		out = append(out, float32(v))
	}
	n, last := len(g.Ops), len(g.Ops)-1
	count, feeds, fed := make([]float32, alphabet), make([]float32, alphabet), make([]float32, alphabet)
	for _, op := range g.Ops {
		count[op]++
	}
	degreeIn, degreeOut := make([]float64, n), make([]float64, n)
	var skip float32
	for _, e := range g.Edges {
		degreeIn[e[1]]++
		degreeOut[e[0]]++
		if int(e[1]) == last {
			feeds[g.Ops[e[0]]]++
		}
		if e[0] == 0 {
			fed[g.Ops[e[1]]]++
			if int(e[1]) == last {
				skip = 1
			}
		}
	}
	out = append(out, count...)
	out = append(out, float32(n), float32(len(g.Edges)), skip, float32(degreeIn[last]), float32(degreeOut[0]))
	in, on := g.neighbours(FromInputs), g.neighbours(FromOutputs)
	paths, length := pathCounts(in)
	out = append(out, float32(math.Log(math.Max(paths, 1))), float32(length))
	value := make([]float64, n)
	for op := range alphabet + 1 { // the last counts every node
		for v := range value {
			value[v] = 0
			if v > 0 && (op == alphabet || int(g.Ops[v]) == op) {
				value[v] = 1
			}
		}
		most, fewest, mean, sd := walkBack(in, value)
		out = append(out, most, fewest, mean, sd, walkOn(on, value))
	}
	for op := range alphabet {
		out = append(out, feeds[op]/float32(math.Max(degreeIn[last], 1)), fed[op]/float32(math.Max(degreeOut[0], 1)))
	}
	return out
}

// Counts are the numbers of nodes of each operation: all that a graph of a space needs to be described by whose
// operations say where they stand.
func Counts(g Graph, alphabet int) []float32 {
	out := make([]float32, alphabet)
	for _, op := range g.Ops {
		out[op]++
	}
	return out
}

// FeatureCount is the length of what Features returns.
func FeatureCount(alphabet, extra int) int {
	return extra + alphabet + 5 + 2 + 5*(alphabet+1) + 2*alphabet
}

// pathCounts returns the number of paths from node 0 to the last node and their mean number of nodes without the first.
func pathCounts(in [][]int) (paths, length float64) {
	count, total := make([]float64, len(in)), make([]float64, len(in))
	count[0] = 1
	for v := 1; v < len(in); v++ {
		for _, u := range in[v] {
			count[v] += count[u]
			total[v] += total[u] + count[u]
		}
	}
	last := len(in) - 1
	return count[last], total[last] / math.Max(count[last], 1)
}

// walkBack follows edges from the last node back, each with equal probability, and sums the values on the way: the
// most, the fewest, the mean and the standard deviation over walks.
func walkBack(in [][]int, value []float64) (most, fewest, mean, sd float32) {
	n := len(in)
	hi, lo, first, second := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for v := range in {
		var h, l, a, b float64
		for i, u := range in[v] {
			if i == 0 || hi[u] > h {
				h = hi[u]
			}
			if i == 0 || lo[u] < l {
				l = lo[u]
			}
			a += first[u] / float64(len(in[v]))
			b += second[u] / float64(len(in[v]))
		}
		x := value[v]
		hi[v], lo[v], first[v], second[v] = h+x, l+x, a+x, b+2*a*x+x*x
	}
	v := n - 1
	return float32(hi[v]), float32(lo[v]), float32(first[v]),
		float32(math.Sqrt(math.Max(0, second[v]-first[v]*first[v])))
}

// walkOn is the mean over random walks from the first node along the edges.
func walkOn(on [][]int, value []float64) float32 {
	mean := make([]float64, len(on))
	for v := len(on) - 1; v >= 0; v-- {
		for _, u := range on[v] {
			mean[v] += mean[u] / float64(len(on[v]))
		}
		mean[v] += value[v]
	}
	return float32(mean[0])
}
