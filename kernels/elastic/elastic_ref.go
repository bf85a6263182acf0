package elastic

// inner lists the taps of a kernel of k x k, without the outermost.
func inner(k int) (taps []int) {
	for y := 1; y < k-1; y++ {
		for x := 1; x < k-1; x++ {
			taps = append(taps, y*k+x)
		}
	}
	return taps
}

// ShrinkReference is Shrink of a dense weight in float64.
func ShrinkReference(k, c int, weight []float64, matrices [][]float64) []float64 {
	for s, m := range matrices {
		taps := inner(k - 2*s)
		next := make([]float64, len(taps)*c)
		for i, tap := range taps {
			for o := range taps {
				for j := range c {
					next[o*c+j] += weight[tap*c+j] * m[i*len(taps)+o]
				}
			}
		}
		weight = next
	}
	return weight
}

// ShrinkBackwardReference are the gradients in the weight and the matrices when dout is that in the result.
func ShrinkBackwardReference(k, c int, weight []float64, matrices [][]float64, dout []float64) (dweight []float64,
	dmatrices [][]float64) {
	if len(matrices) == 0 {
		return dout, nil
	}
	taps, m := inner(k), matrices[0]
	n := len(taps)
	rest, dmatrices := ShrinkBackwardReference(k-2, c, ShrinkReference(k, c, weight, matrices[:1]), matrices[1:], dout)
	dweight, dm := make([]float64, k*k*c), make([]float64, n*n)
	for i, tap := range taps {
		for o := range taps {
			for j := range c {
				dweight[tap*c+j] += m[i*n+o] * rest[o*c+j]
				dm[i*n+o] += weight[tap*c+j] * rest[o*c+j]
			}
		}
	}
	return dweight, append([][]float64{dm}, dmatrices...)
}
