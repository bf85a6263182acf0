package image

import "math"

// RegionsReference is Regions by its definition, in float64: the images [len(draws), side, side, 3] of draws, whose
// regions are values from 0 to 255; a nil region is no image. weight is that of an image in its mixture.
func (o Regions) RegionsReference(draws []Draw, regions [][]float64, side int, weight float64) []float64 {
	var out []float64
	for i := range draws {
		image := make([]float64, side*side*3)
		if regions[i] != nil {
			o.image(image, &draws[i], regions[i], side)
		}
		out = append(out, image...)
	}
	n := side * side * 3
	for i, j := 0, len(draws)-1; o.Mix && i < j; i, j = i+1, j-1 {
		for k := range n {
			a, b := out[i*n+k], out[j*n+k]
			out[i*n+k], out[j*n+k] = weight*a+(1-weight)*b, weight*b+(1-weight)*a
		}
	}
	return out
}

// weights are those of the samples for output number i, by sample; nil: it is black.
func (s *Span) weights(f Filter, shrink, i int) map[int]float64 {
	if i += s.At; i < 0 || i >= s.Full {
		return nil
	}
	k := float64(shrink)
	step := float64(s.Length) / k / float64(s.Full)
	centre, scale := float64(s.Lo)/k+(float64(i)+0.5)*step, math.Max(step, 1)
	w, sum := map[int]float64{}, 0.0
	for t := s.Begin; t < s.End; t++ {
		x := math.Abs(float64(t)+0.5-centre) / scale
		v := math.Max(0, 1-x)
		if a := -0.5; f == Bicubic {
			switch {
			case x < 1:
				v = (a+2)*x*x*x - (a+3)*x*x + 1
			case x < 2:
				v = a*x*x*x - 5*a*x*x + 8*a*x - 4*a
			default:
				v = 0
			}
		}
		if v != 0 {
			w[t] = v
			sum += v
		}
	}
	for t := range w {
		w[t] /= sum
	}
	return w
}

func (o Regions) image(out []float64, d *Draw, region []float64, side int) {
	grey := func(v []float64) float64 { return 0.299*v[0] + 0.587*v[1] + 0.114*v[2] }
	blend := func(v []float64, factor, level float64) {
		for c := range v {
			v[c] = math.Max(0, math.Min(255, level+factor*(v[c]-level)))
		}
	}
	columns := make([]map[int]float64, side)
	for x := range columns {
		columns[x] = d.X.weights(o.Filter, d.Shrink, x)
		if d.Flip {
			columns[x] = d.X.weights(o.Filter, d.Shrink, side-1-x)
		}
	}
	for y := range side {
		rows := d.Y.weights(o.Filter, d.Shrink, y)
		for x := range side {
			v := out[3*(y*side+x):][:3]
			for j, wy := range rows {
				for k, wx := range columns[x] {
					for c := range v {
						v[c] += wy * wx * region[3*(j*d.Width+k)+c]
					}
				}
			}
			for c := range v {
				v[c] = math.Max(0, math.Min(255, v[c]))
			}
		}
	}
	for step, colour := range d.Colours {
		factor, mean := float64(d.Factors[step]), 0.0
		for p := 0; p < len(out); p += 3 {
			mean += grey(out[p:p+3]) / float64(side*side)
		}
		for p := 0; p < len(out); p += 3 {
			switch v := out[p : p+3]; colour {
			case Brightness:
				blend(v, factor, 0)
			case Contrast:
				blend(v, factor, mean)
			case Saturation:
				blend(v, factor, grey(v))
			}
		}
	}
	for y := range side {
		for x := range side {
			for c := range 3 {
				v := &out[3*(y*side+x)+c]
				*v = float64(o.Scale[c])*(*v) + float64(o.Bias[c])
				if x >= d.Cut.Min.X && x < d.Cut.Max.X && y >= d.Cut.Min.Y && y < d.Cut.Max.Y {
					*v = 0
				}
			}
		}
	}
}
