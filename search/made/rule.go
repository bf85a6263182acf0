package made

import (
	"math"
	"slices"
	"sort"
)

// leastEarlier is how many trainings must have been done to the end before one is stopped by them.
const leastEarlier = 8

// Outcome is a training as labels see it: cut off where it was stopped.
type Outcome struct {
	Curve    []float64 // validation accuracy after each epoch that is known, 0..1
	Value    float64   // of one that was done to the end: its validation accuracy, 0..1
	Stopped  bool      // early, behind the curve's last epoch
	Diverged bool
	Failed   bool     // however often it was tried; it has no curve
	Test     *float64 // of one that was done to the end, where somebody tested it
	// Metrics are what else was measured of one that was done to the end, by name.
	Metrics map[string]float64
	Seconds float64 // that it took
}

// whole tells whether the training was done to the end.
func (o Outcome) whole() bool { return !o.Stopped && !o.Diverged && !o.Failed }

// Values of a job's ends for epochs after which a training goes on, or ends, whatever its accuracy.
const (
	NeverEnds  = -1
	AlwaysEnds = 2
)

// rule stops hopeless trainings of a submission. It knows those of earlier submissions and nothing of its own, so that
// what it decides does not depend on which training is faster.
type rule struct {
	quantile float64 // 0: none is stopped
	after    int     // the first epoch after which one may end
	epochs   int
	earlier  [][]Outcome // by seed: a training is compared with those of its own seed
}

// ends are those of a training with seed k: it ends after an epoch whose accuracy is below the quantile of all
// earlier ones at that epoch. Those that had ended by then count as the lowest: otherwise every epoch would stop half
// of what the one before had left. It is nil where none ends early.
func (r rule) ends(k int) []float64 {
	if r.quantile == 0 {
		return nil
	}
	done := 0
	for _, o := range r.earlier[k] {
		if o.whole() {
			done++
		}
	}
	if done < leastEarlier || r.after >= r.epochs {
		return nil
	}
	list, at := make([]float64, r.epochs-1), make([]float64, len(r.earlier[k]))
	for i := range list {
		epoch := i + 1
		for n, o := range r.earlier[k] {
			if at[n] = NeverEnds; epoch <= len(o.Curve) {
				at[n] = o.Curve[epoch-1]
			}
		}
		slices.Sort(at)
		if list[i] = at[int(r.quantile*float64(len(at)-1))]; epoch < r.after {
			list[i] = NeverEnds
		}
	}
	return list
}

// equivalent is the label of a training with seed k that was stopped after an epoch with this accuracy, which is not
// comparable with accuracies after all epochs: the accuracy at the end that has the same rank among the earlier
// trainings that were done to the end. Between two of them it is interpolated, and below all of them as much lower as
// the accuracy is. So stopped trainings keep their order, and none has a label above the best one of those before.
func (r rule) equivalent(k, epoch int, accuracy float64) float64 {
	var at, end []float64
	for _, o := range r.earlier[k] {
		if o.whole() {
			at, end = append(at, o.Curve[epoch-1]), append(end, o.Value)
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
