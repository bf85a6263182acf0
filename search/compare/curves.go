package compare

import (
	"encoding/csv"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/ctnas/ctnas/internal/stat"
)

// Curve is how far a method is after each number of labels, over its seeds.
type Curve struct {
	Method string
	Points []CurvePoint
}

// CurvePoint is over the seeds that had bought so many labels; each interval is nil where no seed knows the quantity.
type CurvePoint struct {
	Labels   int
	Accuracy *Interval // of the best label so far, by what judges, 0..1
	Regret   *Interval // what the best of the table has more
	Rank     *Interval // of the best label so far in the table
}

// maxCurvePoints bounds a curve; longer ones are thinned out evenly.
const maxCurvePoints = 500

// Curves are those of the methods that buy labels. A run that has ended stays where it is until all have. optimum is
// the best accuracy that judges anything; nil where nobody knows it.
func Curves(list []Summary, optimum *float64) (curves []Curve) {
	most := 0
	for _, s := range list {
		most = max(most, s.Labels)
	}
	for _, s := range list {
		runs := slices.DeleteFunc(slices.Clone(s.Runs), func(r Run) bool { return len(r.Best) == 0 })
		if len(runs) == 0 {
			continue
		}
		c := Curve{Method: s.Method}
		for _, n := range counts(most) {
			var accuracy, regret, rank []float64
			for _, r := range runs {
				at, _ := slices.BinarySearchFunc(r.Best, n+1, func(s Step, n int) int { return s.Labels - n })
				if at == 0 {
					continue
				}
				step := r.Best[at-1]
				accuracy = append(accuracy, float64(step.Accuracy))
				if optimum != nil {
					regret = append(regret, *optimum-float64(step.Accuracy))
				}
				if step.Rank != nil {
					rank = append(rank, float64(*step.Rank))
				}
			}
			c.Points = append(c.Points, CurvePoint{n, newInterval(accuracy), newInterval(regret), newInterval(rank)})
		}
		curves = append(curves, c)
	}
	return curves
}

// counts are the numbers of labels at which curves stand: all up to most, or as many as there may be.
func counts(most int) []int {
	list := make([]int, min(most, maxCurvePoints))
	for i := range list {
		list[i] = (i + 1) * most / len(list)
	}
	return list
}

// WriteCurves writes curves as CSV: accuracies and regrets 0..1, empty where nobody knows them.
func WriteCurves(w io.Writer, curves []Curve) error {
	rows := [][]string{{"method", "labels", "seeds", "accuracy_mean", "accuracy_low", "accuracy_high",
		"regret_mean", "regret_low", "regret_high", "rank_mean", "rank_low", "rank_high"}}
	for _, c := range curves {
		for _, p := range c.Points {
			seeds := 0
			row := []string{c.Method, strconv.Itoa(p.Labels), ""}
			for _, i := range []*Interval{p.Accuracy, p.Regret, p.Rank} {
				values := []float64{math.NaN(), math.NaN(), math.NaN()}
				if i != nil {
					seeds = max(seeds, i.N)
					values = []float64{float64(i.Mean), float64(i.Low), float64(i.High)}
				}
				for _, v := range values {
					row = append(row, exactly(stat.Number(v)))
				}
			}
			row[2] = strconv.Itoa(seeds)
			rows = append(rows, row)
		}
	}
	return csv.NewWriter(w).WriteAll(rows)
}

// exactly is a number for a program, empty where it is not known.
func exactly(v stat.Number) string {
	if !v.Known() {
		return ""
	}
	return strconv.FormatFloat(float64(v), 'g', 10, 64)
}
