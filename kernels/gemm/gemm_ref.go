package gemm

// OpReference computes c = a b (or the transposed forms of Op) in float64, for reading and for tests. Shapes as in Op.
func OpReference(c, a, b []float64, m, n, k int, transA, transB, accumulate bool) {
	rows, sum := m, k
	if transA {
		rows, sum = k, m
	}
	for i := range rows {
		for j := range n {
			s := 0.0
			if accumulate {
				s = c[i*n+j]
			}
			for l := range sum {
				x, y := i*k+l, l*n+j
				if transA {
					x = l*k + i
				}
				if transB {
					y = j*k + l
				}
				s += a[x] * b[y]
			}
			c[i*n+j] = s
		}
	}
}
