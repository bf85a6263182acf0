package trainer

import (
	"context"

	"github.com/ctnas/ctnas/trainer/data"
)

// judge measures paths on the held-out images, each node on some of them: with statistics of their own, or of each
// batch where the recipe has none computed. As many paths as there are ranks get their statistics at the same time, one
// on each; then all ranks measure one path after the other.
func (r *supernetRun) judge(ctx context.Context, all []wanted) ([]Evaluation, error) {
	together := min(len(r.ranks), KeptPaths)
	var mine []measured
	var err error
	for from := 0; from < len(all) && err == nil; from += together {
		var some []measured
		some, err = r.judgeTogether(ctx, all[from:min(from+together, len(all))])
		mine = append(mine, some...)
	}
	return r.pool(ctx, r.course.Data.Validation, mine, err)
}

// judgeTogether is what this node finds of no more paths than there are ranks.
func (r *supernetRun) judgeTogether(ctx context.Context, paths []wanted) (found []measured, err error) {
	own := r.course.Recipe.Recalibrate > 0
	if !own {
		if err := r.hold(ctx); err != nil {
			return nil, err
		}
	}
	d, models := r.course.Data, make([][]*Model, len(paths)) // of each path by ranks
	for k := range models {
		models[k] = make([]*Model, len(r.ranks))
	}
	if err := r.each(func(i int, _ *rank) (err error) {
		for range 2 { // one that takes more memory than there was drops those before it
			for k, w := range paths {
				w.options = PathOptions{EvalOnly: own, Transient: !own}
				if models[k][i], err = r.pathOf(r.nets[i].Supernet, w); err != nil {
					return err
				}
			}
		}
		if !own || i >= len(paths) {
			return nil
		}
		return Recalibrate(ctx, models[i][i], d, r.course.Recipe, r.course.Seed, r.loading())
	}); err != nil {
		return nil, err
	}
	in := r.loading()
	for k, ranked := range models {
		var m measured
		if own {
			statistics := ranked[k].own.buf.Values()
			for _, m := range ranked {
				m.own.buf.WriteF32(0, statistics)
			}
			m, err = measureSet(ctx, ranked, d, d.Validation, d.EvalTransform(ranked[0].Net.Input().H), in)
		} else {
			held := r.held(ctx)
			m, err = measureAll(ranked, in.turns(r.heldOut.Batches(r.s.Batch)), func(m *Model, batch int) (int, error) {
				return held(m, in.node+batch*max(1, in.nodes))
			})
		}
		if err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	return found, nil
}

// measure is a Measure.
func (r *supernetRun) measure(ctx context.Context, paths []string, from, to int) ([]float64, error) {
	if err := r.hold(ctx); err != nil {
		return nil, err
	}
	found := make([]float64, len(paths))
	batches := r.heldOut.Batches(r.s.Batch)
	return found, r.each(func(i int, _ *rank) error {
		held := r.held(ctx)
		for k := i; k < len(paths); k += len(r.ranks) {
			m, err := r.pathOf(r.nets[i].Supernet, wanted{key: paths[k], options: PathOptions{Transient: true}})
			if err != nil {
				return err
			}
			for b := from; b < to; b++ {
				e, err := measureAll([]*Model{m}, 1, func(m *Model, _ int) (int, error) { return held(m, b%batches) })
				if err != nil {
					return err
				}
				found[k] += float64(e.Count[1]) / float64(e.Count[0])
			}
			found[k] /= float64(to - from)
		}
		return nil
	})
}

// hold decodes the held-out images where that has not been done.
func (r *supernetRun) hold(ctx context.Context) (err error) {
	if r.heldOut != nil {
		return nil
	}
	d := r.course.Data
	r.heldOut, err = data.Decode(ctx, d.Validation, data.DecodeConfig{Transform: d.EvalTransform(r.side),
		Workers: r.Workers, Seed: r.course.Seed, OnCorrupt: r.course.OnCorrupt})
	if err == nil {
		err = r.tally.Add(d.Corrupt(d.Validation, r.heldOut.Corrupt))
	}
	return err
}

// held makes batches of held-out images those of models, for one goroutine.
func (r *supernetRun) held(ctx context.Context) func(m *Model, batch int) (n int, err error) {
	images, labels := make([]float32, r.s.Batch*3*r.side*r.side), make([]int32, r.s.Batch)
	return func(m *Model, batch int) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n := r.heldOut.Full(batch, images, labels)
		m.Images.WriteF32(0, images)
		m.Labels.WriteI32(0, labels)
		return n, nil
	}
}
