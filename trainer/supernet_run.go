package trainer

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// elasticProgress is what of a supernet's progress lies outside the device.
type elasticProgress struct {
	Stage   int
	Cost    SupernetCost
	Paths   []PathEvaluation
	Teacher string    // checksum of the file in the run's folder; empty: there is none yet
	Sampler []byte    // what the job's sampler has learned
	Chosen  [][]int64 // how many paths of updates had each choice of each decision; nil: none are counted
	// Mixture are the weights after each epoch, and AlphaUpdates how often α were updated, as Adam counts them.
	Mixture      []MixtureWeights
	AlphaUpdates int32
}

// counts are a copy of what steps count, for an update that is broken off.
func (p *elasticProgress) counts() elasticProgress {
	out := elasticProgress{Cost: p.Cost}
	for _, c := range p.Chosen {
		out.Chosen = append(out.Chosen, slices.Clone(c))
	}
	return out
}

// supernetRun is what trainings of supernets in work have in common.
type supernetRun struct {
	course
	SupernetJob
	shared   nn.Shared
	s        *Supernet // the first rank's
	nets     []*rankedSupernet
	models   []*Model // of the latest step's paths, on the first rank
	perImage map[string]int64
	side     int           // of the images, where all have one
	heldOut  *data.Decoded // images that paths are measured on; nil before they are first asked for
	losses   []float64     // of the latest step's shards, those of other nodes too; nil: a batch is one shard
	// recording is how long it took to record paths on the first rank; on an accelerator the one before runs meanwhile.
	recording time.Duration
}

// rankedSupernet is a rank's supernet, with the models of the latest paths that it trained and, of once-for-all's
// method, the teacher.
type rankedSupernet struct {
	*Supernet
	models  []*Model
	losses  []float64 // the mean of its paths' losses, by the rank's own shards; nil: a batch is one shard
	teacher *teaching
}

func newSupernetRun(j SupernetJob, d Deps) (r supernetRun, err error) {
	d.Stop = nil
	r = supernetRun{course: newCourse(Job{Arch: j.Space, Data: j.Data, Source: j.Source, Recipe: j.Recipe.Recipe,
		Seed: j.Seed, OnNaN: j.OnNaN, OnCorrupt: j.OnCorrupt}, d), SupernetJob: j, perImage: map[string]int64{}}
	return r, r.checkFaults()
}

// place puts the shared variables and the optimizer on the device, for images of sides up to one, with the rows that
// networks mix by.
func (r *supernetRun) place(side int, rows []nn.Row, o MixtureOptions) (err error) {
	classes, rec := len(r.course.Data.Classes), r.course.Recipe
	if r.shared, err = r.SupernetJob.Paths.Supernet(classes); err != nil {
		return err
	}
	err = r.openRanks(func(k *rank, all, mine int) error {
		s, err := NewSupernet(k.dev, r.shared, SupernetOptions{Batch: rec.Batch / all, Shards: all,
			Image: nn.Shape{H: side, W: side, C: 3}, Classes: classes, Seed: r.course.Seed, Clip: rec.Clip,
			meeting: r.meets(k), Cache: r.Cache, Rows: rows, MixtureOptions: o})
		if err != nil {
			return err
		}
		n := &rankedSupernet{Supernet: s}
		k.params, k.free = s.Parameters, func() {
			n.teacher.close()
			s.Close()
		}
		if r.SupernetJob.Recipe.Untouched == UntouchedStay {
			s.leaveUntouched()
		}
		if all > 1 {
			k.sharding = newSharding(s.Parameters, nil, all, mine, rec.Accumulate, rec.Clip)
			n.losses = make([]float64, mine)
		}
		r.nets = append(r.nets, n)
		return nil
	})
	if err == nil {
		r.s = r.nets[0].Supernet
	}
	return err
}

// sided finds the side of the images of a supernet whose paths all have one.
func (r *supernetRun) sided() error {
	if r.side = r.SupernetJob.Recipe.Side(r.course.Data); r.side == 0 {
		return fmt.Errorf("resolution 0: the images of %s have sides of their own", r.course.Source)
	}
	return nil
}

// goOn goes back to the folder's checkpoint, or begins. It returns what stands in the folder of a training that has
// ended; nil: there is something left to do.
func (r *supernetRun) goOn(begin func() error) (*SupernetResult, error) {
	if err := r.resume(begin); err != nil {
		return nil, err
	}
	result := &SupernetResult{Finished: true}
	if ended, err := r.rest(result); !ended || err != nil {
		return nil, err
	}
	return result, nil
}

