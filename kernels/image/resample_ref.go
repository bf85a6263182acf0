package image

import "math"

// WeightReference is the weight of source sample s in output sample o of n, where samples begin..end-1 of the source
// are the whole of it: Pillow's antialiasing filters by their definitions, in float64.
func WeightReference(f Filter, o, n, s, begin, end int) float64 {
	step := float64(end-begin) / float64(n)
	scale := math.Max(step, 1)
	centre := float64(begin) + (float64(o)+0.5)*step
	weight := func(s int) float64 {
		x := math.Abs(float64(s)+0.5-centre) / scale
		const a = -0.5
		switch {
		case f == Bilinear:
			return math.Max(0, 1-x)
		case x < 1:
			return (a+2)*x*x*x - (a+3)*x*x + 1
		case x < 2:
			return a*x*x*x - 5*a*x*x + 8*a*x - 4*a
		}
		return 0
	}
	var sum float64
	for i := begin; i < end; i++ {
		sum += weight(i)
	}
	return weight(s) / sum
}

// ResampleReference resizes the pixels [x0,x1) x [y0,y1) of an RGB image, stride bytes a row, to h rows of w pixels.
func ResampleReference(f Filter, pix []byte, stride, x0, y0, x1, y1, w, h int) []float64 {
	table := func(n, begin, end int) [][]float64 { // [output][source sample - begin]
		out := make([][]float64, n)
		for o := range out {
			for s := begin; s < end; s++ {
				out[o] = append(out[o], WeightReference(f, o, n, s, begin, end))
			}
		}
		return out
	}
	wy, wx := table(h, y0, y1), table(w, x0, x1)
	out := make([]float64, h*w*3)
	for y := range h {
		for x := range w {
			for i, v := range wy[y] {
				if v == 0 {
					continue
				}
				for j, u := range wx[x] {
					for c := range 3 {
						out[(y*w+x)*3+c] += v * u * float64(pix[(y0+i)*stride+3*(x0+j)+c])
					}
				}
			}
		}
	}
	return out
}
