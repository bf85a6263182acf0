package loss

import (
	"cmp"
	"math"
	"slices"
)

// ClassesReference is Classes in float64. It returns the loss, its gradient in the logits and the three counts.
func ClassesReference(l Classes, logit, teacher []float64, label []int32) (loss float64, grad []float64, count [3]int) {
	grad = make([]float64, len(logit))
	for _, y := range label {
		if y >= 0 {
			count[0]++
		}
	}
	scale := float64(l.Scale) / float64(max(1, count[0]))
	for r, y := range label {
		if y < 0 {
			continue
		}
		x := logit[r*l.Classes : (r+1)*l.Classes]
		p := softmax(x, 1)
		weight, t := 0.0, 1.0
		if teacher != nil {
			weight, t = float64(l.Weight), float64(l.Temperature)
		}
		for i := range x {
			target := float64(l.Smoothing) / float64(l.Classes)
			if i == int(y) {
				target += 1 - float64(l.Smoothing)
			}
			loss -= scale * (1 - weight) * target * math.Log(p[i])
			grad[r*l.Classes+i] = scale * (1 - weight) * (p[i] - target)
		}
		switch place := slices.Index(answers(x), int(y)); {
		case place == 0:
			count[1]++
			count[2]++
		case 0 < place && place < 5:
			count[2]++
		}
		if teacher == nil {
			continue
		}
		q, s := softmax(teacher[r*l.Classes:(r+1)*l.Classes], t), softmax(x, t)
		for i := range x {
			loss += scale * weight * t * t * q[i] * math.Log(q[i]/s[i])
			grad[r*l.Classes+i] += scale * weight * t * (s[i] - q[i])
		}
	}
	return loss, grad, count
}

// answers are the classes from the most likely on. Equal ones keep the classes' order, and where there is a NaN there
// is no answer.
func answers(x []float64) []int {
	if slices.ContainsFunc(x, math.IsNaN) {
		return nil
	}
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x[b], x[a]) })
	return order
}

func softmax(x []float64, t float64) []float64 {
	out, sum, most := make([]float64, len(x)), 0.0, math.Inf(-1)
	for _, v := range x {
		most = math.Max(most, v)
	}
	for i, v := range x {
		out[i] = math.Exp((v - most) / t)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
