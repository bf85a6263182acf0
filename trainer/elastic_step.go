package trainer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// at is the stage of the update that follows so many.
func (r *elasticRun) at(update int) int {
	stage := 0
	for stage < len(r.ends)-1 && update >= r.ends[stage] {
		stage++
	}
	return stage
}

// rate is that of the update's stage.
func (r *elasticRun) rate(update int) float64 {
	k, begin := r.at(update), 0
	if k > 0 {
		begin = r.ends[k-1]
	}
	return r.SupernetJob.Recipe.in(r.stages[k]).Rate(update-begin, r.perEpochUpdates())
}

// ready enters the stage of the next update.
func (r *elasticRun) ready() error {
	for now := &r.state.Elastic.Stage; *now < r.at(r.state.Update); *now++ {
		if r.stages[*now].Name == stageFull {
			if err := r.graduate(); err != nil {
				return err
			}
		}
		next := r.stages[*now+1]
		if next.Sort != nil {
			if err := r.sort(next.Sort); err != nil {
				return fmt.Errorf("stage %s: %w", next.Name, err)
			}
		}
		if err := r.each(func(_ int, k *rank) error {
			k.o.restart()
			return nil
		}); err != nil {
			return err
		}
		if err := r.event(events.Event{Name: "stage", Step: r.state.Update,
			Text: map[string]string{"stage": next.Name}}); err != nil {
			return err
		}
	}
	return nil
}

// sort puts the most important channels first, of the average of weights too.
func (r *elasticRun) sort(trained []int) error {
	order, err := r.Elastic.Sort(r.shared, r.s.Values(), trained)
	if err != nil {
		return err
	}
	sorted := func() error {
		values, err := order(r.s.Values())
		if err == nil {
			r.s.SetValues(values)
		}
		return err
	}
	if r.o.mean == nil {
		return errors.Join(sorted(), r.spread())
	}
	state := r.s.State.Values()
	r.s.State.WriteF32(0, r.o.mean.Values())
	err = sorted()
	r.o.mean.WriteF32(0, r.s.State.Values())
	r.s.State.WriteF32(0, state)
	return errors.Join(err, sorted(), r.spread())
}

// teaching is the largest path with weights that no longer change, which predicts in training's way, with the
// statistics of the batch.
type teaching struct {
	s      *Supernet
	values [][]float32
}

// teach puts a teacher on every rank's device. It sees the batches of the paths that it teaches.
func (r *elasticRun) teach(values [][]float32) error {
	return r.each(func(i int, k *rank) error {
		n := r.nets[i]
		s, err := NewSupernet(k.dev, r.shared, n.SupernetOptions)
		if err != nil {
			return err
		}
		n.teacher = &teaching{s, values}
		s.inputs = n.inputs
		s.SetValues(values)
		return nil
	})
}

func (t *teaching) close() {
	if t != nil {
		t.s.Close()
	}
}

// graduate makes the largest path, as it is, the teacher of the stages to come.
func (r *elasticRun) graduate() (err error) {
	return r.o.averaged(func() error {
		if err = r.teach(r.s.Values()); err != nil || r.Dir == "" {
			return err
		}
		path := filepath.Join(r.Dir, TeacherName)
		if err := r.save(path); err != nil {
			return err
		}
		r.state.Elastic.Teacher, err = fileSum(path)
		return err
	})
}

// recall takes the teacher that was trained before the run stopped.
func (r *elasticRun) recall() error {
	want := r.state.Elastic.Teacher
	if want == "" {
		return nil
	}
	var values [][]float32
	if r.Dir != "" {
		path := filepath.Join(r.Dir, TeacherName)
		sum, err := fileSum(path)
		if err != nil {
			return fmt.Errorf("the teacher's weights: %w", err)
		}
		if sum != want {
			return fmt.Errorf("%s is not the file that the run has written (SHA-256 %s, want %s)", path, sum, want)
		}
		w, err := OpenWeights(path)
		if err != nil {
			return err
		}
		if values, err = w.FillShared(r.shared); err != nil {
			return err
		}
	}
	values, err := r.shareValues(values)
	if err != nil {
		return err
	}
	return r.teach(values)
}

