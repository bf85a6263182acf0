package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/exec"
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
	mixed     Mixed
	network   nn.Path
	second    *feed // of the images that α learn from
	alpha     *alphaOptimizer
	unrolled  *unrolled // nil: α learn in first order
	alphaLoss float64   // of the latest update of α; not finite: it was left out
	looks     []*Model  // that saw the latest images of α
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
	r.alpha.updates.WriteI32(0, []int32{r.state.Elastic.AlphaUpdates})
	if err := r.fed(r.images(r.start(), r.course.Recipe.Epochs)); r.feed == nil || err != nil {
		return nil, err
	}
	batches := r.course.Data.Validation.Len() / r.course.Recipe.Batch
	done := max(0, r.state.Update-r.learnsFrom())
	at := data.Position{Epoch: done / batches, Batch: done % batches}
	l, err := data.NewLoader(r.course.Data.Validation, r.images(at, 0))
	if err == nil {
		r.second = newFeed(r.s.arena, r.s.Second, l, max(0, r.updates-r.learnsFrom())-done)
	}
	return nil, err
}

// put puts the shared variables, the mixture and the optimizers on the device, and says what all of it is.
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
	r.alpha = newAlphaOptimizer(r.s, rec.Mixing)
	r.kept = append(append(r.kept, r.s.Mixture.Alpha), r.alpha.moments...)
	if rec.SecondOrder {
		r.unrolled = newUnrolled(r.s, r.o)
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

func (r *mixedRun) close() error {
	if r.second != nil {
		r.second.close()
	}
	return r.supernetRun.close()
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

// model is the network that mixes.
func (r *mixedRun) model(o PathOptions) (*Model, error) {
	return r.path(r.s, wanted{options: o, build: func() (nn.Path, error) { return r.network, nil }})
}

// pass runs the network forward and backward. It returns the model, which has the loss.
func (r *mixedRun) pass(pass int, o PathOptions) (*Model, error) {
	m, err := r.model(o)
	if err != nil {
		return nil, err
	}
	at := uint32(r.state.Update*passes + pass)
	r.soften(at)
	m.SetPathRate(r.course.Recipe.PathRate(r.state.Step / r.perEpoch))
	m.Step(at, 0)
	cost := &r.state.Elastic.Cost
	cost.Steps++
	cost.MAdds += uint64(3 * int64(r.s.Batch) * r.cost(RoleMixture, m))
	return m, nil
}

// soften sets the weights of the choices, by chance with MethodFBNet.
func (r *mixedRun) soften(at uint32) {
	rec, m := r.SupernetJob.Recipe, r.s.Mixture
	if rec.Method != MethodFBNet {
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
	r.s.ZeroGradient()
	m, err := r.pass(passTrain, r.training())
	if err != nil {
		return err
	}
	r.s.FinishGradient()
	r.models = append(r.models[:0], m)
	r.s.touch(r.models)
	r.state.Elastic.Cost.Images += int64(b.N)
	return nil
}

// training is how the weights see their images.
func (r *mixedRun) training() PathOptions {
	return PathOptions{Loss: nn.Loss{Smoothing: r.course.Recipe.LabelSmoothing}, FixedMixture: true}
}

// learn is an update of α. Running statistics stay as they were.
func (r *mixedRun) learn(ctx context.Context) error {
	b, err := r.second.take(ctx)
	if err == nil {
		err = r.tally.Add(r.course.Data.Corrupt(r.course.Data.Validation, b.Corrupt))
	}
	if err != nil {
		return err
	}
	r.s.KeepStatistics()
	if r.unrolled != nil {
		err = r.secondOrder()
	} else {
		err = r.firstOrder(passAlpha, PathOptions{FixedWeights: true, Second: true})
	}
	r.s.RestoreStatistics()
	r.second.ahead(ctx)
	if err != nil || !finite(r.alphaLoss) {
		return err
	}
	for _, g := range r.s.Mixture.AlphaGrad.Values() {
		if !finite(float64(g)) {
			r.alphaLoss = math.NaN()
			return nil
		}
	}
	r.alpha.program.Run(1)
	r.state.Elastic.AlphaUpdates++
	r.state.Elastic.Cost.Images += int64(b.N)
	return nil
}

// firstOrder leaves the gradient of α for weights as they are.
func (r *mixedRun) firstOrder(pass int, o PathOptions) error {
	r.s.Mixture.ZeroGradient()
	m, err := r.pass(pass, o)
	if err != nil {
		return err
	}
	loss := m.TotalLoss()
	r.s.Mixture.FinishGradient(loss)
	r.looks = append(r.looks, m)
	if finite(r.alphaLoss) {
		r.alphaLoss = loss
	}
	return nil
}

// metrics are the loss and the norm of the weights' gradient; of an update of α that was left out, its loss.
func (r *mixedRun) metrics() (loss, norm float64) {
	if !finite(r.alphaLoss) {
		return r.alphaLoss, math.NaN() // the weights have no gradient
	}
	return r.supernetRun.metrics()
}

func (r *mixedRun) inspect() (string, error) {
	if !finite(r.alphaLoss) {
		r.models = append(r.models[:0], r.looks...)
	}
	return r.supernetRun.inspect()
}

// validate measures the mixture and the path that it stands for.
func (r *mixedRun) validate(ctx context.Context, epoch int, values map[string]float64) error {
	m, e := r.s.Mixture, &r.state.Elastic
	m.SetTemperature(1)
	m.Soften()
	weights := m.Split(m.Weights)
	derived, err := r.mixed.Derive(weights)
	if err != nil {
		return err
	}
	var paths []PathEvaluation
	err = r.o.averaged(func() error {
		for _, w := range []wanted{{key: "", build: func() (nn.Path, error) { return r.network, nil }},
			{key: derived}} {
			role := RoleMixture
			if w.key != "" {
				role = RoleDerived
			}
			found, err := r.judgedHeld(ctx, w)
			if err != nil {
				return err
			}
			found.Epoch = epoch
			paths = append(paths, PathEvaluation{role, w.key, found})
			values["top1 "+role], values["loss "+role] = found.Top1, float64(found.Loss)
		}
		return nil
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
