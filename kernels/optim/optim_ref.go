package optim

import "math"

// AdamReference is one update in float64: t counts updates from 1, scale multiplies the gradient. Fields as in Adam.
func AdamReference(op Adam, w, g, m, v []float64, lr, scale float64, t int) {
	for i := range w {
		grad := scale * g[i]
		if op.Decoupled {
			w[i] *= 1 - lr*op.WeightDecay
		} else {
			grad += op.WeightDecay * w[i]
		}
		m[i] = op.Beta1*m[i] + (1-op.Beta1)*grad
		v[i] = op.Beta2*v[i] + (1-op.Beta2)*grad*grad
		mean := m[i] / (1 - math.Pow(op.Beta1, float64(t)))
		square := v[i] / (1 - math.Pow(op.Beta2, float64(t)))
		w[i] -= lr * mean / (math.Sqrt(square) + op.Eps)
	}
}

// SGDReference is one update in float64. mask holds each weight's factor of the decay.
func SGDReference(op SGD, w, g, v, mask []float64, lr, scale float64) {
	for i := range w {
		grad := decayReference(&w[i], scale*g[i], lr, op.WeightDecay*mask[i], op.Decoupled)
		v[i] = op.Momentum*v[i] + grad
		if op.Nesterov {
			w[i] -= lr * (grad + op.Momentum*v[i])
		} else {
			w[i] -= lr * v[i]
		}
	}
}

// RMSPropReference is one update in float64.
func RMSPropReference(op RMSProp, w, g, v, square, mask []float64, lr, scale float64) {
	for i := range w {
		grad := decayReference(&w[i], scale*g[i], lr, op.WeightDecay*mask[i], op.Decoupled)
		square[i] = op.Rho*square[i] + (1-op.Rho)*grad*grad
		v[i] = op.Momentum*v[i] + lr*grad/math.Sqrt(square[i]+op.Eps)
		w[i] -= v[i]
	}
}

func decayReference(w *float64, g, lr, decay float64, decoupled bool) float64 {
	if decoupled {
		*w *= 1 - lr*decay
		return g
	}
	return g + decay**w
}

// NormReference is the norm and the factor of Norm.
func NormReference(g []float64, limit float64) (norm, factor float64) {
	for _, v := range g {
		norm += v * v
	}
	norm = math.Sqrt(norm)
	if limit == 0 {
		return norm, 1
	}
	return norm, math.Min(1, limit/(norm+1e-6))
}

// ClampReference is Clamp in float64.
func ClampReference(g []float64, limit float64) {
	for i, v := range g {
		if math.Abs(v) > limit {
			g[i] = math.Copysign(limit, v)
		}
	}
}

// At is the learning rate of the update that follows `step` updates.
func (s Schedule) At(step int) float64 {
	if step < s.Warmup {
		return s.Peak * float64(step+1) / float64(s.Warmup)
	}
	if s.Kind == Constant {
		return s.Peak
	}
	done := 1.0
	if s.Total > s.Warmup {
		done = math.Min(1, float64(step-s.Warmup)/float64(s.Total-s.Warmup))
	}
	if s.Kind == Linear {
		return s.Peak + (s.Final-s.Peak)*done
	}
	return s.Final + (s.Peak-s.Final)*(1+math.Cos(math.Pi*done))/2
}
