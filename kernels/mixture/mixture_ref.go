package mixture

import (
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
)

// NoiseReference is the noise of n elements in float64.
func NoiseReference(seed uint64, step uint32, n int) []float64 {
	noise := make([]float64, n)
	for i := range noise {
		bits := philox.Key{Seed: seed, Purpose: philox.PurposeGumbel}.At(step, uint64(i))[0]
		noise[i] = -math.Log(-math.Log((float64(bits>>8) + 0.5) / (1 << 24)))
	}
	return noise
}

// SoftenReference are the weights of alpha, with its noise, in float64.
func SoftenReference(begin []int, alpha []float64, temperature float64) []float64 {
	weights := make([]float64, len(alpha))
	for r, from := range begin[:len(begin)-1] {
		sum := 0.0
		for _, a := range alpha[from:begin[r+1]] {
			sum += math.Exp(a / temperature)
		}
		for i := from; i < begin[r+1]; i++ {
			weights[i] = math.Exp(alpha[i]/temperature) / sum
		}
	}
	return weights
}

// BackwardReference is the gradient in alpha when grad is that in the weights.
func BackwardReference(begin []int, weights, grad []float64, temperature float64) []float64 {
	out := make([]float64, len(weights))
	for r, from := range begin[:len(begin)-1] {
		for i := from; i < begin[r+1]; i++ {
			for j := from; j < begin[r+1]; j++ {
				slope := -weights[i] * weights[j] // of weight j in alpha i
				if i == j {
					slope += weights[i]
				}
				out[i] += grad[j] * slope / temperature
			}
		}
	}
	return out
}

// CostReference is the objective of Backward with a cost, and its gradient in the weights when grad is that of loss.
func CostReference(weights, grad, cost []float64, loss, scale, exponent float64) (objective float64, out []float64) {
	all := 0.0
	for i, w := range weights {
		all += w * cost[i]
	}
	factor := scale * math.Pow(math.Log(all), exponent)
	for i, g := range grad {
		out = append(out, factor*g+loss*scale*exponent*math.Pow(math.Log(all), exponent-1)/all*cost[i])
	}
	return loss * factor, out
}
