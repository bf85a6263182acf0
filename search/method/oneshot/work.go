package oneshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/controller"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
)

// work is a search of this package in work.
type work struct {
	*run.Run
	method
	recipeName string
	recipe     trainer.SupernetRecipe
	dir        string // of the supernet
	temporary  bool   // it goes when the search ends: the run has no folder
	policy     *supernet.Policy
	protocol   *published
	trained    *trainer.SupernetResult
	evaluator  *supernet.Evaluator
	known      map[space.Arch]run.Measured
	asked      map[space.Arch]bool // of this process: a search that goes on knows more than it had asked for so far
	state      state
	logged     int // events so far, those of before a resume too
}

// state is what a checkpoint has of the pick: what was measured, in order. All else follows from it.
type state struct {
	Archs      []string
	Accuracies []float64
	Logged     int // events, which are not to be logged again
}

// open reads the recipe, takes over what was measured, and says where the supernet is.
func (w *work) open() (err error) {
	if w.recipeName, w.recipe, err = w.SharedWeights.Recipe(w.name); err != nil {
		return fmt.Errorf("--supernet-recipe: %w", err)
	}
	if w.recipe.Method != w.name {
		return fmt.Errorf("--supernet-recipe %s: its method is %s, want %s", w.recipeName, w.recipe.Method, w.name)
	}
	if _, err := w.Restore(&w.state); err != nil {
		return err
	}
	for i, text := range w.state.Archs {
		a, err := w.Deps.Space.Parse(text)
		if err != nil {
			return err
		}
		w.known[a] = run.Measured{Arch: a, Accuracy: w.state.Accuracies[i]}
	}
	if w.Dir != "" {
		w.dir = filepath.Join(w.Dir, report.SupernetName)
		return nil
	}
	w.temporary = true
	w.dir, err = os.MkdirTemp("", "ctnas-supernet-*")
	return err
}

// close frees what the search held.
func (w *work) close() {
	if w.evaluator != nil {
		_ = w.evaluator.Close()
	}
	if w.policy != nil {
		w.policy.Close()
	}
	if w.temporary {
		_ = os.RemoveAll(w.dir)
	}
}

// train trains the supernet, or goes on.
func (w *work) train(ctx context.Context) error {
	sampler, err := w.sampler()
	if err != nil {
		return err
	}
	w.trained, err = w.Supernets.Train(ctx, run.SupernetOrder{Dir: w.dir, Space: w.Config.Space, Data: w.SupernetData,
		RecipeName: w.recipeName, Recipe: w.recipe, Seed: w.Seed, Sampler: sampler,
		Progress: func(p trainer.Progress) {
			w.Report(run.Progress{Stage: "supernet", Done: p.Update, Total: p.Updates})
		}})
	w.Spent("supernet")
	return err
}

// sampler says which paths are trained; nil: the recipe's method does.
func (w *work) sampler() (sampler trainer.Sampler, err error) {
	if w.picks == samples {
		w.policy, err = supernet.NewPolicy(w.Device, w.Deps.Space, w.controller(), w.recipe.ControllerEpochs())
		if err != nil {
			return nil, err
		}
		sampler = w.policy
	}
	if w.SupernetPreset != search.PresetPublished || w.picks == derives {
		return sampler, nil
	}
	if sampler == nil {
		if sampler, err = supernet.NewSampler(w.Deps.Space, w.recipe, space.NetworkSize{}, w.Seed); err != nil {
			return nil, err
		}
	}
	w.protocol = w.publishedProtocol(sampler)
	return w.protocol, nil
}

// controller is ENAS's.
func (w *work) controller() controller.Config {
	c := controller.ENAS()
	if w.SupernetPreset != search.PresetPublished {
		c = supernet.PolicyConfig(w.recipe)
	}
	c.Seed = w.Seed
	return c
}

// what is said of the accuracies.
const (
	what      = "held-out accuracy with shared weights"
	byBatches = what + " and each batch's statistics" // where the recipe says so
)

