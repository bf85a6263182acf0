package gcn

import (
	"context"
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
)

// slope is what the ensemble's logits have to be multiplied by to be as sure as they may be. A network knows the labels
// that it was trained on too well to say that of itself, so a network is trained for each fold of the labels without
// it, and the factor is the root of the one that makes most likely what each says of its fold: one network with fewer
// labels errs more than an ensemble with all of them.
func (c Config) slope(ctx context.Context, device exec.Config, data Data, seed uint64) (float64, error) {
	one := c
	one.Members, one.Folds, one.Process, one.Adapt = 1, 0, 0, false
	n := len(data.Labels)
	alone, all := make([]float64, n), make([]int, n)
	for fold := range c.Folds {
		rest, held := data.blank(), data.blank()
		var at []int // of the held
		for i := range n {
			if i%c.Folds == fold {
				held.add(data, i)
				at = append(at, i)
			} else {
				rest.add(data, i)
			}
		}
		network, err := Train(ctx, device, one, rest, seed, nil)
		if err != nil {
			return 0, err
		}
		e, err := network.Prepare(held)
		if err != nil {
			return 0, err
		}
		scores, err := network.Score(device, e)
		if err != nil {
			return 0, err
		}
		for k, i := range at {
			alone[i], all[i] = scores.members[0][k]-network.Spread[0].Mean, i
		}
	}
	_, noise := c.targets(data.Labels)
	return math.Sqrt(logitSlope(alone, all, data.Labels, noise)), nil
}

// blank is a set of no graphs of the same space.
func (d Data) blank() Data { return Data{Alphabet: d.Alphabet, Places: d.Places} }

// add appends a labelled graph of another set.
func (d *Data) add(from Data, i int) {
	d.Graphs, d.Labels = append(d.Graphs, from.Graphs[i]), append(d.Labels, from.Labels[i])
	if from.Features != nil {
		d.Features = append(d.Features, from.Features[i])
	}
}
