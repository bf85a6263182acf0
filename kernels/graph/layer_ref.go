package graph

import "math"

// LayerReference is Layer in float64 for the rows whose neighbors are (ptr, idx, self). bias, matrix and head may be
// nil; round is applied where the bf16 kernels round, nil: nowhere.
func LayerReference(in, own []float64, width int, ptr, idx, self []int32, first int, bias, matrix, head []float64,
	relu bool, round func(float64) float64) (out, outOwn, score []float64) {
	if round == nil {
		round = func(x float64) float64 { return x }
	}
	n := len(self)
	h := make([]float64, n*width)
	for r := range n {
		for j := range width {
			s := own[(int(self[r])-first)*width+j]
			for _, u := range idx[ptr[r]:ptr[r+1]] {
				s += in[(int(u)-first)*width+j]
			}
			if bias != nil {
				s += bias[j]
			}
			if relu {
				s = math.Max(s, 0)
			}
			h[r*width+j] = s
		}
	}
	if head != nil {
		score = multiply(h, transposed(head, len(head)/width, width), n, width, len(head)/width)
	}
	if matrix != nil {
		m := make([]float64, len(matrix))
		for i, v := range matrix {
			m[i] = round(v)
		}
		for i, v := range h {
			h[i] = round(v)
		}
		out = multiply(h, m, n, width, width)
		for i, v := range out {
			out[i] = round(v)
			outOwn = append(outOwn, round(v+h[i]))
		}
	}
	return out, outOwn, score
}
