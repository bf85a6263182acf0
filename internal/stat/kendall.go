package stat

import (
	"math"
	"slices"
)

// KendallB returns Kendall's rank correlation tau-b, the variant that allows for ties:
//
//	(concordant - discordant) / sqrt((pairs - ties in x) * (pairs - ties in y))
//
// in O(n log n) (Knight, "A computer method for calculating Kendall's tau with ungrouped data", JASA 1966). It is NaN
// where it is not defined: lengths differ, fewer than two values, all x or all y equal, or a NaN among them.
func KendallB(x, y []float64) float64 {
	n := len(x)
	if n != len(y) || n < 2 {
		return math.NaN()
	}
	pairs := make([]pair, n)
	for i := range pairs {
		if x[i] != x[i] || y[i] != y[i] {
			return math.NaN()
		}
		pairs[i] = pair{x[i], y[i]}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := compare(a.x, b.x); c != 0 {
			return c
		}
		return compare(a.y, b.y)
	})
	tiesX := tied(pairs, func(a, b pair) bool { return a.x == b.x })
	tiesXY := tied(pairs, func(a, b pair) bool { return a == b })
	// Within equal x the order is by y, so the exchanges that sort by y are exactly the discordant pairs.
	ys := make([]float64, n)
	for i, p := range pairs {
		ys[i] = p.y
	}
	discordant := exchanges(ys, make([]float64, n))
	tiesY := int64(0)
	for first := 0; first < n; {
		end := first + 1
		for end < n && ys[end] == ys[first] {
			end++
		}
		tiesY += choose2(end - first)
		first = end
	}
	total := choose2(n)
	if tiesX == total || tiesY == total {
		return math.NaN()
	}
	score := float64(total - tiesX - tiesY + tiesXY - 2*discordant)
	tau := score / (math.Sqrt(float64(total-tiesX)) * math.Sqrt(float64(total-tiesY)))
	return max(-1, min(1, tau)) // the square roots may round past 1
}

type pair struct{ x, y float64 }

func choose2(n int) int64 { return int64(n) * int64(n-1) / 2 }

// tied counts the pairs of equal neighbours' runs in a sorted slice.
func tied(sorted []pair, equal func(a, b pair) bool) int64 {
	count := int64(0)
	for first := 0; first < len(sorted); {
		end := first + 1
		for end < len(sorted) && equal(sorted[first], sorted[end]) {
			end++
		}
		count += choose2(end - first)
		first = end
	}
	return count
}

// exchanges sorts v by merging and returns the number of pairs that stood in descending order. scratch has the length
// of v.
func exchanges(v, scratch []float64) int64 {
	if len(v) < 2 {
		return 0
	}
	if len(v) <= 12 { // insertion: every shift is one exchange
		count := int64(0)
		for i := 1; i < len(v); i++ {
			for j := i; j > 0 && v[j] < v[j-1]; j-- {
				v[j], v[j-1] = v[j-1], v[j]
				count++
			}
		}
		return count
	}
	half := len(v) / 2
	count := exchanges(v[:half], scratch[:half]) + exchanges(v[half:], scratch[half:])
	left, right := scratch[:half], v[half:]
	copy(left, v[:half])
	for out := range v {
		if len(left) == 0 {
			break
		}
		if len(right) > 0 && right[0] < left[0] {
			count += int64(len(left))
			v[out], right = right[0], right[1:]
		} else {
			v[out], left = left[0], left[1:]
		}
	}
	return count
}
