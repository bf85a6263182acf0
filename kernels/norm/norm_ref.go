package norm

import "math"

// BatchReference is batch norm of z (pixels x c) in float64, in two passes: u = gamma (z-mean)/sqrt(var+eps) + beta.
func BatchReference(z, gamma, beta []float64, eps float64) (u, mean, variance []float64) {
	c := len(gamma)
	n := float64(len(z) / c)
	u, mean, variance = make([]float64, len(z)), make([]float64, c), make([]float64, c)
	for i, v := range z {
		mean[i%c] += v / n
	}
	for i, v := range z {
		variance[i%c] += (v - mean[i%c]) * (v - mean[i%c]) / n
	}
	for i, v := range z {
		u[i] = gamma[i%c]*(v-mean[i%c])/math.Sqrt(variance[i%c]+eps) + beta[i%c]
	}
	return u, mean, variance
}

// Follow is the running mean and variance of a channel behind a batch of n numbers.
func (r Running) Follow(mean, variance, batchMean, batchVariance float64, n int) (float64, float64) {
	if !r.Biased && n > 1 {
		batchVariance *= float64(n) / float64(n-1)
	}
	return mean + r.Momentum*(batchMean-mean), variance + r.Momentum*(batchVariance-variance)
}

// BatchBackwardReference are the gradients in z, gamma and beta when g is that in u; frozen: mean and variance are
// constants.
func BatchBackwardReference(z, gamma, g, mean, variance []float64, eps float64, frozen bool) (dz,
	dgamma, dbeta []float64) {
	c := len(gamma)
	n := float64(len(z) / c)
	dz, dgamma, dbeta = make([]float64, len(z)), make([]float64, c), make([]float64, c)
	zhat := func(i int) float64 { return (z[i] - mean[i%c]) / math.Sqrt(variance[i%c]+eps) }
	for i, v := range g {
		dgamma[i%c] += v * zhat(i)
		dbeta[i%c] += v
	}
	for i, v := range g {
		if !frozen {
			v -= (dbeta[i%c] + zhat(i)*dgamma[i%c]) / n
		}
		dz[i] = gamma[i%c] / math.Sqrt(variance[i%c]+eps) * v
	}
	return dz, dgamma, dbeta
}
