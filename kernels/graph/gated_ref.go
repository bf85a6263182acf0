package graph

import (
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
)

// GatedReference is Gated in float64: it fills out and overwrites gates with z and t. heard may be nil.
func GatedReference(out, gates, heard, table []float64, label []int32, width int) {
	for r, l := range label {
		for j := range width {
			z, t, a := table[int(l)*2*width+j], table[int(l)*2*width+width+j], 0.0
			if heard != nil {
				a = heard[r*width+j]
				z += gates[r*2*width+j]
				t += gates[r*2*width+width+j]
			}
			z, t = 1/(1+math.Exp(-z)), math.Tanh(t)
			gates[r*2*width+j], gates[r*2*width+width+j] = z, t
			out[r*width+j] = z*t + (1-z)*a
		}
	}
}

// GatedBackwardReference overwrites gates (z and t) with the gradients before the nonlinearities and fills dheard (nil when heard is).
func GatedBackwardReference(gates, dheard, heard, grad []float64, rows, width int) {
	for r := range rows {
		for j := range width {
			z, t, d, a := gates[r*2*width+j], gates[r*2*width+width+j], grad[r*width+j], 0.0
			if heard != nil {
				a = heard[r*width+j]
				dheard[r*width+j] = d * (1 - z)
			}
			gates[r*2*width+j] = d * (t - a) * z * (1 - z)
			gates[r*2*width+width+j] = d * z * (1 - t*t)
		}
	}
}

// DropoutReference returns the factor of element i: 0 or 1/keep.
func DropoutReference(keep float32, seed uint64, stream, step uint32, i int) float64 {
	bits := philox.Key{Seed: seed, Purpose: stream}.At(step, uint64(i)/4)[i%4]
	if float32(bits>>8)*0x1p-24 < keep {
		return 1 / float64(keep)
	}
	return 0
}
