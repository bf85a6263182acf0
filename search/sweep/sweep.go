// Package sweep trains a list of architectures with several seeds and numbers of epochs, side by side on the processors, and keeps what was measured so
// that a sweep which was stopped goes on where it was. It makes tables of labels and the comparison of a search's pick with random architectures.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Plan is what a sweep trains: every architecture with every number of epochs and every seed, in this order of nesting from the inside.
type Plan struct {
	Archs  []space.Arch
	Build  func(space.Arch) (*nn.Network, error)
	Data   *data.Dataset // with validation and test images
	Source string        // what Data was opened from, without paths
	Recipe trainer.Recipe
	Epochs []int // budgets, each with a schedule of its own; the recipe's own number counts for nothing
	Seeds  []uint64
}

// Deps are what a sweep works with. The measurements do not depend on them but for the instruction set.
type Deps struct {
	Device   exec.Config // its threads are trainings at the same time, of one thread each; 0: as many as processors
	Log      string      // file of finished trainings, that a sweep goes on from; empty: none
	Version  string      // of the program
	Progress func(done, total int)
}

// Training is a finished one.
type Training struct {
	Arch       string  `json:"arch"`
	Epochs     int     `json:"epochs"`
	Seed       uint64  `json:"seed"`
	Validation float64 `json:"validation"` // top-1 accuracy at the end, 0..1
	Test       float64 `json:"test"`
	Params     int64   `json:"params"` // of the network that was trained
	MAdds      int64   `json:"madds"`
	Seconds    float64 `json:"seconds"` // that passed; of one thread, with others beside it
}

// key tells a training from the others of a sweep.
type key struct {
	arch   string
	epochs int
	seed   uint64
}

func (t Training) key() key { return key{t.Arch, t.Epochs, t.Seed} }

// Run trains what is not in the log yet and returns all trainings in the plan's order: by seed, then by epochs, then by architecture. A training that
// cannot be finished, even with updates left out, ends the sweep.
func (p Plan) Run(ctx context.Context, d Deps) ([]Training, error) {
	if p.Data.Validation.Len() == 0 || p.Data.Test.Len() == 0 {
		return nil, errors.New("the images have no validation or no test part: hold some out with val-split")
	}
	var todo []key
	archs := map[string]space.Arch{}
	for _, seed := range p.Seeds {
		for _, epochs := range p.Epochs {
			for _, a := range p.Archs {
				archs[a.String()] = a
				todo = append(todo, key{a.String(), epochs, seed})
			}
		}
	}
	level, err := levelOf(d.Device)
	if err != nil {
		return nil, err
	}
	done := map[key]Training{}
	var log *file
	if d.Log != "" {
		if log, err = openLog(d.Log, p.facts(d.Version, level), done); err != nil {
			return nil, err
		}
		defer func() { _ = log.close() }() // every line has been written out
	}
	parallel := d.Device.Threads
	if parallel == 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	left := slices.DeleteFunc(slices.Clone(todo), func(k key) bool { _, ok := done[k]; return ok })
	finished := len(todo) - len(left)
	var mu sync.Mutex
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(parallel)
	for _, k := range left {
		workers.Go(func() error {
			t, err := p.train(ctx, d, archs[k.arch], k)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done[k] = t
			finished++
			if d.Progress != nil {
				d.Progress(finished, len(todo))
			}
			if log == nil {
				return nil
			}
			return log.append(t)
		})
	}
	if err := workers.Wait(); err != nil {
		return nil, err
	}
	list := make([]Training, len(todo))
	for i, k := range todo {
		list[i] = done[k]
	}
	return list, nil
}

func (p Plan) train(ctx context.Context, d Deps, a space.Arch, k key) (Training, error) {
	if err := ctx.Err(); err != nil {
		return Training{}, err
	}
	net, err := p.Build(a)
	if err != nil {
		return Training{}, err
	}
	begin := time.Now()
	r := p.Recipe
	r.Epochs = k.epochs
	device := d.Device
	device.Threads = 1
	got, err := trainer.Train(ctx, trainer.Job{Arch: k.arch, Net: net, Data: p.Data, Source: p.Source, Recipe: r, Seed: k.seed, OnNaN: trainer.OnNaNSkip},
		trainer.Deps{Device: device, Workers: 1, Version: d.Version})
	if err != nil {
		return Training{}, fmt.Errorf("%s, seed %d, %d epochs: %w", k.arch, k.seed, k.epochs, err)
	}
	return Training{k.arch, k.epochs, k.seed, got.Validation[len(got.Validation)-1].Top1, got.Test.Top1, got.Params, got.MAdds, time.Since(begin).Seconds()}, nil
}

// levelOf is the instruction set that a training computes with.
func levelOf(c exec.Config) (string, error) {
	c.Threads = 1
	d, err := exec.Open(c)
	if err != nil {
		return "", err
	}
	defer d.Close()
	return d.Level(), nil
}
