package reference

import (
	"math"

	"github.com/ctnas/ctnas/trainer/nn"
)

// convolution is a convolution with its shapes.
type convolution struct {
	nn.Conv
	batch   int
	in, out nn.Shape
}

func (p *Pass) conv(i int, op nn.Conv) convolution {
	return convolution{op, p.Batch, p.Net.Inputs(i)[0], p.Net.Nodes[i].Shape}
}

// products visits every product of an input element and a weight, with the output element it belongs to.
func (c convolution) products(visit func(out, in, weight int)) {
	groupIn, groupOut := c.in.C/c.Groups, c.out.C/c.Groups
	for n := range c.batch {
		for y := range c.out.H {
			for x := range c.out.W {
				for a := range c.Kernel.H {
					for b := range c.Kernel.W {
						v, u := y*c.Stride.H-c.Pad.Top+a*c.Dilation, x*c.Stride.W-c.Pad.Left+b*c.Dilation
						if v < 0 || v >= c.in.H || u < 0 || u >= c.in.W {
							continue
						}
						out, in := ((n*c.out.H+y)*c.out.W+x)*c.out.C, ((n*c.in.H+v)*c.in.W+u)*c.in.C
						for i := range groupIn {
							weight := ((a*c.Kernel.W+b)*groupIn + i) * c.out.C
							for o := range c.out.C {
								visit(out+o, in+o/groupOut*groupIn+i, weight+o)
							}
						}
					}
				}
			}
		}
	}
}

func (c convolution) forward(y, x, w []float64) {
	c.products(func(out, in, weight int) { y[out] += x[in] * w[weight] })
}

func (c convolution) backward(dx, dw, dy, x, w []float64) {
	c.products(func(out, in, weight int) {
		dx[in] += dy[out] * w[weight]
		dw[weight] += dy[out] * x[in]
	})
}

// linearForward is y = x w for a batch of rows; w is inputs x outputs.
func linearForward(y, x, w []float64, batch int) {
	in, out := len(x)/batch, len(y)/batch
	for n := range batch {
		for i := range in {
			for o := range out {
				y[n*out+o] += x[n*in+i] * w[i*out+o]
			}
		}
	}
}

func linearBackward(dx, dw, dy, x, w []float64, batch int) {
	in, out := len(x)/batch, len(dy)/batch
	for n := range batch {
		for i := range in {
			for o := range out {
				dx[n*in+i] += dy[n*out+o] * w[i*out+o]
				dw[i*out+o] += dy[n*out+o] * x[n*in+i]
			}
		}
	}
}

// addBias adds a number to each channel, sumBias sums each channel.
func addBias(y, bias []float64) {
	for k := range y {
		y[k] += bias[k%len(bias)]
	}
}

func sumBias(dbias, dy []float64) {
	for k := range dy {
		dbias[k%len(dbias)] += dy[k]
	}
}

// statistic is what a batch norm normalises with, and whether it comes from the batch.
type statistic struct {
	mean, inverse []float64 // of each channel: mean and 1 / sqrt(variance + eps)
	variance      []float64 // of the batch, mean squared deviation; nil where the running statistics are used
	count         int       // elements a channel
}

func (p *Pass) statistic(i int, op nn.BatchNorm) statistic {
	x, channels := p.Outputs[p.Net.Nodes[i].In[0]], p.Net.Nodes[i].Shape.C
	s := statistic{mean: make([]float64, channels), inverse: make([]float64, channels), count: len(x) / channels}
	variance := p.value(i, op.Statistics()+1)
	if p.Train && !op.Frozen {
		s.variance = make([]float64, channels)
		for k, v := range x {
			s.mean[k%channels] += v / float64(s.count)
		}
		for k, v := range x {
			d := v - s.mean[k%channels]
			s.variance[k%channels] += d * d / float64(s.count)
		}
		variance = s.variance
	} else {
		copy(s.mean, p.value(i, op.Statistics()))
	}
	for c := range s.inverse {
		s.inverse[c] = 1 / math.Sqrt(variance[c]+op.Eps)
	}
	return s
}

// affine is a batch norm's scale and shift, ones and zeros where it has none.
func (p *Pass) affine(i int, op nn.BatchNorm) (scale, shift []float64) {
	if !op.NoAffine {
		return p.value(i, 0), p.value(i, 1)
	}
	scale, shift = make([]float64, p.Net.Nodes[i].Shape.C), make([]float64, p.Net.Nodes[i].Shape.C)
	for c := range scale {
		scale[c] = 1
	}
	return scale, shift
}

func (s statistic) forward(y, x, scale, shift []float64) {
	for k := range y {
		c := k % len(s.mean)
		y[k] = scale[c]*(x[k]-s.mean[c])*s.inverse[c] + shift[c]
	}
}

// backward uses that with z = (x - mean) * inverse, dx = scale * inverse * (dy - mean of dy - z * mean of dy z),
// without the two means where the statistics are constants.
func (s statistic) backward(dx, dscale, dshift, dy, x, scale []float64) {
	channels := len(s.mean)
	z := func(k int) float64 { return (x[k] - s.mean[k%channels]) * s.inverse[k%channels] }
	sum, product := make([]float64, channels), make([]float64, channels)
	for k := range dy {
		sum[k%channels] += dy[k]
		product[k%channels] += dy[k] * z(k)
	}
	addTo(dshift, sum)
	addTo(dscale, product)
	for k := range dx {
		c := k % channels
		d := dy[k]
		if s.variance != nil {
			d -= (sum[c] + z(k)*product[c]) / float64(s.count)
		}
		dx[k] += scale[c] * s.inverse[c] * d
	}
}

// UpdateStatistics moves the running statistics of the model towards those of a training pass (see nn.BatchNorm). A
// channel of one element has no unbiased variance; its own, 0, is taken.
func (p *Pass) UpdateStatistics() {
	for i, s := range p.stats {
		if s.variance == nil {
			continue
		}
		op := p.Net.Nodes[i].Op.(nn.BatchNorm)
		m := op.Momentum
		unbiased := float64(s.count) / math.Max(1, float64(s.count-1))
		mean, variance := p.value(i, op.Statistics()), p.value(i, op.Statistics()+1)
		for c := range mean {
			mean[c] = (1-m)*mean[c] + m*s.mean[c]
			variance[c] = (1-m)*variance[c] + m*unbiased*s.variance[c]
		}
	}
}
