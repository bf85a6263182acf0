package dense

import "math"

// RadialReference is Radial in float64, from the centers [centers, width] themselves.
func RadialReference(out, in, center, weight []float64, width int, scale float64) {
	for r := range out {
		out[r] = 0
		for c, w := range weight {
			d := 0.0
			for j := range width {
				x := in[r*width+j] - center[c*width+j]
				d += x * x
			}
			out[r] += w * math.Exp(-math.Pow(scale*d, 0.75))
		}
	}
}
