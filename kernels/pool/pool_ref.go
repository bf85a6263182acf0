package pool

import "math"

// windows calls f for each element of the output with those of the input that its window holds.
func (o *Pool) windows(f func(out int, in []int)) {
	for n := range o.In.N {
		for y := range o.OutH {
			for x := range o.OutW {
				for c := range o.In.C {
					var in []int
					for ky := range o.K {
						for kx := range o.K {
							iy, ix := y*o.Stride-o.Pad+ky, x*o.Stride-o.Pad+kx
							if iy >= 0 && iy < o.In.H && ix >= 0 && ix < o.In.W {
								in = append(in, ((n*o.In.H+iy)*o.In.W+ix)*o.In.C+c)
							}
						}
					}
					f(((n*o.OutH+y)*o.OutW+x)*o.In.C+c, in)
				}
			}
		}
	}
}

// PoolReference is the pooling of a dense tensor in float64 and, with g the gradient in the output, the gradient in the
// input.
func PoolReference(o *Pool, a, g []float64) (out, da []float64) {
	out, da = make([]float64, o.Shape().Len()), make([]float64, len(a))
	o.windows(func(i int, in []int) {
		if !o.Average {
			best := in[0]
			for _, k := range in {
				if a[k] > a[best] {
					best = k
				}
			}
			out[i] = a[best]
			da[best] += g[i]
			return
		}
		share := 1 / float64(len(in))
		if o.CountPad {
			share = 1 / math.Pow(float64(o.K), 2)
		}
		for _, k := range in {
			out[i] += a[k] * share
			da[k] += g[i] * share
		}
	})
	return out, da
}
