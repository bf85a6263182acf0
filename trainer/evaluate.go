package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
)

// EvaluateAll is Evaluate on several devices: models of one network, batch and weights, which take batches in turns.
// What it finds does not depend on their number.
func EvaluateAll(ctx context.Context, models []*Model, d *data.Dataset, set *data.Set, t data.Transform,
	in Loading) (Evaluation, error) {
	found, err := measureSet(ctx, models, d, set, t, in)
	if err != nil {
		return Evaluation{}, err
	}
	return found.evaluation(set, in.Tally)
}

// measured is what models have found of some batches of a set. Nodes tell it each other.
type measured struct {
	Batches []measuredBatch
	Count   [3]int         // images seen, right, right among the first five
	Corrupt []data.Corrupt // images that were left out
}

// measuredBatch is the mean loss of the images of a batch that count, as its bits, which need not be of a number, and
// how many these are.
type measuredBatch struct {
	Loss   uint64
	Images int
}

// evaluation is what was found in words of a whole set. Losses are added up in the order of batches.
func (m measured) evaluation(set *data.Set, tally *data.Tally) (Evaluation, error) {
	if m.Count[0] == 0 {
		return Evaluation{}, fmt.Errorf("none of the %d images can be read: %v", set.Len(), tally.Summary())
	}
	total, n := 0.0, float64(m.Count[0])
	for _, b := range m.Batches {
		total += math.Float64frombits(b.Loss) * float64(b.Images)
	}
	return Evaluation{Images: m.Count[0], Loss: Real(total / n), Top1: float64(m.Count[1]) / n,
		Top5: float64(m.Count[2]) / n}, nil
}

// whole is what nodes have found of a set whose batches they took in turns.
func whole(parts []measured) (all measured) {
	for k := 0; ; k++ {
		part := parts[k%len(parts)]
		if k/len(parts) >= len(part.Batches) {
			break
		}
		all.Batches = append(all.Batches, part.Batches[k/len(parts)])
	}
	for _, part := range parts {
		for i, n := range part.Count {
			all.Count[i] += n
		}
	}
	return all
}

// measureSet measures models, one a device, on a node's batches of a set.
func measureSet(ctx context.Context, models []*Model, d *data.Dataset, set *data.Set, t data.Transform,
	in Loading) (measured, error) {
	c := data.Config{Batch: models[0].Batch, Transform: t, Epochs: 1, Workers: in.Workers,
		OnCorrupt: in.Tally.OnCorrupt(), Raw: models[0].arena.Device().Accelerated(), Every: in.nodes}
	batches := exec.Blocks(set.Len(), c.Batch)
	if c.Start.Batch = in.node; in.node > 0 && in.node >= batches {
		return measured{}, nil
	}
	l, err := data.NewLoader(set, c)
	if err != nil {
		return measured{}, err
	}
	defer l.Close()
	intakes := map[*Model]*intake{}
	for _, m := range models {
		intakes[m] = newIntake(m, l)
		defer intakes[m].close()
	}
	var corrupt []data.Corrupt
	found, err := measureAll(models, in.turns(batches), func(m *Model, _ int) (int, error) {
		b, err := l.Next(ctx)
		if err != nil {
			return 0, err
		}
		list := d.Corrupt(set, b.Corrupt)
		if err := in.Tally.Add(list); err != nil {
			return 0, err
		}
		corrupt = append(corrupt, list...)
		intakes[m].put(b)
		m.Labels.WriteI32(0, b.Labels)
		return b.N - len(b.Corrupt), nil
	})
	found.Corrupt = corrupt
	return found, err
}

// turns is how many of so many batches are this node's: number in.node, and each in.nodes behind it.
func (in Loading) turns(batches int) int {
	nodes := max(1, in.nodes)
	return (batches - in.node + nodes - 1) / nodes
}

// measureAll measures models of one network and weights, one a device, which take batches in turns. give makes a batch,
// from 0, the images and labels of one of them, and returns how many of them count. It is called in the batches' order.
// What is found does not depend on the number of models.
func measureAll(models []*Model, batches int, give func(m *Model, batch int) (n int, err error)) (found measured,
	err error) {
	for _, m := range models {
		m.Count.WriteI32(0, make([]int32, 3))
	}
	for at := 0; at < batches; at += len(models) {
		now := models[:min(len(models), batches-at)]
		these := make([]measuredBatch, len(now))
		for i, m := range now {
			if these[i].Images, err = give(m, at+i); err != nil {
				return measured{}, err
			}
		}
		err := exec.Each(len(now), func(i int) error {
			now[i].Evaluate()
			these[i].Loss = math.Float64bits(float64(now[i].Loss.Values()[0]))
			return nil
		})
		if err != nil {
			return measured{}, err
		}
		found.Batches = append(found.Batches, these...)
	}
	count := make([]int32, 3)
	for _, m := range models {
		m.Count.ReadI32(0, count)
		for i, n := range count {
			found.Count[i] += int(n)
		}
	}
	return found, nil
}

// pool makes of what every node has measured, all of them as often, or of what one of them has failed at, what all
// have found. All nodes come to it once, whatever has become of their part.
func (c *course) pool(ctx context.Context, set *data.Set, mine []measured, failed error) (all []Evaluation, err error) {
	parts := [][]measured{mine}
	if c.Nodes != nil {
		stop := ended(ctx, failed)
		if stop {
			failed = nil
		}
		words, err := c.meet(ctx, word{Stop: stop, Measured: mine}, failed)
		if err != nil {
			return nil, agreed{err}
		}
		parts = nil
		for _, w := range words {
			for _, m := range w.Measured {
				if err := c.tally.Add(m.Corrupt); err != nil {
					c.heard()
					return nil, agreed{err}
				}
			}
			parts = append(parts, w.Measured)
		}
	} else if failed != nil {
		return nil, failed
	}
	for k := range mine {
		var of []measured
		for _, p := range parts {
			of = append(of, p[k])
		}
		e, err := whole(of).evaluation(set, c.tally)
		if err != nil {
			return nil, agreed{err}
		}
		all = append(all, e)
	}
	return all, nil
}

// agreed is an error that all nodes have, and know of each other.
type agreed struct{ error }

func (a agreed) Unwrap() error { return a.error }
