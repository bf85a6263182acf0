//go:build !nofarm

package farm

import (
	"context"
	"time"

	"github.com/ctnas/ctnas/internal/metrics"
)

// What whoever watches a search sees of its farm, beside metrics.Jobs.
var (
	workersSeen = metrics.NewGauge("ctnas_workers",
		"Workers by what they compute on and what they do: working, draining, stopped, waiting (it takes no job: "+
			"`ctnas farm workers` says why), or silent for longer than a job is left to them.", "class", "state")
	differing = metrics.NewCounter("ctnas_different_total",
		"Jobs of which two workers have sent results that differ.")
	redelivered = metrics.NewCounter("ctnas_redelivered_total",
		"Times that a worker has begun a job that another one, or itself, had begun before and not ended.")
	failed = metrics.NewCounter("ctnas_failed_total", "Jobs that were given up or cancelled.")
)

// Seen is a farm as who looks at it sees it. What the server does not tell is absent.
type Seen struct {
	Queue   *Queued
	Workers []WorkerState
	States  []string // of each worker: working, draining, stopped, waiting or silent
}

// Queued counts the jobs that nobody, and that a worker is at.
type Queued struct{ Waiting, Taken int }

// Look asks the server how the farm is. Before the first job there is nothing to ask, and it is nil.
func (q *Queue) Look(ctx context.Context) *Seen {
	if !q.opening.TryLock() {
		return nil
	}
	conn, names := q.conn, q.names
	q.opening.Unlock()
	if conn == nil {
		return nil
	}
	s := &Seen{}
	if jobs, taken, err := conn.Count(ctx, names.jobs()); err == nil {
		s.Queue = &Queued{max(0, int(jobs)-int(taken)), int(taken)}
	}
	s.Workers, _ = workers(ctx, conn, names)
	for _, w := range s.Workers {
		s.States = append(s.States, w.seen(q.AckWait))
	}
	return s
}

// Watched is Look for the numbers of whoever watches.
func (q *Queue) Watched(ctx context.Context) {
	s := q.Look(ctx)
	if s == nil {
		return
	}
	if s.Queue != nil {
		metrics.Jobs.Set(float64(s.Queue.Waiting), "queued")
		metrics.Jobs.Set(float64(s.Queue.Taken), "taken")
	}
	if s.Workers != nil {
		workersSeen.Clear()
		for i, w := range s.Workers {
			workersSeen.Add(1, w.Level, s.States[i])
		}
	}
}

// seen is what a worker does, in one of few words. Silence is by the clocks of this machine and of the server, which
// mostly are one: nothing is decided by it.
func (w WorkerState) seen(patience time.Duration) string {
	switch {
	case w.State == "stopped" || w.State == "draining":
		return w.State
	case time.Since(w.Heard) > patience:
		return "silent"
	case w.State == stateWorking:
		return w.State
	}
	return "waiting"
}
