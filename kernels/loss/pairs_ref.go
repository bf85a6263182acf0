package loss

import "math"

// AllPairsReference is AllPairs in float64: it returns the loss and the bias's gradient and fills dscore (n x heads).
// noise may be nil.
func AllPairsReference(score, label, noise, dscore []float64, heads int, bias float64, kind Kind, margin,
	tie float64) (loss, dbias float64) {
	n := len(label)
	clear(dscore)
	pairs := float64(n * (n - 1) / 2 * heads)
	for i := range n {
		for j := range n {
			if i == j || heads == 1 && j > i {
				continue
			}
			z, dy := score[heads*i], label[i]-label[j]
			if heads == 1 {
				z -= score[j]
			} else {
				z += score[2*j+1] + bias
			}
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
				t := tie
				if dy != 0 || noise != nil {
					t = target(dy, noise, i, j)
				}
				l, slope = crossEntropy(z, t)
			}
			loss += l / pairs
			dscore[heads*i] += slope / pairs
			if heads == 1 {
				dscore[j] -= slope / pairs
			} else {
				dscore[2*j+1] += slope / pairs
				dbias += slope / pairs
			}
		}
	}
	return
}

func target(dy float64, noise []float64, i, j int) float64 {
	switch {
	case noise != nil:
		return 1 / (1 + math.Exp(-1.702*dy/math.Hypot(noise[i], noise[j])))
	case dy > 0:
		return 1
	}
	return 0
}

// crossEntropy returns the loss of a logit against a target and its derivative.
func crossEntropy(z, target float64) (loss, slope float64) {
	return math.Log1p(math.Exp(-math.Abs(z))) + math.Max(z, 0) - target*z, 1/(1+math.Exp(-z)) - target
}

// PairListReference is PairList in float64; weight may be nil. It returns the loss and the bias's gradient and adds to
// dscore.
func PairListReference(score []float64, bias float64, a, b []int32, targets, weight, dscore []float64, heads int,
	scale float64) (loss, dbias float64) {
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
