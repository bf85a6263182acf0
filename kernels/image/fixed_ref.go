package image

import "math"

// FixedReference is ResampleFixed by its definition, in whole numbers: each row is resized and rounded to 64ths, then
// the columns of that.
func FixedReference(src Source, y, x *Axis, scale, zero [3]float32) []float32 {
	whole := func(a *Axis, i int) []int {
		w := make([]int, a.Taps)
		left, top := 1<<14, 0
		for t := range w {
			w[t] = int(math.Round(float64(a.Weight[i*a.Taps+t]) * (1 << 14)))
			left -= w[t]
			if w[t] > w[top] {
				top = t
			}
		}
		w[top] += left
		return w
	}
	var out []float32
	for oy := range y.First {
		wy := whole(y, oy)
		for ox := range x.First {
			wx := whole(x, ox)
			for c := range 3 {
				sum := -int(math.Round(float64(zero[c]) * (1 << 20)))
				for ty, v := range wy {
					row := 1 << 7
					for tx, u := range wx {
						row += u * int(src.Pix[(int(y.First[oy])+ty)*src.Stride+3*(int(x.First[ox])+tx)+c])
					}
					sum += v * (row >> 8)
				}
				out = append(out, float32(sum)*(scale[c]/(1<<20)))
			}
		}
	}
	return out
}
