package graph

// GatherReference is Gather in float64. Optional arguments may be nil. in has any number of rows of width.
func GatherReference(out, in []float64, rows, width int, ptr, idx []int32, weight, bias, add []float64, addIdx []int32, mask []float64, relu, accumulate bool) {
	for r := range rows {
		for j := range width {
			s := 0.0
			if bias != nil {
				s = bias[j]
			}
			for e := ptr[r]; e < ptr[r+1]; e++ {
				w := 1.0
				if weight != nil {
					w = weight[e]
				}
				s += w * in[int(idx[e])*width+j]
			}
			if add != nil {
				k := r
				if addIdx != nil {
					k = int(addIdx[r])
				}
				s += add[k*width+j]
			}
			if relu && s < 0 || mask != nil && mask[r*width+j] <= 0 {
				s = 0
			}
			if accumulate {
				s += out[r*width+j]
			}
			out[r*width+j] = s
		}
	}
}

// RowDotReference is RowDot in float64.
func RowDotReference(out, in, weight []float64, rows, width, heads int) {
	for r := range rows {
		for h := range heads {
			s := 0.0
			for j := range width {
				s += in[r*width+j] * weight[h*width+j]
			}
			out[r*heads+h] = s
		}
	}
}

// RowDotBackwardReference is RowDotBackward in float64; mask may be nil.
func RowDotBackwardReference(dinput, grad, weight, mask []float64, rows, width, heads int) {
	for r := range rows {
		for j := range width {
			s := 0.0
			for h := range heads {
				s += grad[r*heads+h] * weight[h*width+j]
			}
			if mask != nil && mask[r*width+j] <= 0 {
				s = 0
			}
			dinput[r*width+j] = s
		}
	}
}
