package trained

import (
	"math"
	"slices"
	"sort"
)

// leastEarlier is how many trainings must have been done to the end before one is stopped by them.
const leastEarlier = 8

// outcome is a training as labels see it: cut off where it was stopped.
type outcome struct {
	curve    []float64 // validation accuracy after each epoch, 0..1
	stopped  bool
	diverged bool
	test     *float64 // of a training that was done to the end
}

// whole tells whether the training was done to the end.
func (o outcome) whole() bool { return !o.stopped && !o.diverged }

// rule stops hopeless trainings of a submission. It knows those of earlier submissions and nothing of its own, so that
// what it decides does not depend on which training is faster.
type rule struct {
	quantile float64 // 0: none is stopped
	after    int     // the first epoch after which one may end
	epochs   int
	earlier  [][]outcome // by seed: a training is compared with those of its own seed
}

// ends tells whether a training with seed k ends after an epoch (from 1) with this accuracy: whether it is below the
// quantile of all earlier ones. Those that had ended by then count as the lowest: otherwise every epoch would stop half
// of what the one before had left.
func (r rule) ends(k, epoch int, accuracy float64) bool {
	if r.quantile == 0 || epoch < r.after || epoch >= r.epochs {
		return false
	}
	done := 0
	at := make([]float64, len(r.earlier[k]))
	for i, o := range r.earlier[k] {
		if at[i] = math.Inf(-1); epoch <= len(o.curve) {
			at[i] = o.curve[epoch-1]
		}
		if o.whole() {
			done++
		}
	}
	if done < leastEarlier {
		return false
	}
	slices.Sort(at)
	return accuracy < at[int(r.quantile*float64(len(at)-1))]
}

// equivalent is the label of a training with seed k that was stopped after an epoch with this accuracy, which is not
// comparable with accuracies after all epochs: the accuracy at the end that has the same rank among the earlier
// trainings that were done to the end. Between two of them it is interpolated, and below all of them as much lower as
// the accuracy is. So stopped trainings keep their order, and none has a label above the best one of those before.
func (r rule) equivalent(k, epoch int, accuracy float64) float64 {
	var at, end []float64
	for _, o := range r.earlier[k] {
		if o.whole() {
			at, end = append(at, o.curve[epoch-1]), append(end, o.curve[len(o.curve)-1])
		}
	}
	slices.Sort(at)
	slices.Sort(end)
	above := sort.SearchFloat64s(at, accuracy) // the first that is not below
	switch above {
	case 0:
		return math.Max(0, end[0]-(at[0]-accuracy))
	case len(at):
		return end[len(end)-1]
	}
	low, high := at[above-1], at[above]
	return end[above-1] + (end[above]-end[above-1])*(accuracy-low)/(high-low)
}
