package loss

// MixupReference is the loss of Classes, without a teacher, in float64 where each row's target is weight of its label
// and the rest of its partner; and its gradient.
func MixupReference(l Classes, logit []float64, label, partner []int32, weight float64) (loss float64, grad []float64) {
	second := make([]int32, len(label))
	for r := range label {
		second[r] = label[r] // negative: left out
		if label[r] >= 0 {
			second[r] = partner[r]
		}
	}
	a, grad, _ := ClassesReference(l, logit, nil, label)
	b, other, _ := ClassesReference(l, logit, nil, second)
	for i := range grad {
		grad[i] = weight*grad[i] + (1-weight)*other[i]
	}
	return weight*a + (1-weight)*b, grad
}
