package stat

import (
	"math"
	"slices"
)

// maxExact is the most differences whose sums of ranks are counted; 2^50 of them are exact in float64.
const maxExact = 50

// SignedRank is Wilcoxon's signed-rank test of paired samples: p is the two-sided probability of differences as
// lopsided as these if their signs were tossed. Differences of zero are left out (Wilcoxon, Biometrics Bulletin 1,
// 1945), n is how many others there are; not a number is an unknown pair and left out too. Without any p is 1. Ties
// have the mean of their ranks. Up to 50 differences the sums are counted, beyond they are taken as normal, with
// the variance corrected for ties.
func SignedRank(differences []float64) (p float64, n int) {
	d := slices.DeleteFunc(slices.Clone(differences), func(v float64) bool { return v == 0 || math.IsNaN(v) })
	n = len(d)
	if n == 0 {
		return 1, 0
	}
	size := make([]float64, n)
	for i, v := range d {
		size[i] = math.Abs(v)
	}
	ranks := Ranks(size)
	var plus, minus float64
	for i, v := range d {
		if v > 0 {
			plus += ranks[i]
		} else {
			minus += ranks[i]
		}
	}
	less := min(plus, minus)
	if n > maxExact {
		mean, variance := float64(n)*float64(n+1)/4, 0.0
		for _, r := range ranks { // ties have equal ranks, whose squares sum to less
			variance += r * r / 4
		}
		return min(1, math.Erfc((mean-less)/math.Sqrt(2*variance))), n
	}
	// ways[s] counts the choices of signs whose positive ranks sum to s/2.
	total := n * (n + 1)
	ways := make([]float64, total+1)
	ways[0] = 1
	for _, r := range ranks {
		twice := int(2*r + 0.5)
		for s := total; s >= twice; s-- {
			ways[s] += ways[s-twice]
		}
	}
	below := 0.0
	for _, w := range ways[:int(2*less+0.5)+1] {
		below += w
	}
	return min(1, 2*below/math.Exp2(float64(n))), n
}

// Holm adjusts the p of several tests so that the chance of any false one among them is bounded (Holm, Scandinavian
// Journal of Statistics 6, 1979).
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(p[a], p[b]) })
	adjusted, most := make([]float64, len(p)), 0.0
	for k, i := range order {
		most = max(most, min(1, float64(len(p)-k)*p[i]))
		adjusted[i] = most
	}
	return adjusted
}
