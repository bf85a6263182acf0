package graph

// GatherReference is Gather in float64. Optional arguments may be nil. in has any number of rows of width.
func GatherReference(out, in []float64, rows, width int, ptr, idx []int32, weight, bias, add []float64, addIdx []int32,
	mask []float64, relu, accumulate bool) {
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
