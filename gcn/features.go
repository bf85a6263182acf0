package gcn

import "math"

// Features describes a graph by numbers that any architecture has, for the comparator's head: how many nodes of each operation, nodes and
// edges, the degrees of input and output, whether they are joined, the number of paths between them, and for each operation the most and
// the fewest on one path, and the longest and shortest path. extra (for instance logarithms of costs) comes first.
func Features(g Graph, alphabet int, extra ...float64) []float32 {
	n := len(g.Ops)
	out := make([]float32, 0, FeatureCount(alphabet, len(extra)))
	for _, v := range extra {
		out = append(out, float32(v))
	}
	count := make([]int, alphabet)
	for _, op := range g.Ops {
		count[op]++
	}
	for _, c := range count {
		out = append(out, float32(c))
	}
	skip, in, from := 0, 0, 0
	for _, e := range g.Edges {
		if int(e[1]) == n-1 {
			in++
			if e[0] == 0 {
				skip = 1
			}
		}
		if e[0] == 0 {
			from++
		}
	}
	out = append(out, float32(n), float32(len(g.Edges)), float32(skip), float32(in), float32(from))
	// Dynamic programs along the topological order; nodes that the input does not reach stay out.
	paths := make([]float64, n)
	total := make([]float64, n) // nodes on all paths to a node
	most := make([][]float64, alphabet+1)
	fewest := make([][]float64, alphabet+1) // the last row counts every node
	for a := range most {
		most[a], fewest[a] = make([]float64, n), make([]float64, n)
	}
	reached := make([]bool, n)
	paths[0], reached[0] = 1, true
	hears := g.neighbours(FromInputs)
	for v := 1; v < n; v++ {
		first := true
		for _, u := range hears[v] {
			if !reached[u] {
				continue
			}
			paths[v] += paths[u]
			total[v] += total[u]
			for a := range most {
				if first || most[a][u] > most[a][v] {
					most[a][v] = most[a][u]
				}
				if first || fewest[a][u] < fewest[a][v] {
					fewest[a][v] = fewest[a][u]
				}
			}
			first = false
		}
		if first {
			continue
		}
		reached[v] = true
		total[v] += paths[v]
		op := int(g.Ops[v])
		most[op][v]++
		fewest[op][v]++
		most[alphabet][v]++
		fewest[alphabet][v]++
	}
	last := n - 1
	p := math.Max(paths[last], 1)
	out = append(out, float32(math.Log(p)), float32(total[last]/p))
	for a := range most {
		out = append(out, float32(most[a][last]), float32(fewest[a][last]))
	}
	return out
}

// FeatureCount is the length of what Features returns.
func FeatureCount(alphabet, extra int) int { return extra + alphabet + 5 + 2 + 2*(alphabet+1) }
