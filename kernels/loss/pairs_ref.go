package loss

import "math"

// AllPairsReference is AllPairs in float64: it returns the loss and fills dscore. noise may be nil.
func AllPairsReference(score, label, noise, dscore []float64, kind Kind, margin float64) float64 {
	n := len(score)
	clear(dscore)
	total, pairs := 0.0, float64(n*(n-1)/2)
	for i := range n {
		for j := range i {
			z, dy := score[i]-score[j], label[i]-label[j]
			var l, slope float64
			switch kind {
			case Hinge:
				sign := float64(0)
				if dy != 0 {
					sign = math.Copysign(1, dy)
				}
				if gap := margin - sign*z; gap > 0 && sign != 0 {
					l, slope = gap, -sign
				}
			default:
				l, slope = crossEntropy(z, target(dy, noise, i, j))
			}
			total += l / pairs
			dscore[i] += slope / pairs
			dscore[j] -= slope / pairs
		}
	}
	return total
}

func target(dy float64, noise []float64, i, j int) float64 {
	switch {
	case noise != nil:
		return 1 / (1 + math.Exp(-1.702*dy/math.Hypot(noise[i], noise[j])))
	case dy > 0:
		return 1
	case dy < 0:
		return 0
	}
	return 0.5
}

// crossEntropy returns the loss of a logit against a target and its derivative.
func crossEntropy(z, target float64) (loss, slope float64) {
	return math.Log1p(math.Exp(-math.Abs(z))) + math.Max(z, 0) - target*z, 1/(1+math.Exp(-z)) - target
}

// PairListReference is PairList in float64; weight may be nil. It returns the loss and the bias's gradient and adds to dscore.
func PairListReference(score []float64, bias float64, a, b []int32, targets, weight, dscore []float64, heads int, scale float64) (loss, dbias float64) {
	sum := 0.0
	for k := range a {
		sum += at(weight, k)
	}
	for k := range a {
		i, j := int(a[k]), int(b[k])
		z := 0.0
		if heads == 1 {
			z = score[i] - score[j]
		} else {
			z = score[2*i] + score[2*j+1] + bias
		}
		l, slope := crossEntropy(z, targets[k])
		w := at(weight, k) * scale / sum
		loss += l * w
		dscore[heads*i] += slope * w
		if heads == 1 {
			dscore[j] -= slope * w
		} else {
			dscore[2*j+1] += slope * w
			dbias += slope * w
		}
	}
	return
}

func at(weight []float64, k int) float64 {
	if weight == nil {
		return 1
	}
	return weight[k]
}