// fed opens the training images for the updates that are left, if any are.
func (r *supernetRun) fed(images data.Config) error {
	if r.state.Update == r.updates {
		return nil
	}
	l, err := r.load(r.course.Data.Train, images)
	if err == nil {
		var to []receiver
		for _, n := range r.nets {
			to = append(to, receiver{arena: n.arena, in: n.inputs})
		}
		rec := r.course.Recipe
		r.feed = newFeed(l, r.updates*rec.Accumulate-r.state.Step, r.portion(), to...)
	}
	return err
}

// images is how images of one side are brought in, from a position on and for so many epochs, 0: as many as are asked
// for, with the recipe's transforms.
func (r *supernetRun) images(start data.Position, epochs int) data.Config {
	rec := r.course.Recipe
	return data.Config{Batch: rec.Batch, Transform: trainTransform(r.course.Data, rec, r.side), Seed: r.course.Seed,
		Train: true, Epochs: epochs, Start: start, Shards: rec.parts(), Workers: r.Workers,
		OnCorrupt: r.course.OnCorrupt}
}

// shapes are the shared variables, in words.
func (r *supernetRun) shapes() string {
	var b strings.Builder
	for _, v := range r.shared.Variables {
		fmt.Fprint(&b, v.Name, v.Shape)
	}
	return b.String()
}

// random are start values of the shared variables.
func (r *supernetRun) random() [][]float32 {
	rec := r.SupernetJob.Recipe
	values := r.shared.Initialize(initializers[rec.Init], r.course.Seed)
	if rec.ZeroGamma {
		r.shared.ZeroBranches(values)
	}
	return values
}

// wanted is a path of an update.
type wanted struct {
	key     string
	options PathOptions
	change  func(net *nn.Network) *nn.Network // of the network, by its key; nil: none
	build   func() (nn.Path, error)           // the path; nil: that of the key
}

// pathOf is the model of a path, recorded when it is first wanted. Each rank may record one at the same time.
func (r *supernetRun) pathOf(s *Supernet, w wanted) (*Model, error) {
	if s == r.s {
		begin := time.Now()
		defer func() { r.recording += time.Since(begin) }() // next to nothing where the path is recorded
	}
	return s.Path(w.key, w.options, func() (nn.Path, error) {
		if w.build != nil {
			return w.build()
		}
		p, err := r.Paths.Path(w.key, len(r.course.Data.Classes))
		if err == nil && w.change != nil {
			p.Network = w.change(p.Network)
		}
		return p, err
	})
}

// trainPaths trains the paths of step `part` of an update on a shard, rank i's number `mine`.
func (r *supernetRun) trainPaths(i int, all []wanted, part, shard, mine int) error {
	n, at := r.nets[i], r.state.Step+part
	sharded := n.losses != nil
	if part == 0 || sharded {
		n.ZeroGradient()
	}
	n.models = n.models[:0]
	for k, w := range all {
		m, err := r.pathOf(n.Supernet, w)
		if err != nil {
			return err
		}
		m.SetPathRate(r.course.Recipe.PathRate(at / r.perEpoch))
		m.Step(r.number(at, shard, k), part)
		n.models = append(n.models, m)
	}
	if n.touch(n.models); sharded {
		n.losses[mine] = meanLoss(n.models)
	} else {
		n.FinishGradient()
	}
	return nil
}

// meanLoss is the mean of models' losses; of a shard its part of the batch's.
func meanLoss(models []*Model) (mean float64) {
	for _, m := range models {
		mean += m.TotalLoss() / float64(len(models))
	}
	return mean
}

// number is that of a path's pass, on which its random numbers depend: path k of a step on a shard.
func (r *supernetRun) number(step, shard, k int) uint32 {
	return uint32((step*r.course.Recipe.parts()+shard)*(mostPaths+2) + k)
}

// trained counts a step of paths on a batch.
func (r *supernetRun) trained(all []wanted, b *data.Batch) error {
	cost := &r.state.Elastic.Cost
	r.models = append(r.models[:0], r.nets[0].models...)
	for k, w := range all {
		cost.Steps++
		cost.MAdds += uint64(3 * int64(b.N) * r.cost(w.key, r.models[k]))
	}
	cost.Images += int64(b.N)
	return r.gatherLosses()
}

