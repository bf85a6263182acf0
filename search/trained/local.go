package trained

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Local trains on this machine's devices. Records and trainings in work are kept in a folder, which processes may
// share: none is trained by two of them at once, and one that was stopped goes on from its checkpoint.
type Local struct {
	// Copies is a store (objects.Open) where trainings in work are copied with every checkpoint, and fetched from where
	// a machine has nothing of one; empty: nothing is copied. Warn is told what goes wrong there; may be nil.
	Copies string
	Warn   func(error)

	Retries int // how often what failed is tried again: the first time from its checkpoint, later afresh

	keep      string // the architecture whose weights stay in the cache; empty: none
	cache     Cache
	devices   []exec.Config
	workers   int // at once; see labels.Places
	materials func(context.Context, Job) (Materials, error)
	places    chan labels.Place // the free ones

	train func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) // trainer.Train but in tests
}

var _ Executor = (*Local)(nil)

// Materials are what a job is done with.
type Materials struct {
	Net    *nn.Network
	Images *data.Dataset // split as the job's seed says
	Start  *trainer.Start
}

// NewLocal trains what materials returns for a job on devices (labels.Devices), workers at once (labels.Places).
func NewLocal(c Cache, devices []exec.Config, workers int, materials func(context.Context, Job) (Materials, error),
) *Local {
	return &Local{cache: c, devices: devices, workers: workers, materials: materials, train: trainer.Train}
}

// Capacity divides the devices among as many candidates.
func (l *Local) Capacity(jobs int) int {
	places := labels.Places(l.devices, l.workers, jobs)
	l.places = make(chan labels.Place, len(places))
	for _, at := range places {
		l.places <- at
	}
	return len(places)
}

// Do trains at the first place that is free.
func (l *Local) Do(ctx context.Context, j Job, tell func(job.Notice)) (*Record, error) {
	var at labels.Place
	select {
	case at = <-l.places:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { l.places <- at }()
	dir, lock, err := made.Cache(l.cache).Claim(ctx, j.Key.hash())
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Unlock() }()
	// Another process may have done it meanwhile.
	if r, err := l.cache.Load(j.Key); err != nil || j.settles(r) && l.kept(j.Key) {
		return r, errors.Join(err, lock.Remove())
	}
	tell(job.Notice{Device: at.Name})
	begin := time.Now()
	c := l.copy(ctx, j.Key, dir)
	r, err := l.persist(ctx, at, j, dir, tell)
	c.end(ctx)
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(begin).Seconds()
	if j.Key.Arch == l.keep && r.Diverged == "" {
		// Before the record, which says that all is there.
		if err := files.Rename(filepath.Join(dir, trainer.WeightsName), l.cache.weights(j.Key)); err != nil {
			return nil, err
		}
	}
	if err := l.cache.Put(r); err != nil {
		return nil, err
	}
	if j.settles(r) {
		return r, lock.Remove()
	}
	return nil, fmt.Errorf("candidate %s in %s ended after %d of %d epochs", j.Key.Arch, dir, len(r.Validation),
		j.Key.Recipe.Epochs)
}

// kept tells whether the weights of a training are where they are to be.
func (l *Local) kept(k Key) bool {
	if k.Arch != l.keep {
		return true
	}
	_, err := os.Stat(l.cache.weights(k))
	return err == nil
}

// persist trains a candidate in its folder; what fails is tried again.
func (l *Local) persist(ctx context.Context, at labels.Place, j Job, dir string,
	tell func(job.Notice)) (*Record, error) {
	for attempt := 0; ; attempt++ {
		r, err := l.attempt(ctx, at, j, dir, tell)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, ctx.Err()
		}
		if attempt == l.Retries || ctx.Err() != nil || data.IsCorrupt(err) {
			// Another attempt would find such an image again.
			err = fmt.Errorf("%v on %s, in %s: %w", j, at.Name, dir, err)
			if ctx.Err() == nil && !job.Unfit(err) && !data.IsCorrupt(err) {
				err = &job.Failed{Err: err}
			}
			return nil, err
		}
		tell(job.Notice{Device: at.Name, Attempt: attempt + 1, Err: err.Error()})
		if attempt > 0 { // its checkpoint may be what makes it fail
			if err := made.Empty(dir); err != nil {
				return nil, err
			}
		}
	}
}

// attempt trains a candidate, from the checkpoint in its folder if there is one. A panic is an error.
func (l *Local) attempt(ctx context.Context, at labels.Place, j Job, dir string, tell func(job.Notice)) (record *Record,
	err error) {
	defer func() {
		if p := recover(); p != nil {
			if failure, ok := p.(exec.Failure); ok {
				err = fmt.Errorf("panic: %w\n%s", failure, debug.Stack())
			} else {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}
	}()
	m, err := l.materials(ctx, j)
	if err != nil {
		return nil, err
	}
	k := j.Key
	training := trainer.Job{Arch: k.Arch, Net: m.Net, Data: m.Images, Source: j.Data, Recipe: k.Recipe, Seed: k.Seed,
		OnNaN: k.OnNaN, OnCorrupt: k.OnCorrupt, Start: m.Start}
	result, err := l.train(ctx, training, trainer.Deps{Device: at.Device, Workers: at.Loaders, Dir: dir,
		Version: k.Version, Stop: func(e trainer.Evaluation) bool {
			n := job.Notice{Device: at.Name, Epoch: e.Epoch, Accuracy: e.Top1}
			if loss := float64(e.Loss); !math.IsNaN(loss) && !math.IsInf(loss, 0) {
				n.Loss = &loss
			}
			tell(n)
			return j.ends(e.Epoch, e.Top1)
		}})
	var diverged *trainer.Diverged
	switch {
	case errors.As(err, &diverged):
		record = j.record(m.Net, diverged.Validation)
		record.Diverged = diverged.Error()
	case err != nil:
		return nil, err
	default:
		record = j.record(m.Net, result.Validation)
		record.Corrupt = result.Corrupt
		if result.Test != nil && len(result.Validation) == k.Recipe.Epochs {
			record.Test = &result.Test.Top1
		}
	}
	return record, nil
}

func (j Job) record(net *nn.Network, validation []trainer.Evaluation) *Record {
	cost := net.Cost()
	r := &Record{Key: j.Key, Validation: make([]float64, len(validation)), Params: cost.Params, MAdds: cost.MAdds}
	for i, e := range validation {
		r.Validation[i] = e.Top1
	}
	return r
}
