package trainer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Mixed are paths that are what one network mixes by rows of weights.
type Mixed interface {
	Paths
	// Mixture is the network of all choices, over the variables of Supernet. It has no auxiliary heads.
	Mixture(classes int) (nn.Path, error)
	// Derive is the path that weights of the mixture's rows stand for.
	Derive(weights [][]float32) (string, error)
}

// MixtureResult is how a mixture learned.
type MixtureResult struct {
	Rows   []MixtureRow     `json:"rows"`
	Epochs []MixtureWeights `json:"epochs"`
	// Derived is the path that the last weights stand for.
	Derived string `json:"derived"`
}

// MixtureRow is a decision with the names of its choices.
type MixtureRow struct {
	Name    string   `json:"name"`
	Choices []string `json:"choices"`
}

// MixtureWeights are the weights after an epoch: the softmax of α alone, whatever the temperature.
type MixtureWeights struct {
	Epoch   int         `json:"epoch"`
	Weights [][]float32 `json:"weights"` // of each row's choices
	Derived string      `json:"derived"` // the path that they stand for
}

// Roles of what a mixture's training looks at after each epoch.
const (
	RoleMixture = "mixture" // the network that mixes
	RoleDerived = "derived" // the path that its weights stand for, with the shared ones
)

// mixedRun is the training of a network that mixes all choices: its weights on the training images, and in turns with
// them the numbers α, from which the weights of the choices come, on held-out ones (Liu et al. 2019, DARTS; Wu et al.
// 2019, FBNet). An update is one of α, if they learn yet, and then one of the weights.
type mixedRun struct {
	supernetRun
	mixed      Mixed
	network    nn.Path
	second     *feed // of the images that α learn from
	parts      []*rankedMixture
	choiceSums []*group.Sum // of the gradient in the weights of the choices; empty: a batch is one shard
	alphaLoss  float64      // of the latest update of α; not finite: it was left out
	looks      []look       // passes of the latest update
}

// rankedMixture is what lets a rank's α learn.
type rankedMixture struct {
	*rankedSupernet
	alpha    *alphaOptimizer
	unrolled *unrolled // nil: α learn in first order
	choices  *adding   // of the gradient in the weights of the choices; nil: a batch is one shard
}

// look is a pass of an update.
type look struct {
	pass    int
	options PathOptions
}

func newMixedRun(j SupernetJob, d Deps) (*mixedRun, error) {
	mixed, ok := j.Paths.(Mixed)
	if !ok {
		return nil, fmt.Errorf("method %s: there is no network that mixes the choices of %s", j.Recipe.Method, j.Space)
	}
	all, err := newSupernetRun(j, d)
	if err != nil {
		return nil, err
	}
	r := &mixedRun{supernetRun: all, mixed: mixed}
	r.learner = r
	if n := j.Data.Validation.Len(); n < j.Recipe.Batch {
		return nil, fmt.Errorf("held-out %d: %s has %d validation images, and the weights of choices learn from "+
			"batches of %d", j.HeldOut, j.Source, n, j.Recipe.Batch)
	}
	return r, r.sided()
}

func (r *mixedRun) open(ctx context.Context) (*SupernetResult, error) {
	if err := r.put(ctx); err != nil {
		return nil, err
	}
	if ended, err := r.goOn(r.begin); ended != nil || err != nil {
		return ended, err
	}
	if err := r.each(func(i int, _ *rank) error {
		r.parts[i].alpha.updates.WriteI32(0, []int32{r.state.Elastic.AlphaUpdates})
		return nil
	}); err != nil {
		return nil, err
	}
	if err := r.fed(r.images(r.start(), r.course.Recipe.Epochs)); r.feed == nil || err != nil {
		return nil, err
	}
	batches := r.course.Data.Validation.Len() / r.course.Recipe.Batch
	done := max(0, r.state.Update-r.learnsFrom())
	at := data.Position{Epoch: done / batches, Batch: done % batches}
	l, err := r.load(r.course.Data.Validation, r.images(at, 0))
	if err == nil {
		var to []receiver
		for _, n := range r.nets {
			to = append(to, receiver{arena: n.arena, in: n.Second})
		}
		r.second = newFeed(l, max(0, r.updates-r.learnsFrom())-done, r.portion(), to...)
	}
	return nil, err
}

