package dense

import "github.com/ctnas/ctnas/kernels/philox"

// DropoutReference returns the factor of element i: 0 or 1/keep.
func DropoutReference(keep float32, seed uint64, stream, step uint32, i int) float64 {
	bits := philox.Key{Seed: seed, Purpose: stream}.At(step, uint64(i)/4)[i%4]
	if float32(bits>>8)*0x1p-24 < keep {
		return 1 / float64(keep)
	}
	return 0
}

// RowDotReference is RowDot in float64.
func RowDotReference(out, in, weight []float64, rows, width, heads int) {
	for r := range rows {
		for h := range heads {
			s := 0.0
			for j := range width {
				s += in[r*width+j] * weight[h*width+j]
			}
			out[r*heads+h] = s
		}
	}
}

// RowDotBackwardReference is RowDotBackward in float64; mask may be nil.
func RowDotBackwardReference(dinput, grad, weight, mask []float64, rows, width, heads int) {
	for r := range rows {
		for j := range width {
			s := 0.0
			for h := range heads {
				s += grad[r*heads+h] * weight[h*width+j]
			}
			if mask != nil && mask[r*width+j] <= 0 {
				s = 0
			}
			dinput[r*width+j] = s
		}
	}
}
