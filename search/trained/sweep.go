package trained

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"

	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
)

// Sweep trains architectures with several numbers of epochs, each with a schedule of its own, and returns what package
// table reads as CSV: a row an architecture, in their order, with validation and test accuracy for each number of
// epochs and each seed. Seeds are runs 1, 2, ... Parameters and multiply-adds are those of the networks that were
// trained. labels holds nothing that differs between two equal calls; seconds has the times in its rows.
func Sweep(ctx context.Context, c Config, archs []space.Arch, epochs []int, progress func(done, total int)) (labels,
	seconds []byte, err error) {
	c.Diverged, c.Failed, c.Stop = made.Fail, made.Fail, 0
	head, rows := []string{"arch", "hash", "trained_params", "trained_madds"}, make([][]string, len(archs))
	timeHead, times := []string{"arch", "hash"}, make([][]string, len(archs))
	for i, a := range archs {
		rows[i], times[i] = []string{a.String(), a.Hash()}, []string{a.String(), a.Hash()}
	}
	for n, budget := range epochs {
		c.Recipe.Epochs = budget
		if err := c.Recipe.Check(); err != nil {
			return nil, nil, err
		}
		for k := range c.Seeds {
			at := fmt.Sprintf("run%d_epochs%d", k+1, budget)
			head = append(head, "validation_accuracy_"+at, "test_accuracy_"+at)
			timeHead = append(timeHead, "seconds_"+at)
		}
		records, err := measure(ctx, c, archs, func(done, total int) { progress(n*total+done, len(epochs)*total) })
		if err != nil {
			return nil, nil, err
		}
		for i, list := range records {
			if n == 0 {
				rows[i] = append(rows[i], strconv.FormatInt(list[0].Params, 10), strconv.FormatInt(list[0].MAdds, 10))
			}
			for _, r := range list {
				rows[i] = append(rows[i], number(r.Validation[budget-1]), number(*r.Test))
				times[i] = append(times[i], strconv.FormatFloat(r.Seconds, 'f', 2, 64))
			}
		}
	}
	if labels, err = encode(head, rows); err != nil {
		return nil, nil, err
	}
	seconds, err = encode(timeHead, times)
	return labels, seconds, err
}

// measure trains architectures to the end and returns their records, by architecture and seed.
func measure(ctx context.Context, c Config, archs []space.Arch, progress func(done, total int)) (records [][]*Record,
	err error) {
	s, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.sets[0].Test.Len() == 0 {
		return nil, fmt.Errorf("%s has no test images", c.Data)
	}
	s.Observe(nil, progress)
	if _, err := s.Label(ctx, archs); err != nil {
		return nil, err
	}
	for _, a := range archs {
		list, err := s.Records(a)
		if err != nil {
			return nil, err
		}
		for k, r := range list {
			if r == nil {
				return nil, fmt.Errorf("the training of %v with seed %d is no longer in %s", a, c.Seed+uint64(k),
					c.Cache)
			}
		}
		records = append(records, list)
	}
	return records, nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func encode(head []string, rows [][]string) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	err := errors.Join(w.Write(head), w.WriteAll(rows))
	return out.Bytes(), err
}
