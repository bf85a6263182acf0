package graph

import "math"

// EncodeReference is Encode in float64: the scores of packed graphs with the weights w, and, where dscore is given, the gradient of all weights.
// Only the sizes, flags and offsets of e are used.
func EncodeReference(e Encode, graphs []uint64, w, dscore []float64) (score, grad []float64) {
	grad = make([]float64, len(w))
	for i, packed := range graphs {
		var d []float64
		if dscore != nil {
			d = dscore[i*e.Heads : (i+1)*e.Heads]
		}
		score = append(score, e.graph(packed, w, d, grad)...)
	}
	return score, grad
}

// graph does one graph with dense matrices and adds to grad.
func (e Encode) graph(packed uint64, w, dscore, grad []float64) []float64 {
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
	h := make([]float64, nodes*width)
	for v := range nodes {
		copy(h[v*width:(v+1)*width], w[row(v):])
	}
	var heard, outputs [][]float64 // of each layer
	for k := range e.Layers {
		y := multiply(a, h, nodes, nodes, width)
		z := multiply(y, w[e.Matrices[k]:], nodes, width, width)
		for i := range z {
			if len(e.Biases) > 0 {
				z[i] += w[e.Biases[k]+i%width]
			}
			if e.Residual {
				z[i] += h[i]
			}
			if k < e.Layers-1 || !e.LinearLast {
				z[i] = math.Max(z[i], 0)
			}
		}
		heard, outputs = append(heard, y), append(outputs, z)
		h = z
	}
	score := make([]float64, e.Heads)
	d := make([]float64, nodes*width)
	for s := range e.Heads {
		for i, v := range h {
			at := e.Head + s*width + i%width
			score[s] += v * w[at] / float64(nodes)
			if dscore != nil {
				d[i] += dscore[s] * w[at] / float64(nodes)
				grad[at] += dscore[s] * v / float64(nodes)
			}
		}
	}
	if dscore == nil {
		return score
	}
	for k := e.Layers - 1; k >= 0; k-- {
		if k < e.Layers-1 || !e.LinearLast {
			for i, v := range outputs[k] {
				if v <= 0 {
					d[i] = 0
				}
			}
		}
		for i, v := range d {
			if len(e.Biases) > 0 {
				grad[e.Biases[k]+i%width] += v
			}
		}
		for i, v := range multiply(transposed(heard[k], nodes, width), d, width, nodes, width) {
			grad[e.Matrices[k]+i] += v
		}
		back := multiply(transposed(a, nodes, nodes), d, nodes, nodes, width)
		next := multiply(back, transposed(w[e.Matrices[k]:], width, width), nodes, width, width)
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