// put puts the shared variables, the mixture and the optimizers on the devices, and says what all of it is.
func (r *mixedRun) put(ctx context.Context) (err error) {
	defer exec.Catch(&err)
	rec := r.SupernetJob.Recipe
	if r.network, err = r.mixed.Mixture(len(r.course.Data.Classes)); err != nil {
		return err
	}
	rows := r.network.Mixture
	err = r.place(r.side, rows, MixtureOptions{CostScale: rec.CostScale, CostExponent: rec.CostExponent})
	if err != nil {
		return err
	}
	if err := r.count(r.course.Recipe.Epochs); err != nil {
		return err
	}
	for i, k := range r.ranks {
		n := r.nets[i]
		p := &rankedMixture{rankedSupernet: n, alpha: newAlphaOptimizer(n.Supernet, rec.Mixing)}
		k.more = append([]*exec.Buffer{n.Mixture.Alpha}, p.alpha.moments...)
		if rec.SecondOrder {
			p.unrolled = newUnrolled(n.Supernet, k.o)
		}
		if n.losses != nil {
			choices := newAdding(n.arena, len(n.losses), n.Mixture.WeightGrad)
			p.choices = &choices
		}
		r.parts = append(r.parts, p)
	}
	if r.parts[0].choices != nil {
		r.choiceSums, err = r.sumsOf(func(i int, _ *rank) []*exec.Buffer { return r.parts[i].choices.whole })
		if err != nil {
			return err
		}
	}
	r.ident, err = r.identify(ctx, fmt.Sprint(r.network.Nodes, r.network.Bindings, rows)+r.shapes(), rec, "")
	r.ident.Sides = fmt.Sprint([]int{r.side})
	return err
}

func (r *mixedRun) begin() error {
	r.s.SetValues(r.random())
	r.s.Mixture.Initialize(r.SupernetJob.Recipe.AlphaStart, r.course.Seed)
	r.o.begin()
	return nil
}

func (r *mixedRun) close(err error) error {
	if r.second != nil {
		r.second.close()
	}
	return r.supernetRun.close(err)
}

func (r *mixedRun) ready() error { return nil }

func (r *mixedRun) rate(update int) float64 {
	return r.SupernetJob.Recipe.Rate(update, r.perEpochUpdates())
}

// learnsFrom is the first update in which α learn.
func (r *mixedRun) learnsFrom() int { return r.SupernetJob.Recipe.AlphaFrom * r.perEpochUpdates() }

// Passes of an update: random numbers of each are its own.
const (
	passTrain    = iota // of the weights
	passUnroll          // of the weights, ahead
	passAlpha           // of α, on their own images
	passForward         // of α, on the weights' images, with weights moved along a gradient
	passBackward        // and against it
	passes
)

// model is the network that mixes, of a rank.
func (r *mixedRun) model(p *rankedMixture, o PathOptions) (*Model, error) {
	return r.pathOf(p.Supernet, wanted{options: o, build: func() (nn.Path, error) { return r.network, nil }})
}

// of is the feed of the images that a pass sees.
func (r *mixedRun) of(o PathOptions) *feed {
	if o.Second {
		return r.second
	}
	return r.feed
}

// pass runs the network forward and backward over a batch, each rank over its shards. It leaves the gradients that are
// wanted, in the parameters and in the weights of the choices, of the whole batch on every rank.
func (r *mixedRun) pass(pass int, o PathOptions) error {
	at, shards := uint32(r.state.Update*passes+pass), r.course.Recipe.parts()
	train := func(i int, _ *rank, shard, mine int) error {
		p := r.parts[i]
		m, err := r.model(p, o)
		if err != nil {
			return err
		}
		if mine == 0 {
			r.soften(p.Mixture, at)
		}
		if !o.FixedWeights {
			p.ZeroGradient()
		}
		if !o.FixedMixture {
			p.Mixture.ZeroGradient()
		}
		m.SetPathRate(r.course.Recipe.PathRate(r.state.Step / r.perEpoch))
		m.Step(at*uint32(shards)+uint32(shard), 0)
		p.models = append(p.models[:0], m)
		if p.losses != nil {
			p.losses[mine] = m.TotalLoss()
		}
		if p.choices != nil && !o.FixedMixture {
			p.choices.took(mine)
		}
		return nil
	}
	r.looks = append(r.looks, look{pass, o})
	over := r.sumShards
	if o.FixedWeights {
		over = r.overShards
	}
	err := over(r.of(o), train)
	if err == nil && !o.FixedMixture {
		err = runSums(r.choiceSums)
	}
	if err == nil {
		err = r.gatherLosses()
	}
	if err != nil {
		return err
	}
	r.models = append(r.models[:0], r.nets[0].models...)
	cost := &r.state.Elastic.Cost
	cost.Steps++
	cost.MAdds += uint64(3 * int64(r.course.Recipe.Batch) * r.cost(RoleMixture, r.models[0]))
	return nil
}

// soften sets the weights of the choices, by chance with MethodFBNet: by the same chance for all images of a batch.
func (r *mixedRun) soften(m *Mixture, at uint32) {
	if r.SupernetJob.Recipe.Method != MethodFBNet {
		m.Soften()
		return
	}
	m.SetTemperature(r.temperature())
	m.SoftenGumbel(at)
}

// temperature is that of the Gumbel softmax in the epoch of the next step (Wu et al. 2019, section 4.1).
func (r *mixedRun) temperature() float64 {
	rec := r.SupernetJob.Recipe
	return max(rec.GumbelLeast, rec.GumbelStart*math.Exp(-rec.GumbelDecay*float64(r.state.Step/r.perEpoch)))
}

