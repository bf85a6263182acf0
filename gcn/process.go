package gcn

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
)

// Process is a Gaussian process on the features of graphs, as a member of an ensemble beside the networks, from which
// it differs more than they do from each other. Its covariance of two graphs is exp(-(d²/4m)^¾), d the distance of
// their standardised features and m the median of d² among the labelled graphs. It learns the normal scores of the
// labels (the normal distribution's quantiles of their ranks), since accuracies have a long tail of bad ones.
type Process struct {
	Scale  Standard  // of the features
	Center []float32 // [n, features] of the labelled graphs, standardised
	Weight []float32 // [n]: a graph's score is their sum, weighted by its covariances, in a logit's unit
	Length float64   // 1/4m
	Spread Spread    // of the scores over the labelled graphs
}

// newProcess learns from labelled graphs; noise is the labels' standard deviation, in accuracy, or nil.
func newProcess(ctx context.Context, features [][]float32, labels []float64, noise []float32) (*Process, error) {
	n, width := len(labels), len(features[0])
	p := &Process{Scale: standard(features[:n])}
	for j := range width { // what no label varies says nothing about what it is elsewhere
		same := !slices.ContainsFunc(features[1:n], func(row []float32) bool { return row[j] != features[0][j] })
		if same {
			p.Scale.SD[j] = float32(math.Inf(1))
		}
	}
	p.Center = p.Scale.apply(slices.Concat(features[:n]...))
	distance, err := squares(ctx, p.Center, n)
	if err != nil {
		return nil, err
	}
	p.Length = 1 / (4 * math.Max(middle(distance, n), 1e-12))
	target := normalScores(labels)
	ridge := ridges(labels, target, noise)
	err = parallel(ctx, n, func(i int) {
		row := distance[i*n : (i+1)*n] // becomes covariances
		for j, d := range row[:i] {
			row[j] = math.Exp(-math.Pow(d*p.Length, 0.75))
		}
		row[i] = 1 + ridge[i]
	})
	if err != nil {
		return nil, err
	}
	l, err := newCholesky(ctx, distance, n)
	if err != nil {
		return nil, err
	}
	weight := l.solve(target)
	of := some(n)
	alone, err := without(ctx, l, target, weight, of)
	if err != nil {
		return nil, err
	}
	slope := logitSlope(alone, of, labels, noise)
	scores := make([]float64, n)
	p.Weight = make([]float32, n)
	for i, w := range weight {
		p.Weight[i] = float32(slope * w)
		scores[i] = slope * (target[i] - ridge[i]*w) // the covariances and the ridge times the weights are the target
	}
	p.Spread = Spread{stat.Mean(scores), math.Max(stat.SD(scores), 1e-12)}
	return p, nil
}

// squares returns the squared distances of n rows, [n, n] of which the lower triangle is filled.
func squares(ctx context.Context, rows []float32, n int) ([]float64, error) {
	out, width := make([]float64, n*n), len(rows)/n
	err := parallel(ctx, n, func(i int) {
		a := rows[i*width : (i+1)*width]
		for j := range i {
			s := 0.0
			for k, v := range rows[j*width : (j+1)*width] {
				d := float64(a[k]) - float64(v)
				s += d * d
			}
			out[i*n+j] = s
		}
	})
	return out, err
}

// few is how many of the labels what needs no more precision looks at: every so many-th.
const few = 1000

// some are the numbers of at most few of n labels.
func some(n int) []int {
	var out []int
	for i := 0; i < n; i += (n + few - 1) / few {
		out = append(out, i)
	}
	return out
}

// middle is the median of the squared distances.
func middle(distance []float64, n int) float64 {
	var d []float64
	for _, i := range some(n) {
		d = append(d, distance[i*n:i*n+i]...)
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// normalScores are the normal distribution's quantiles of the labels' ranks, equal ones sharing theirs, less their
// mean.
func normalScores(labels []float64) []float64 {
	n := len(labels)
	sorted := slices.Sorted(slices.Values(labels))
	out := make([]float64, n)
	for i, y := range labels {
		low := sort.SearchFloat64s(sorted, y)
		high := low + sort.Search(n-low, func(k int) bool { return sorted[low+k] > y })
		out[i] = math.Sqrt2 * math.Erfinv(float64(low+high)/float64(n)-1)
	}
	mean := stat.Mean(out)
	for i := range out {
		out[i] -= mean
	}
	return out
}

// ridges is the variance of each label's noise on the scale of targets: as the noise is there, with a mean that falls
// with the number of labels.
func ridges(labels, target []float64, noise []float32) []float64 {
	n := len(labels)
	out := make([]float64, n)
	for i := range out {
		out[i] = 1
	}
	if noise != nil {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(labels[a], labels[b]) })
		at := func(y float64) float64 { // the target of an accuracy, between labels along a line
			k := sort.Search(n, func(k int) bool { return labels[order[k]] >= y })
			switch k {
			case 0:
				return target[order[0]]
			case n:
				return target[order[n-1]]
			}
			a, b := order[k-1], order[k]
			return target[a] + (target[b]-target[a])*(y-labels[a])/(labels[b]-labels[a])
		}
		const least = 0.02 // a quantile is not exact either
		for i, y := range labels {
			half := (at(y+float64(noise[i])) - at(y-float64(noise[i]))) / 2
			out[i] = half*half + least
		}
	}
	mean, wanted := stat.Mean(out), max(ridgeLabels/float64(n), leastRidge)
	for i := range out {
		out[i] *= wanted / mean
	}
	return out
}

