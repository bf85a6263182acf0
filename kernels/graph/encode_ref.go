package graph

import "math"

// EncodeReference is Encode in float64: the scores of packed graphs with the weights w, and, where dscore is given, the
// gradient of all weights. Only the sizes, flags and offsets of e are used. round is applied to what the bf16 kernels
// round; nil: to nothing.
//
// Without its rounding, a small graph's gradient differs from the bf16 kernels' by whole terms: where a ReLU's input is
// near zero.
func EncodeReference(e Encode, graphs []uint64, w, dscore []float64,
	round func(float64) float64) (score, grad []float64) {
	grad = make([]float64, len(w))
	if round == nil {
		round = func(x float64) float64 { return x }
	}
	for i, packed := range graphs {
		var d []float64
		if dscore != nil {
			d = dscore[i*e.Heads : (i+1)*e.Heads]
		}
		score = append(score, e.graph(packed, w, d, grad, round)...)
	}
	return score, grad
}

// graph does one graph with dense matrices and adds to grad.
func (e Encode) graph(packed uint64, w, dscore, grad []float64, round func(float64) float64) []float64 {
	rounded := func(v []float64) []float64 {
		out := make([]float64, len(v))
		for i, x := range v {
			out[i] = round(x)
		}
		return out
	}
	ops, edges := Unpack(packed)
	nodes, width := max(len(ops), e.Pad), e.Width
	a := make([]float64, nodes*nodes)
	for v := range nodes {
		a[v*nodes+v] = 1
	}
	for _, edge := range edges {
		a[int(edge[1])*nodes+int(edge[0])] = 1
	}
	row := func(v int) int { // of the embedding
		if v < len(ops) {
			return e.Embedding + int(ops[v])*width
		}
		return e.Embedding + (e.Alphabet-1)*width
	}
	matrix := func(k int) []float64 { return w[e.Matrices[k]:][:width*width] }
	h := make([]float64, nodes*width)
	for v := range nodes {
		copy(h[v*width:(v+1)*width], w[row(v):])
	}
	var aggregated, outputs [][]float64 // of each layer
	for k := range e.Layers {
		y := multiply(a, h, nodes, nodes, width)
		var z []float64
		if k == 0 { // the table of products
			z = multiply(a, rounded(multiply(h, matrix(0), nodes, width, width)), nodes, nodes, width)
			h = rounded(h)
		} else {
			y = rounded(y)
			z = multiply(y, rounded(matrix(k)), nodes, width, width)
		}
		for i := range z {
			if len(e.Biases) > 0 {
				z[i] += w[e.Biases[k]+i%width]
			}
			if e.Residual {
				z[i] += h[i]
			}
			if e.relu(k) {
				z[i] = math.Max(z[i], 0)
			}
		}
		h = rounded(z)
		aggregated, outputs = append(aggregated, y), append(outputs, h)
	}
	score, mean := make([]float64, e.Heads), make([]float64, width)
	for i, v := range h {
		mean[i%width] += v / float64(nodes)
	}
	d := make([]float64, nodes*width)
	for s := range e.Heads {
		for j, v := range mean {
			score[s] += v * w[e.Head+s*width+j]
			if dscore != nil {
				grad[e.Head+s*width+j] += round(dscore[s]) * round(v)
			}
		}
		for i := range d {
			if dscore != nil {
				d[i] += dscore[s] * w[e.Head+s*width+i%width] / float64(nodes)
			}
		}
	}
	if dscore == nil {
		return score
	}
	for k := e.Layers - 1; k >= 0; k-- {
		for i, v := range outputs[k] {
			if d[i] = round(d[i]); v <= 0 && e.relu(k) {
				d[i] = 0
			}
			if len(e.Biases) > 0 {
				grad[e.Biases[k]+i%width] += d[i]
			}
		}
		for i, v := range multiply(transposed(aggregated[k], nodes, width), d, width, nodes, width) {
			grad[e.Matrices[k]+i] += v
		}
		daggregated, m := multiply(transposed(a, nodes, nodes), d, nodes, nodes, width), matrix(k)
		if k > 0 {
			daggregated, m = rounded(daggregated), rounded(m)
		}
		next := multiply(daggregated, transposed(m, width, width), nodes, width, width)
		for i := range next {
			if e.Residual {
				next[i] += d[i]
			}
		}
		d = next
	}
	for i, v := range d {
		grad[row(i/width)+i%width] += v
	}
	return score
}

func (e Encode) relu(layer int) bool { return layer < e.Layers-1 || !e.LinearLast }

// multiply is the product of a (m x k) and b (k x n).
func multiply(a, b []float64, m, k, n int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for l := range k {
			for j := range n {
				out[i*n+j] += a[i*k+l] * b[l*n+j]
			}
		}
	}
	return out
}

// transposed is a (m x n) turned over.
func transposed(a []float64, m, n int) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			out[j*m+i] = a[i*n+j]
		}
	}
	return out
}
