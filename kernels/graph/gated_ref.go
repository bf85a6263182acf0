package graph

import "math"

// GatedReference is Gated in float64: it fills out and gates. aggregated and product may be nil.
func GatedReference(out, gates, aggregated, product, table, scale []float64, label []int32, width int) {
	for r, l := range label {
		for j := range width {
			k, i := int(l)*2*width+j, r*2*width+j
			z, t, a := table[k], table[k+width], 0.0
			if aggregated != nil {
				a = aggregated[r*width+j]
				z += scale[k] * product[i]
				t += scale[k+width] * product[i+width]
			}
			z, t = 1/(1+math.Exp(-z)), math.Tanh(t)
			gates[i], gates[i+width] = z, t
			out[r*width+j] = z*t + (1-z)*a
		}
	}
}

// GatedBackwardReference is RecordBackward in float64: it overwrites gates and product and fills dproduct and
// daggregated.
func GatedBackwardReference(gates, product, dproduct, daggregated, aggregated, scale, grad []float64,
	label []int32, width int) {
	for r, l := range label {
		for j := range width {
			k, i := int(l)*2*width+j, r*2*width+j
			z, t, d, a := gates[i], gates[i+width], grad[r*width+j], 0.0
			if aggregated != nil {
				a = aggregated[r*width+j]
				daggregated[r*width+j] = d * (1 - z)
			}
			dz, dt := d*(t-a)*z*(1-z), d*z*(1-t*t)
			gates[i], gates[i+width] = dz, dt
			if aggregated != nil {
				dproduct[i], dproduct[i+width] = dz*scale[k], dt*scale[k+width]
				product[i] *= dz
				product[i+width] *= dt
			}
		}
	}
}
