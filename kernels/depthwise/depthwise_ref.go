package depthwise

// each calls f for every product: an element of the output, of the input and of the weight.
func (c Conv) each(f func(out, in, weight int)) {
	c = c.defaults()
	for n := range c.In.N {
		for oy := range c.OutH {
			for ox := range c.OutW {
				for ky := range c.K {
					for kx := range c.K {
						y, x := oy*c.Stride-c.PadH+ky*c.Dilation, ox*c.Stride-c.PadW+kx*c.Dilation
						if y < 0 || y >= c.In.H || x < 0 || x >= c.In.W {
							continue
						}
						for i := range c.In.C {
							f(((n*c.OutH+oy)*c.OutW+ox)*c.In.C+i, ((n*c.In.H+y)*c.In.W+x)*c.In.C+i,
								(ky*c.K+kx)*c.In.C+i)
						}
					}
				}
			}
		}
	}
}

// ConvReference is the convolution of a dense input in float64.
func ConvReference(c Conv, in, weight []float64) []float64 {
	out := make([]float64, c.Shape().Len())
	c.each(func(o, i, w int) { out[o] += in[i] * weight[w] })
	return out
}

// ConvBackwardReference are the gradients in the input and the weight when dz is that in the output.
func ConvBackwardReference(c Conv, in, weight, dz []float64) (din, dweight []float64) {
	din, dweight = make([]float64, len(in)), make([]float64, len(weight))
	c.each(func(o, i, w int) {
		din[i] += dz[o] * weight[w]
		dweight[w] += dz[o] * in[i]
	})
	return din, dweight
}