// step lets α learn and trains the weights on a batch.
func (r *mixedRun) step(ctx context.Context, b *data.Batch, _ int) error {
	r.alphaLoss, r.looks = 0, r.looks[:0]
	if r.state.Update >= r.learnsFrom() {
		if err := r.learn(ctx); err != nil {
			return err
		}
	}
	if !finite(r.alphaLoss) {
		return nil
	}
	if err := r.pass(passTrain, r.training()); err != nil {
		return err
	}
	r.state.Elastic.Cost.Images += int64(b.N)
	return r.each(func(i int, k *rank) error {
		p := r.parts[i]
		if k.sharding != nil {
			k.sharding.finish(0)
		} else {
			p.FinishGradient()
		}
		p.touch(p.models)
		return nil
	})
}

// training is how the weights see their images.
func (r *mixedRun) training() PathOptions {
	return PathOptions{Loss: nn.Loss{Smoothing: r.course.Recipe.LabelSmoothing}, FixedMixture: true}
}

// learn is an update of α. Running statistics stay as they were.
func (r *mixedRun) learn(ctx context.Context) error {
	b, err := r.takeBatch(ctx, r.second, r.course.Data.Validation, false)
	if err != nil {
		return err
	}
	if err := r.keepStatistics(); err != nil {
		return err
	}
	if r.SupernetJob.Recipe.SecondOrder {
		err = r.secondOrder()
	} else {
		err = r.firstOrder(passAlpha, PathOptions{FixedWeights: true, Second: true})
	}
	if err = cmp.Or(err, r.restoreStatistics()); err != nil {
		return err
	}
	r.second.ahead(ctx)
	if !finite(r.alphaLoss) {
		return nil
	}
	for _, g := range r.s.Mixture.AlphaGrad.Values() {
		if !finite(float64(g)) {
			r.alphaLoss = math.NaN()
			return nil
		}
	}
	r.state.Elastic.AlphaUpdates++
	r.state.Elastic.Cost.Images += int64(b.N)
	return r.each(func(i int, _ *rank) error {
		r.parts[i].alpha.program.Run(1)
		return nil
	})
}

// firstOrder leaves the gradient of α for weights as they are.
func (r *mixedRun) firstOrder(pass int, o PathOptions) error {
	if err := r.pass(pass, o); err != nil {
		return err
	}
	loss := r.loss()
	if finite(r.alphaLoss) {
		r.alphaLoss = loss
	}
	return r.each(func(i int, _ *rank) error {
		r.parts[i].Mixture.FinishGradient(loss)
		return nil
	})
}

// metrics are the loss and the norm of the weights' gradient; of an update of α that was left out, its loss.
func (r *mixedRun) metrics() (loss, norm float64) {
	if !finite(r.alphaLoss) {
		return r.alphaLoss, math.NaN() // the weights have no gradient
	}
	return r.supernetRun.metrics()
}

// inspect looks at the passes of the latest update, with weights as they are now.
func (r *mixedRun) inspect() (where string, err error) {
	defer exec.Catch(&err)
	shards := r.course.Recipe.parts()
	for _, l := range r.looks {
		at := r.state.Update*passes + l.pass
		where, err = r.inspectShards(r.of(l.options), func(i int, _ *rank, shard int) (string, error) {
			m, err := r.model(r.parts[i], l.options)
			if err != nil {
				return "", err
			}
			m.step.WriteI32(0, []int32{int32(at*shards + shard)})
			return m.inspectOutputs()
		})
		if where != "" || err != nil {
			return where, err
		}
	}
	return r.models[0].inspectGradient(), nil
}

// validate measures the mixture and the path that it stands for.
func (r *mixedRun) validate(ctx context.Context, epoch int, values map[string]float64) error {
	e := &r.state.Elastic
	if err := r.each(func(i int, _ *rank) error {
		m := r.parts[i].Mixture
		m.SetTemperature(1)
		m.Soften()
		return nil
	}); err != nil {
		return err
	}
	weights := r.s.Mixture.Split(r.s.Mixture.Weights)
	derived, err := r.mixed.Derive(weights)
	if err != nil {
		return err
	}
	var paths []PathEvaluation
	err = r.averaged(func() error {
		found, err := r.judge(ctx, []wanted{{build: func() (nn.Path, error) { return r.network, nil }},
			{key: derived}})
		for k, one := range found {
			role, path := []string{RoleMixture, RoleDerived}[k], []string{"", derived}[k]
			one.Epoch = epoch
			paths = append(paths, PathEvaluation{role, path, one})
			values["top1 "+role], values["loss "+role] = one.Top1, float64(one.Loss)
		}
		return err
	})
	if err == nil { // what is interrupted has left nothing
		e.Mixture = append(e.Mixture, MixtureWeights{epoch, weights, derived})
		e.Paths = append(e.Paths, paths...)
	}
	return err
}

// finish writes what remains of a run.
func (r *mixedRun) finish(context.Context) (*SupernetResult, error) {
	all := r.state.Elastic.Mixture
	if len(all) == 0 {
		return nil, errors.New("no epoch has ended, and nothing is derived")
	}
	result := &MixtureResult{Epochs: all, Derived: all[len(all)-1].Derived}
	for _, row := range r.network.Mixture {
		result.Rows = append(result.Rows, MixtureRow{row.Name, row.Choices})
	}
	return r.end(func(path string) error { return r.saveOf(path, result.Derived) }, result)
}
