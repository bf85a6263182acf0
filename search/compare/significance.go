package compare

import (
	"github.com/ctnas/ctnas/internal/stat"
)

// Test says whether a method differs from another one, by the accuracies that judge their picks, paired by seed: with
// one seed both draw the same numbers and see the same table.
type Test struct {
	Method  string `json:"method"`
	Against string `json:"against"`
	Pairs   int    `json:"pairs"` // of seeds of which both accuracies are known
	// Differing are the pairs that Wilcoxon's signed-rank test rests on: those of equal accuracies are left out.
	Differing int         `json:"differing"`
	Better    stat.Number `json:"mean_difference"` // accuracy of the method less the other's, 0..1
	P         float64     `json:"p"`               // two-sided
	Holm      float64     `json:"p_holm"`          // adjusted for all tests of the comparison
}

// SignificantPairs is the least number of pairs of which the test can tell anything: of five, the least p is 1/16.
const SignificantPairs = 6

// Tests compares every method with one of them; none where that one is not in the list.
func Tests(list []Summary, against string) (tests []Test) {
	reference := map[uint64]float64{}
	for _, s := range list {
		if s.Method == against {
			for _, r := range s.Runs {
				reference[r.Seed] = float64(r.Accuracy)
			}
		}
	}
	if len(reference) == 0 {
		return nil
	}
	var p []float64
	for _, s := range list {
		if s.Method == against {
			continue
		}
		var differences []float64
		for _, r := range s.Runs {
			if other, ok := reference[r.Seed]; ok {
				differences = append(differences, float64(r.Accuracy)-other)
			}
		}
		differences = known(differences)
		if len(differences) == 0 {
			continue
		}
		t := Test{Method: s.Method, Against: against, Pairs: len(differences)}
		t.Better = stat.Number(stat.Mean(differences))
		t.P, t.Differing = stat.SignedRank(differences)
		tests, p = append(tests, t), append(p, t.P)
	}
	for i, adjusted := range stat.Holm(p) {
		tests[i].Holm = adjusted
	}
	return tests
}

// telling tells whether there are seeds enough for any of the tests to tell something.
func telling(tests []Test) bool {
	for _, t := range tests {
		if t.Pairs >= SignificantPairs {
			return true
		}
	}
	return false
}
