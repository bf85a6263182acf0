package reference

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Loss returns a batch's loss (see nn.Loss) and its derivatives by the network's outputs, ready for Backward. teacher
// is the teacher's logits, nil where there is none.
func (p *Pass) Loss(l nn.Loss, classes []int, teacher []float64) (float64, [][]float64) {
	return p.MixedLoss(l, classes, classes, 1, teacher)
}

// MixedLoss is Loss where each example is mixed: weight of its class and the rest of its partner (Zhang et al. 2018).
func (p *Pass) MixedLoss(l nn.Loss, classes, partners []int, weight float64, teacher []float64) (float64, [][]float64) {
	if len(classes) != p.Batch || len(partners) != p.Batch || (l.Distill > 0) != (teacher != nil) {
		panic(fmt.Sprintf("reference: %d classes of %d examples, %d numbers of a teacher", len(classes), p.Batch,
			len(teacher)))
	}
	total := 0.0
	gradients := make([][]float64, len(p.Net.Outputs))
	for k, out := range p.Net.Outputs {
		logits := p.Logits(k)
		n := len(logits) / p.Batch
		gradients[k] = make([]float64, len(logits))
		for e, class := range classes {
			z, dz := logits[e*n:(e+1)*n], gradients[k][e*n:(e+1)*n]
			target := make([]float64, n)
			for c := range target {
				target[c] = l.Smoothing / float64(n)
			}
			target[class] += (1 - l.Smoothing) * weight
			target[partners[e]] += (1 - l.Smoothing) * (1 - weight)
			if k > 0 || !l.TeacherAlone {
				total += crossEntropy(dz, target, z, 1, out.Weight/float64(p.Batch))
			}
			if k == 0 && l.Distill > 0 {
				t := l.Temperature
				soft := softmax(teacher[e*n:(e+1)*n], t)
				total += crossEntropy(dz, soft, z, t, l.Distill*t*t/float64(p.Batch))
			}
		}
	}
	return total, gradients
}

// crossEntropy returns weight * H(target, z / temperature) and adds its derivative by z to dz.
func crossEntropy(dz, target, z []float64, temperature, weight float64) float64 {
	p := softmax(z, temperature)
	h := 0.0
	for c := range z {
		h -= target[c] * math.Log(p[c])
		dz[c] += weight * (p[c] - target[c]) / temperature
	}
	return weight * h
}

func softmax(z []float64, temperature float64) []float64 {
	largest := math.Inf(-1)
	for _, v := range z {
		largest = math.Max(largest, v)
	}
	p := make([]float64, len(z))
	sum := 0.0
	for c, v := range z {
		p[c] = math.Exp((v - largest) / temperature)
		sum += p[c]
	}
	for c := range p {
		p[c] /= sum
	}
	return p
}