// ridgeLabels over the number of labels is the mean variance of their noise, leastRidge the least.
const (
	ridgeLabels = 10
	leastRidge  = 0.01
)

// without returns the scores of some labelled graphs by all labels but their own (Rasmussen & Williams 2006, section
// 5.4.2).
func without(ctx context.Context, l *cholesky, target, weight []float64, of []int) ([]float64, error) {
	diagonal, err := l.inverseDiagonal(ctx, of)
	score := make([]float64, len(of))
	for k, i := range of {
		score[k] = target[i] - weight[i]/diagonal[k]
	}
	return score, err
}

// logitSlope is what a difference of scores has to be multiplied by to be the logit that the labels of some graphs make
// most likely.
func logitSlope(score []float64, of []int, labels []float64, noise []float32) float64 {
	const least, most = 1e-2, 1e2
	slope := 1.0
	for range 30 { // Newton's steps down a convex loss, bounded
		first, second := 0.0, 0.0
		for a, i := range of {
			for b, j := range of[:a] {
				t := 0.5
				switch dy := labels[i] - labels[j]; {
				case noise != nil: // as the networks' loss has it
					t = sigmoid(1.702 * dy / math.Hypot(float64(noise[i]), float64(noise[j])))
				case dy != 0:
					t = (1 + math.Copysign(1, dy)) / 2
				}
				d := score[a] - score[b]
				q := sigmoid(slope * d)
				first += (q - t) * d
				second += q * (1 - q) * d * d
			}
		}
		next := min(max(slope-first/math.Max(second, 1e-12), slope/4, least), 4*slope, most)
		done := math.Abs(next-slope) < 1e-6*slope
		if slope = next; done {
			break
		}
	}
	return slope
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

// score gives the graphs of an encoding their scores.
func (p *Process) score(dev *exec.Device, e *Encoding) []float64 {
	ar := dev.NewArena()
	defer ar.Free()
	n, width := len(p.Weight), len(p.Scale.Mean)
	x, center := upload(ar, e.Features, &p.Scale, 1), ar.Floats(p.Center) // [N, features], [n, features]
	norm := make([]float32, n)
	for i, v := range p.Center {
		norm[i/width] += v * v
	}
	norms, weights, out := ar.Floats(norm), ar.Floats(p.Weight), ar.F32(e.N)
	size := min(e.N, max(128, chunk(dev)*512/n))
	product := ar.F32(size * n) // [size, n]
	program := ar.NewProgram("process")
	packed := gemm.Pack(program, center, n, width, true)
	for b := 0; b < e.N; b += size {
		m := min(size, e.N-b)
		in := rows(x, b, b+m, width)
		gemm.Record(program, gemm.Op{C: product, A: in, Packed: packed, M: exec.Fixed(m), N: n, K: width, Exact: true})
		dense.Radial{Out: out.Slice(b, m), In: in, Product: product, Norm: norms, Weight: weights, Rows: exec.Fixed(m),
			Width: width, Centers: n, Scale: float32(p.Length)}.Record(program)
	}
	program.Run(1)
	scores := make([]float64, e.N)
	for i, v := range out.Values() {
		scores[i] = float64(v)
	}
	return scores
}

// check tells whether a process that was read is one for so many features.
func (p *Process) check(features int) error {
	switch n := len(p.Weight); {
	case n == 0 || features == 0 || len(p.Center) != n*features:
		return fmt.Errorf("a process of %d numbers for %d labels with %d features", len(p.Center), n, features)
	case len(p.Scale.Mean) != features || len(p.Scale.SD) != features:
		return fmt.Errorf("a process of %d means and %d deviations for %d features", len(p.Scale.Mean),
			len(p.Scale.SD), features)
	case !(p.Length > 0) || math.IsInf(p.Length, 0) || !(p.Spread.SD > 0):
		return fmt.Errorf("a process of length %v and deviation %v", p.Length, p.Spread.SD)
	}
	return nil
}
