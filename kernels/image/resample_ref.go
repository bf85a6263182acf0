package image

import "math"

// ReferenceBilinear is the weight of source sample s in output sample o of n, where samples begin..end-1 of the source are the whole of
// it: Pillow's antialiasing triangle filter by its definition, in float64.
func ReferenceBilinear(o, n, s, begin, end int) float64 {
	step := float64(end-begin) / float64(n)
	reach := math.Max(step, 1)
	centre := float64(begin) + (float64(o)+0.5)*step
	weight := func(s int) float64 { return math.Max(0, 1-math.Abs(float64(s)+0.5-centre)/reach) }
	var sum float64
	for i := begin; i < end; i++ {
		sum += weight(i)
	}
	return weight(s) / sum
}

// ReferenceResample resizes the pixels [x0,x1) x [y0,y1) of an RGB image, stride bytes a row, to h rows of w pixels.
func ReferenceResample(pix []byte, stride, x0, y0, x1, y1, w, h int) []float64 {
	out := make([]float64, h*w*3)
	for y := range h {
		for x := range w {
			for sy := y0; sy < y1; sy++ {
				wy := ReferenceBilinear(y, h, sy, y0, y1)
				if wy == 0 {
					continue
				}
				for sx := x0; sx < x1; sx++ {
					wx := wy * ReferenceBilinear(x, w, sx, x0, x1)
					for c := range 3 {
						out[(y*w+x)*3+c] += wx * float64(pix[sy*stride+3*sx+c])
					}
				}
			}
		}
	}
	return out
}
