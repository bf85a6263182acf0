// Package job is what work for labels is that may be done on other machines: what a kind of jobs has to say of itself,
// and who does them. Package farm has them done; a kind is a type of jobs and one of results, in the package of its
// labels.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
)

// Job is work to be done, as data: at most 64 KB of JSON, which holds all that its result depends on.
type Job interface {
	fmt.Stringer     // names it for people
	Name() string    // tells jobs apart: a hash of all that their results depend on
	Terms() Terms    // those of all jobs of a search
	Archs() []string // what it is done for
	Needs() int64    // bytes of an accelerator's memory that it takes; 0: not known
}

// Terms are what whoever does a job must have.
type Terms struct {
	Kind    string `json:"kind"` // of the job
	Version string `json:"version"`
	Level   string `json:"level"`  // of the device
	Data    string `json:"data"`   // what kind of images: the word before the colon of the text that opens them
	Images  string `json:"images"` // their checksum
	// Weights is the checksum of the file of weights that it works with; empty: there is none.
	Weights string `json:"weights,omitempty"`
	// Command is the checksum of the user's own command that does it; empty: this program does.
	Command string `json:"command,omitempty"`
}

// Of is a job with results of a type, which are JSON, too.
type Of[R any] interface {
	Job
	Check(result R) error // tells whether it is a result of this job
	Same(a, b R) bool     // tells whether two results say the same, of whatever job: all but how they were come by
}

// Executor does jobs of a kind somewhere: on this machine's devices, or on those of others.
type Executor[J, R any] interface {
	// Do returns the result of a job, and has put it where it was made to. It is called from any goroutine. tell is
	// told how the work goes, from one goroutine at a time; nothing of it is told where the result was there already.
	// An error is final for the job: what can be tried again was.
	Do(ctx context.Context, j J, tell func(Notice)) (R, error)
	// Capacity is how many of so many jobs keep it busy, at least 1. It gets ready for as many, and is not called while
	// it is at work.
	Capacity(jobs int) int
}

// Farm does jobs of any kind on other machines.
type Farm interface {
	// Do waits until a job has been done. believe is given the result, as JSON, and checks and keeps it.
	Do(ctx context.Context, j Job, believe func(result []byte) error, tell func(Notice)) error
	// Capacity is how many jobs it takes at once, whatever it is asked for. It may be called at any time.
	Capacity(jobs int) int
}

// On is a farm's executor of a kind of jobs. keep stores a result that has been checked.
func On[J Of[R], R any](f Farm, keep func(R) error) Executor[J, R] { return on[J, R]{f, keep} }

type on[J Of[R], R any] struct {
	Farm
	keep func(R) error
}

func (e on[J, R]) Do(ctx context.Context, j J, tell func(Notice)) (result R, err error) {
	done := make(chan R, 1)
	err = e.Farm.Do(ctx, j, func(text []byte) error {
		var r R
		if err := json.Unmarshal(text, &r); err != nil {
			return &Unbelievable{err}
		}
		if err := j.Check(r); err != nil {
			return &Unbelievable{err}
		}
		select {
		case done <- r:
		default: // it was believed before
		}
		return e.keep(r)
	}, tell)
	if err == nil {
		result = <-done
	}
	return result, err
}

// Unbelievable says why something is no result of its job.
type Unbelievable struct{ Err error }

func (u *Unbelievable) Error() string { return u.Err.Error() }
func (u *Unbelievable) Unwrap() error { return u.Err }

// Failed is what Executor.Do returns where a job failed however often and wherever it was tried: the fault is the
// job's.
type Failed struct{ Err error }

func (f *Failed) Error() string { return f.Err.Error() }
func (f *Failed) Unwrap() error { return f.Err }

// Unfit tells an error that a machine is to blame for, not what it was asked to do: another machine may do it.
func Unfit(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Notice is news of a job at work.
type Notice struct {
	Device string // where it is done: "cpu", "cuda:0", on another machine its name before it
	// Epoch of a training has been done (from 1), with accuracy and loss on validation images. 0: the news is another.
	Epoch    int
	Accuracy float64
	Loss     *float64 // nil: not known, or no number
	// Attempt has failed (from 1) and the next is made; Err says why. 0: the news is another.
	Attempt int
	Err     string
}