// openEvaluator opens the trained supernet.
func (w *work) openEvaluator(ctx context.Context) error {
	spec := supernet.NewSpec(w.dir)
	spec.Data, spec.Images = w.SupernetData, w.SupernetImages
	if spec.Calibrate = w.recipe.Recalibrate * w.recipe.Batch; w.recipe.Recalibrate == 0 {
		spec.Calibrate, spec.Statistics = supernet.CalibrateImages, supernet.StatisticsBatch
	}
	c := supernet.Config{Spec: spec, Space: w.Deps.Space, Device: w.Device, Workers: w.LabelWorkers,
		Retries: w.LabelRetries}
	if w.Supernets.Images != nil {
		var finish func()
		c.Opening, finish = w.Supernets.Images()
		defer finish()
	}
	var err error
	w.evaluator, err = supernet.Open(ctx, c)
	return err
}

// measure is the accuracy of architectures with shared weights, each measured once. A checkpoint is written every so
// many.
func (w *work) measure(ctx context.Context, archs []space.Arch) ([]run.Measured, error) {
	var todo []space.Arch
	for _, a := range archs {
		if _, known := w.known[a]; !known && !w.asked[a] {
			todo = append(todo, a)
		}
		w.asked[a] = true
	}
	for len(todo) > 0 {
		if w.evaluator == nil {
			if err := w.openEvaluator(ctx); err != nil {
				return nil, err
			}
		}
		some := todo[:min(len(todo), betweenCheckpoints)]
		todo = todo[len(some):]
		found, err := w.evaluator.Evaluate(ctx, some, func(supernet.Told) {})
		if err != nil {
			return nil, err
		}
		for i, a := range some {
			w.state.Archs = append(w.state.Archs, a.String())
			w.state.Accuracies = append(w.state.Accuracies, found[i].Top1)
			w.known[a] = run.Measured{Arch: a, Accuracy: found[i].Top1}
		}
		w.state.Logged = max(w.state.Logged, w.logged)
		if err := w.Save(w.state); err != nil {
			return nil, err
		}
		w.Spent("measure")
		w.Report(run.Progress{Stage: "measure", Done: len(w.known), Total: len(w.known) + len(todo)})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	out := make([]run.Measured, len(archs))
	for i, a := range archs {
		out[i] = w.known[a]
	}
	return out, nil
}

// betweenCheckpoints is how many architectures are measured between checkpoints.
const betweenCheckpoints = 50

// tries is how many draws in a row may come to nothing before it is taken for certain that nothing is left.
const tries = 20000

// random draws up to n distinct architectures within the limits that are none of those known, all of a small space.
func (w *work) random(n int, known map[space.Arch]bool, s *philox.Stream) (out []space.Arch) {
	seen := map[space.Arch]bool{}
	for failed := 0; len(out) < n && failed < tries; failed++ {
		if a := w.Sample(s); !seen[a] && !known[a] && w.Allowed(a) {
			seen[a] = true
			out = append(out, a)
			failed = -1
		}
	}
	return out
}

// generation logs what was measured together.
func (w *work) generation(step int, all []run.Measured) error {
	if len(all) == 0 {
		return nil
	}
	best, mean := 0.0, 0.0
	texts := make([]string, len(all))
	for i, m := range all {
		best, mean = max(best, m.Accuracy), mean+m.Accuracy/float64(len(all))
		texts[i] = m.Arch.String()
	}
	shares, err := supernet.OpShares(w.Deps.Space, texts)
	if err != nil {
		return err
	}
	return w.log(report.EventGeneration, step, shares, map[string]float64{"best": best, "mean": mean,
		"measured": float64(len(w.asked))})
}

// mostShares is how many operations have shares in the log: an alphabet of hundreds says nothing at a glance.
const mostShares = 12

func (w *work) log(name string, step int, shares, values map[string]float64) error {
	if len(shares) <= mostShares {
		for op, share := range shares {
			values[report.SharePrefix+op] = share
		}
	}
	if w.logged++; w.logged <= w.state.Logged {
		return nil
	}
	return w.Event(report.Event{Name: name, Step: step, Values: values})
}

var errNothing = errors.New("no architecture is within the limits")

// best is the one with the highest accuracy, the first of equal ones.
func best(all []run.Measured) (run.Measured, error) {
	if len(all) == 0 {
		return run.Measured{}, errNothing
	}
	top := all[0]
	for _, m := range all {
		if m.Accuracy > top.Accuracy {
			top = m
		}
	}
	return top, nil
}
