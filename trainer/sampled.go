package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// sampledRun is the training of a supernet by single paths, which a sampler draws. The gradients of an update's paths
// are summed.
type sampledRun struct {
	supernetRun
}

func newSampledRun(j SupernetJob, d Deps) (*sampledRun, error) {
	if !j.Recipe.Sampled() {
		return nil, fmt.Errorf("method %s draws its own paths", j.Recipe.Method)
	}
	all, err := newSupernetRun(j, d)
	if err != nil {
		return nil, err
	}
	if j.Recipe.Method == MethodENAS && j.Data.Validation.Len() == 0 {
		return nil, fmt.Errorf("held-out 0: %s has no validation images, and nothing is left that a controller could "+
			"learn from", j.Source)
	}
	r := &sampledRun{supernetRun: all}
	r.learner = r
	return r, r.sided()
}

func (r *sampledRun) open(ctx context.Context) (*SupernetResult, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	ended, err := r.goOn(r.begin)
	if err != nil {
		return nil, err
	}
	if learned := r.state.Elastic.Sampler; learned != nil { // after the end too: a search asks it for candidates
		if err := r.Sampler.Restore(learned); err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
	}
	if ended != nil {
		return ended, nil
	}
	return nil, r.fed(r.images(r.start(), r.course.Recipe.Epochs))
}

// put puts the shared variables and the optimizer on the device, and says what all of it is.
func (r *sampledRun) put(ctx context.Context) (err error) {
	if err := r.place(r.side, nil, MixtureOptions{}); err != nil {
		return err
	}
	if err := r.count(r.course.Recipe.Epochs); err != nil {
		return err
	}
	r.ident, err = r.identify(ctx, r.shapes(), r.SupernetJob.Recipe, "")
	r.ident.Sides = fmt.Sprint([]int{r.side})
	return err
}

func (r *sampledRun) begin() error {
	r.s.SetValues(r.random())
	r.o.begin()
	return nil
}

func (r *sampledRun) ready() error { return nil }

func (r *sampledRun) rate(update int) float64 {
	return r.SupernetJob.Recipe.Rate(update, r.perEpochUpdates())
}

// step trains the paths of an update on a batch.
func (r *sampledRun) step(_ context.Context, b *data.Batch, part int) error {
	paths, err := r.Sampler.Paths(r.state.Update)
	if err == nil && (len(paths) == 0 || len(paths) > mostPaths) {
		err = fmt.Errorf("update %d has %d paths: want 1 to %d", r.state.Update, len(paths), mostPaths)
	}
	if err != nil {
		return err
	}
	rec := r.course.Recipe
	o := PathOptions{Loss: nn.Loss{Smoothing: rec.LabelSmoothing}, Divide: rec.Accumulate, Once: true}
	var all []wanted
	for _, path := range paths {
		if part == 0 {
			if err := r.choose(path); err != nil {
				return err
			}
		}
		all = append(all, wanted{key: path, options: o})
	}
	err = r.inShards(part, func(i int, _ *rank, shard, mine int) error {
		return r.trainPaths(i, all, part, shard, mine)
	})
	if err != nil {
		return err
	}
	return r.trained(all, b)
}

// choose counts what a path of an update has chosen.
func (r *sampledRun) choose(path string) error {
	deciding, ok := r.SupernetJob.Paths.(Deciding)
	if !ok {
		return nil
	}
	chosen, err := deciding.Chosen(path)
	if err != nil {
		return err
	}
	counts := &r.state.Elastic.Chosen
	if *counts == nil {
		for _, d := range deciding.Decisions() {
			*counts = append(*counts, make([]int64, len(d.Choices)))
		}
	}
	for _, c := range chosen {
		(*counts)[c.Row][c.Choice]++
	}
	return nil
}

// fairness says how often the choices of each decision were trained; nil where they are not counted.
func (r *supernetRun) fairness() (out []Fairness) {
	for i, counts := range r.state.Elastic.Chosen {
		d := r.SupernetJob.Paths.(Deciding).Decisions()[i]
		out = append(out, Fairness{d.Name, d.Choices, counts, slices.Min(counts), slices.Max(counts)})
	}
	return out
}

// validate measures some paths of the sampler with statistics of their own, then lets it learn.
func (r *sampledRun) validate(ctx context.Context, epoch int, values map[string]float64) error {
	values["recording_share"] = r.recording.Seconds() / time.Since(r.begun).Seconds()
	var found []PathEvaluation
	err := r.averaged(func() error {
		var all []wanted
		for k := range r.SupernetJob.Recipe.Judged {
			paths, err := r.Sampler.Paths(math.MaxUint32 - k) // of no update
			if err != nil {
				return err
			}
			all = append(all, wanted{key: paths[0]})
		}
		judged, err := r.judge(ctx, all)
		if err != nil {
			return err
		}
		for k, e := range judged {
			e.Epoch = epoch
			role := fmt.Sprint(roleRandom, k+1)
			found = append(found, PathEvaluation{role, all[k].key, e})
			values["top1 "+role], values["loss "+role] = e.Top1, float64(e.Loss)
		}
		return r.Sampler.Learn(ctx, epoch, r.measure)
	})
	if err != nil {
		return err
	}
	r.state.Elastic.Paths = append(r.state.Elastic.Paths, found...)
	r.state.Elastic.Sampler, err = r.Sampler.State()
	return err
}

// finish writes what remains of a run.
func (r *sampledRun) finish(context.Context) (*SupernetResult, error) {
	p, err := r.Sampler.Paths(0)
	if err != nil {
		return nil, err
	}
	return r.end(func(path string) error { return r.saveOf(path, p[0]) }, nil)
}
