package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/catalogue"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/table"
)

// Half is a part of a space by the last hexadecimal digit of the architectures' hashes: settings are chosen on the even
// half and reported on all, with the odd half beside them.
type Half string

// The halves.
const (
	All  Half = "all"
	Even Half = "even"
	Odd  Half = "odd"
)

// Ranking asks how well a comparator orders the architectures of a table that it has no labels of.
type Ranking struct {
	View   *table.View // unsealed by Rank: it trains on what a search sees and judges by what judges
	Config gcn.Config
	Train  int // labels, drawn at random
	Seed   uint64
	Seeds  int // Seed, Seed+1, ...
	Judge  Half
	Device exec.Config

	Prepared func(done, total int) // progress of the preparation; may be nil
	Done     func(RankSeed)        // called after every seed; may be nil
}

// RankSeed is the result of one seed.
type RankSeed struct {
	Seed    uint64
	TauB    float64
	TauBOdd float64 // on the odd half of what is judged
	// Of the true best 1 %, the share among the predicted best 1 %: its expectation over the orders of equal ones.
	PAt1     float64
	PAtTenth float64 // the same of 0.1 %
	TauTop   float64 // tau-b within the predicted best 1 %
	// true rank among all of the table's architectures of the one predicted best, of equal ones the worst.
	TopRank      int
	Judged       int // architectures that all but TopRank rest on
	JudgedOdd    int // of them those of the odd half
	Transitivity float64
	Triples      int // that the transitivity rests on
	Calibration  float64
	Antisymmetry float64
	Train, Score float64 // seconds: training; ranking all architectures
}

// Rank trains on random labels and ranks all other architectures, once a seed.
func Rank(ctx context.Context, r Ranking) ([]RankSeed, error) {
	rows := r.View.Cells()
	switch {
	case r.Train < 2:
		return nil, fmt.Errorf("%d labels to train with: a comparator needs at least two", r.Train)
	case r.Train > len(rows)-3:
		return nil, fmt.Errorf("%d labels to train with: the table has %d, and some must be left to judge by",
			r.Train, len(rows))
	case r.Seeds < 1:
		return nil, fmt.Errorf("%d seeds: want at least 1", r.Seeds)
	}
	r.View.Unseal()
	pool := catalogue.Of(r.View)
	if err := pool.Prepare(ctx, r.Config); err != nil {
		return nil, err
	}
	odd, err := oddHashes(ctx, pool, r.Prepared)
	if err != nil {
		return nil, err
	}
	var out []RankSeed
	for k := range r.Seeds {
		one, err := r.one(ctx, pool, odd, r.Seed+uint64(k))
		if err != nil {
			return out, err
		}
		if r.Done != nil {
			r.Done(one)
		}
		out = append(out, one)
	}
	return out, nil
}

func (r Ranking) one(ctx context.Context, pool *catalogue.Catalogue, odd []bool, seed uint64) (RankSeed, error) {
	result := RankSeed{Seed: seed}
	rows := r.View.Cells()
	order := philox.New(seed, philox.PurposeSample, 0).Perm(len(rows))
	labels := make([]ledger.Label, r.Train)
	known := make([]bool, len(rows))
	for n, i := range order[:r.Train] {
		labels[n] = ledger.Label{N: n + 1, Arch: pool.Arch(i), Value: r.View.Seen(rows[i]),
			Score: r.View.Seen(rows[i])}
		known[i] = true
	}
	var judged []int
	var truth []float64
	for i, row := range rows {
		if known[i] || r.Judge == Even && odd[i] || r.Judge == Odd && !odd[i] {
			continue
		}
		value, err := r.View.Judged(row)
		if err != nil {
			return result, err
		}
		judged, truth = append(judged, i), append(truth, value)
	}
	if len(judged) < 3 {
		return result, errors.New("fewer than three architectures are left to judge by")
	}
	start := time.Now()
	c, err := method.Train(ctx, r.Device, r.Config, r.View.Table().Space(), labels, seed)
	if err != nil {
		return result, err
	}
	trained := time.Now()
	scores, err := pool.ScoreSome(ctx, c, r.Device, judged)
	if err != nil {
		return result, err
	}
	result.Train, result.Score = trained.Sub(start).Seconds(), time.Since(trained).Seconds()
	report := gcn.Evaluate(scores, truth, seed)
	result.TauB, result.PAt1, result.Antisymmetry = report.TauB, report.PAt1, report.Antisymmetry
	result.PAtTenth, result.TauTop = report.PAtTenth, report.TauTop
	result.Transitivity, result.Triples, result.Calibration = report.Transitivity, report.Triples, report.Calibration
	var oddScores, oddTruth []float64
	for k, i := range judged {
		if odd[i] {
			oddScores, oddTruth = append(oddScores, scores.Rank[k]), append(oddTruth, truth[k])
		}
	}
	result.TauBOdd, result.Judged, result.JudgedOdd = stat.KendallB(oddScores, oddTruth), len(judged), len(oddTruth)
	if result.TopRank, err = r.View.Rank(rows[judged[gcn.Highest(scores.Rank, truth)]]); err != nil {
		return result, err
	}
	if math.IsNaN(result.TauB) {
		return result, fmt.Errorf("seed %d: tau-b is not defined: all scores or all accuracies are equal", seed)
	}
	return result, ctx.Err()
}

// oddHashes tells which architectures' hashes end in an odd hexadecimal digit.
func oddHashes(ctx context.Context, pool *catalogue.Catalogue, progress func(done, total int)) ([]bool, error) {
	odd := make([]bool, pool.Len())
	const piece = 4096
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for begin := 0; begin < len(odd); begin += piece {
		group.Go(func() error {
			end := min(begin+piece, len(odd))
			for i := begin; i < end; i++ {
				if hash := pool.Arch(i).Hash(); hash != "" {
					odd[i] = isOdd(hash[len(hash)-1])
				}
			}
			if n := done.Add(int64(end - begin)); progress != nil {
				progress(int(n), len(odd))
			}
			return ctx.Err()
		})
	}
	return odd, group.Wait()
}

// isOdd reads a hexadecimal digit: in ASCII the digits' codes have their parity, the letters' the opposite one (b is 98
// and eleven).
func isOdd(digit byte) bool { return (digit&1 == 1) != (digit >= 'A') }
