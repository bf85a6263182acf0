//go:build !nofarm

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/search/farm"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/trained"
)

// farms are what a farm costs beside the trainings. Coordinator, server and workers are all in this process.
func farms() []Case {
	const where = "all in this process"
	return []Case{
		{Name: "farm_jobs_200", Shape: "200 empty jobs through 4 workers, not flushed to the disk; " + where,
			Long: true, Setup: farmWork{jobs: 200, workers: 4, quick: true}.setup},
		{Name: "farm_jobs_200_flushed", Shape: "the same, each message flushed", Long: true,
			Setup: farmWork{jobs: 200, workers: 4}.setup},
		{Name: "farm_job", Shape: "one empty job, from its submission until its record is stored, flushed; " + where,
			Long: true, Setup: farmWork{jobs: 1, workers: 1}.setup},
		{Name: "farm_jobs_2s_8", Shape: "32 jobs of 2 s by 8 workers: 8 s were ideal; flushed, " + where, Long: true,
			Cold: true, Setup: farmWork{jobs: 32, workers: 8, long: 2 * time.Second}.setup},
		{Name: "farm_jobs_2s_64", Shape: "256 jobs of 2 s by 64 workers: 8 s were ideal; likewise", Long: true,
			Cold: true, Setup: farmWork{jobs: 256, workers: 64, long: 2 * time.Second}.setup},
		{Name: "farm_rounds", Shape: "8 rounds of 16 jobs of 0.25 to 0.75 s in any order by 8 workers, each round " +
			"when the one before is done: 8 s were ideal; likewise", Long: true, Cold: true,
			Setup: farmWork{rounds: 8, jobs: 16, workers: 8, long: time.Second / 2, varied: true}.setup},
		{Name: "farm_rounds_lag1", Shape: "the same, each round when the one before the last is done", Long: true,
			Cold:  true,
			Setup: farmWork{rounds: 8, lag: 1, jobs: 16, workers: 8, long: time.Second / 2, varied: true}.setup},
	}
}

// sleeper trains nothing for a while: as many times long as the job's work says.
type sleeper struct{ long time.Duration }

func (sleeper) Capacity(int) int { return 1 }

func (s sleeper) Do(ctx context.Context, j trained.Job, tell func(job.Notice)) (*trained.Record, error) {
	tell(job.Notice{Device: "none"})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Duration(j.Work * float64(s.long))):
	}
	return &trained.Record{Key: j.Key, Validation: []float64{0.5}}, nil
}

// farmWork is what a farm does in a run.
type farmWork struct {
	rounds, lag int // a round begins when that before the lag last ones is done; 0 rounds: one
	jobs        int // a round
	workers     int
	long        time.Duration // of a job, in the mean
	varied      bool          // jobs take from half to one and a half times as long
	quick       bool          // messages are not flushed to the disk
}

// setup prepares a farm whose workers are there, and does new jobs in each run.
func (w farmWork) setup(ctx context.Context, e *Env) (func() error, error) {
	dir, err := os.MkdirTemp("", "ctnas-bench-farm")
	if err != nil {
		return nil, err
	}
	join := make(chan string, 1)
	q := farm.NewQueue(farm.Config{Dir: filepath.Join(dir, "farm"), At: "127.0.0.1:0", Quick: w.quick,
		Joined: func(at, _ string) { join <- at }})
	trainings := job.On[trained.Job](q, trained.Cache(filepath.Join(dir, "cache")).Put)
	inner, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	e.close = append(e.close, func() {
		stop()
		all.Wait()
		_ = errors.Join(q.Close(), os.RemoveAll(dir)) // what was measured stands
	})
	next := uint64(0)
	begin := func(n int) (wait func() error) {
		var group errgroup.Group
		for _, i := range rand.Perm(n) {
			next++
			j := trained.Job{Space: "none", Data: "none", Work: 1}
			j.Key.Seed, j.Key.Recipe.Epochs = next, 1
			if w.varied {
				j.Work = 0.5 + (float64(i)+0.5)/float64(n)
			}
			group.Go(func() error {
				_, err := trainings.Do(inner, j, func(job.Notice) {})
				return err
			})
		}
		return group.Wait
	}
	run := func() (err error) {
		var pending []func() error
		for round := range max(1, w.rounds) {
			if pending = append(pending, begin(w.jobs)); round >= w.lag {
				err = errors.Join(err, pending[round-w.lag]())
			}
		}
		for _, wait := range pending[max(0, len(pending)-w.lag):] {
			err = errors.Join(err, wait())
		}
		return err
	}
	first := make(chan error, 1)
	go func() { first <- begin(1)() }() // which opens the farm
	var at string
	select {
	case at = <-join:
	case err := <-first:
		return nil, fmt.Errorf("a farm: %w", err)
	}
	for range w.workers {
		all.Go(func() {
			_ = farm.Work(inner, farm.Worker{Join: at, Keys: filepath.Join(dir, "farm", "keys"),
				Executor: func(context.Context, farm.Charter) (farm.Fitted, error) {
					return farm.Fit(sleeper{w.long}, "", 1, nil), nil
				}})
		})
	}
	if err := <-first; err != nil {
		return nil, err
	}
	return run, present(inner, filepath.Join(dir, "farm"), w.workers)
}

// present waits until so many workers are at work.
func present(ctx context.Context, dir string, workers int) error {
	a, err := farm.Open(ctx, dir)
	if err != nil {
		return err
	}
	defer a.Close()
	for {
		s, err := a.Status(ctx)
		if err != nil || len(s.Workers) >= workers {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