// gatherLosses has the losses of all shards of a batch, when they have been trained on.
func (r *supernetRun) gatherLosses() error {
	r.losses = nil
	for _, n := range r.nets {
		r.losses = append(r.losses, n.losses...)
	}
	return r.ofAll(&r.losses)
}

// cost is how many multiply-adds a path takes for one image.
func (r *supernetRun) cost(key string, m *Model) int64 {
	madds, known := r.perImage[key]
	if !known {
		if len(r.perImage) > 1<<16 { // nothing depends on what it remembers
			clear(r.perImage)
		}
		madds = m.Net.Cost().MAdds
		r.perImage[key] = madds
	}
	return madds
}

// loss is the mean of the latest paths' losses.
func (r *supernetRun) loss() (loss float64) {
	if r.losses == nil {
		return meanLoss(r.models)
	}
	for _, l := range r.losses {
		loss += l
	}
	return loss
}

// metrics are the mean of the paths' losses and the norm of their gradients' sum.
func (r *supernetRun) metrics() (loss, norm float64) { return r.loss(), r.s.GradientNorm() }

func (r *supernetRun) inspect() (where string, err error) {
	defer exec.Catch(&err)
	of := func(m *Model, look func() (string, error)) bool {
		if where, err = look(); where != "" {
			where = fmt.Sprintf("%s of path %s", where, m.Net.Name)
		}
		return where != "" || err != nil
	}
	if r.s.Shards <= 1 {
		for _, m := range r.models {
			if of(m, m.Inspect) {
				break
			}
		}
		return where, err
	}
	where, err = r.inspectShards(r.feed, func(i int, _ *rank, shard int) (string, error) {
		for k, m := range r.nets[i].models {
			m.step.WriteI32(0, []int32{int32(r.number(r.state.Step-1, shard, k))})
			if of(m, m.inspectOutputs) {
				break
			}
		}
		return where, err
	})
	if where == "" && err == nil {
		where = r.models[0].inspectGradient()
	}
	return where, err
}

// end is the result, which is written with the weights.
func (r *supernetRun) end(save func(path string) error, mixture *MixtureResult) (*SupernetResult, error) {
	s, d := &r.state, r.course.Data
	params := int64(0)
	for _, v := range r.shared.Variables {
		if v.Role.Trainable() {
			params += int64(v.Len())
		}
	}
	s.Elastic.Cost.Updates = s.Update
	result := &SupernetResult{Space: r.Space, Method: r.SupernetJob.Recipe.Method, Data: r.course.Source,
		Checksum: r.ident.Images, Classes: d.Classes, HeldOut: r.HeldOut, Recipe: r.SupernetJob.Recipe,
		Seed: r.course.Seed, Device: r.dev.Kind(), Params: params, Teacher: r.ident.Teacher, Cost: s.Elastic.Cost,
		Skipped: s.Skipped, TrainLoss: s.TrainLoss, Paths: slices.Clip(s.Elastic.Paths), Fairness: r.fairness(),
		Corrupt: r.tally.Summary(), Mixture: mixture}
	if r.Dir == "" {
		return result, nil
	}
	for _, name := range []string{WeightsTorchName, WeightsName} {
		if err := r.o.averaged(func() error { return save(filepath.Join(r.Dir, name)) }); err != nil {
			return nil, err
		}
	}
	return result, r.write(result, result.Corrupt)
}

// saveOf writes the shared variables, with the constants of a path's network. Their running statistics are those that
// the latest paths left, of no one network.
func (r *supernetRun) saveOf(path, one string) error {
	network, err := r.SupernetJob.Paths.Path(one, len(r.course.Data.Classes))
	if err != nil {
		return err
	}
	own := zoo.Variants(network.Network)[0]
	own.Images = ImagesOf(r.course.Data, r.side)
	metadata := Metadata(r.Space, own.String(), own.Constants, r.course.Data.Classes)
	metadata[SpaceKey] = r.Space
	metadata[HeldOutKey] = strconv.Itoa(r.HeldOut)
	AddSize(metadata, r.course.Recipe.Size)
	AddImages(metadata, r.course.Recipe.Images)
	return WriteShared(path, r.shared, r.s.Values(), metadata)
}
