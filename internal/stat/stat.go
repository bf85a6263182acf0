// Package stat holds the statistics of the reports: rank correlation, ranks, means and intervals over seeds.
package stat

import (
	"math"
	"slices"
)

// Mean returns the arithmetic mean, NaN of nothing.
func Mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// SD returns the sample standard deviation (n-1 in the denominator), NaN of fewer than two values.
func SD(x []float64) float64 {
	if len(x) < 2 {
		return math.NaN()
	}
	mean, sum := Mean(x), 0.0
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}

// Median returns the middle value, the mean of the two middle ones of an even number, NaN of nothing or where a value
// is NaN.
func Median(x []float64) float64 {
	if len(x) == 0 || slices.ContainsFunc(x, math.IsNaN) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(x))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return sorted[half-1]/2 + sorted[half]/2
}

// Quantile returns the value below which the part q in 0..1 of ascending values lies, interpolated linearly between
// neighbours (type 7 of Hyndman and Fan, The American Statistician 50, 1996); NaN of none.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-1)
	return sorted[i] + (at-float64(i))*(sorted[min(i+1, len(sorted)-1)]-sorted[i])
}

// Ranks returns the ascending ranks 1..n; equal values share the mean of theirs. The rank of NaN is NaN, and it moves
// no other.
func Ranks(x []float64) []float64 {
	order := make([]int, 0, len(x))
	ranks := make([]float64, len(x))
	for i, v := range x {
		ranks[i] = math.NaN()
		if v == v {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return compare(x[a], x[b]) })
	for first := 0; first < len(order); {
		end := first + 1
		for end < len(order) && x[order[end]] == x[order[first]] {
			end++
		}
		for _, i := range order[first:end] {
			ranks[i] = float64(first+1+end) / 2
		}
		first = end
	}
	return ranks
}

// MeanInterval returns the mean of independent repetitions (seeds) and the half width of its 95 % confidence interval
// by Student's t with n-1 degrees of freedom. The half width of fewer than two values is NaN.
func MeanInterval(x []float64) (mean, half float64) {
	mean = Mean(x)
	if len(x) < 2 {
		return mean, math.NaN()
	}
	n := float64(len(x))
	return mean, TQuantile(0.975, n-1) * SD(x) / math.Sqrt(n)
}

// TQuantile returns the value below which a Student t variable with df > 0 degrees of freedom falls with probability p
// in (0,1); NaN outside of that.
func TQuantile(p, df float64) float64 {
	switch {
	case !(p > 0 && p < 1 && df > 0):
		return math.NaN()
	case p == 0.5:
		return 0
	case p < 0.5:
		return -TQuantile(1-p, df)
	}
	// The tail beyond t is I_x(df/2, 1/2) / 2 with x = df / (df + t^2): bracket t, then halve.
	tail := func(t float64) float64 { return 0.5 * regularisedBeta(df/(df+t*t), df/2, 0.5) }
	low, high := 0.0, 1.0
	for tail(high) > 1-p && high < math.MaxFloat64/4 {
		low, high = high, 2*high
	}
	for range 200 {
		mid := low + (high-low)/2
		if mid == low || mid == high {
			break
		}
		if tail(mid) > 1-p {
			low = mid
		} else {
			high = mid
		}
	}
	return low + (high-low)/2
}

// regularisedBeta is the regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and
// Stegun 26.5.8) evaluated with Lentz's method.
func regularisedBeta(x, a, b float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	if x > (a+1)/(a+b+2) { // where the fraction converges slowly the mirrored one is fast
		return 1 - regularisedBeta(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	const tiny = 1e-300
	c, d := 1.0, 0.0
	fraction := 1.0
	for i := range 1000 {
		m := float64(i / 2)
		var numerator float64
		switch {
		case i == 0:
			numerator = 1
		case i%2 == 0:
			numerator = m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		default:
			numerator = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		}
		d = 1 + numerator*d
		if math.Abs(d) < tiny {
			d = tiny
		}
		d = 1 / d
		c = 1 + numerator/c
		if math.Abs(c) < tiny {
			c = tiny
		}
		fraction *= c * d
		if math.Abs(c*d-1) < 1e-16 {
			break
		}
	}
	return front * (fraction - 1) / a
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