// paths are those of an update, for images of a side.
func (r *elasticRun) paths(update, side int) ([]wanted, error) {
	rec, stage := r.SupernetJob.Recipe, r.stages[r.state.Elastic.Stage]
	o := PathOptions{Loss: nn.Loss{Smoothing: rec.LabelSmoothing}, Divide: rec.Accumulate}
	random, others := o, func(net *nn.Network) *nn.Network { return zoo.Regularize(net, rec.Dropout, 0) }
	var all []wanted
	if rec.Method == MethodSandwich {
		others = func(net *nn.Network) *nn.Network { return zoo.Regularize(net, 0, 0) }
		o.Teach = true
		random.Loss = nn.Loss{Distill: 1, Temperature: 1, TeacherAlone: true}
		all = []wanted{{key: r.Elastic.Largest(side), options: o, change: func(net *nn.Network) *nn.Network {
			return zoo.Regularize(net, rec.Dropout, rec.DropPath)
		}}, {key: r.Elastic.Smallest(side), options: random, change: others}}
	} else if r.nets[0].teacher != nil {
		random.Loss.Distill, random.Loss.Temperature = rec.Distill, rec.Temperature
	}
	random.Once = true
	for k := range stage.Paths {
		key, err := r.Elastic.Sample(pathDraw(r.course.Seed, uint32(update), k), stage.Choices, side)
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", stage.Name, err)
		}
		all = append(all, wanted{key: key, options: random, change: others})
	}
	return all, nil
}

// step trains the paths of an update on a batch. While one runs on an accelerator the next is recorded.
func (r *elasticRun) step(_ context.Context, b *data.Batch, part int) error {
	all, err := r.paths(r.state.Update, b.Side)
	if err != nil {
		return err
	}
	err = r.inShards(part, func(i int, _ *rank, shard, mine int) error {
		if teacher := r.nets[i].teacher; teacher != nil {
			m, err := r.pathOf(teacher.s, wanted{key: r.Elastic.Largest(b.Side), options: PathOptions{EvalOnly: true,
				Teach: true}})
			if err != nil {
				return err
			}
			m.Recalibrate() // forward, with the statistics of the batch
		}
		return r.trainPaths(i, all, part, shard, mine)
	})
	if err != nil {
		return err
	}
	if r.nets[0].teacher != nil {
		r.state.Elastic.Cost.Teacher++
	}
	return r.trained(all, b)
}

// judged are the paths that are looked at after an epoch, with their roles.
func (r *elasticRun) judged() (roles []string, keys []string, err error) {
	c, least, most := r.stages[r.state.Elastic.Stage].Choices, r.sides[0], r.sides[len(r.sides)-1]
	smallest := r.Elastic.Smallest(least)
	if len(c.Kernels) > 0 { // of a stage that has fewer choices
		one := choices([]int{slices.Min(c.Kernels)}, []int{slices.Min(c.Depths)}, []int{slices.Min(c.Expansions)})
		if smallest, err = r.Elastic.Sample(pathDraw(r.course.Seed, judgedUpdate, 0), one, least); err != nil {
			return nil, nil, err
		}
	}
	roles, keys = []string{RoleLargest, RoleSmallest}, []string{r.Elastic.Largest(most), smallest}
	for k := range r.SupernetJob.Recipe.Judged {
		draw := pathDraw(r.course.Seed, judgedUpdate, k)
		key, err := r.Elastic.Sample(draw, c, r.sides[draw.Intn(len(r.sides))])
		if err != nil {
			return nil, nil, err
		}
		roles, keys = append(roles, fmt.Sprint(roleRandom, k+1)), append(keys, key)
	}
	return roles, keys, nil
}

func (r *elasticRun) validate(ctx context.Context, epoch int, values map[string]float64) error {
	roles, keys, err := r.judged()
	if err != nil {
		return err
	}
	values["recording_share"] = r.recording.Seconds() / time.Since(r.begun).Seconds()
	var found []PathEvaluation
	err = r.averaged(func() error {
		var all []wanted
		for _, key := range keys {
			all = append(all, wanted{key: key})
		}
		judged, err := r.judge(ctx, all)
		for i, e := range judged {
			e.Epoch = epoch
			found = append(found, PathEvaluation{roles[i], keys[i], e})
			values["top1 "+roles[i]], values["loss "+roles[i]] = e.Top1, float64(e.Loss)
		}
		return err
	})
	if err == nil {
		r.state.Elastic.Paths = append(r.state.Elastic.Paths, found...)
	}
	return err
}
