package trained

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The events of a candidate's training in a run's log. Trainings are numbered from 1, in the order of the ledger and
// within a label by seed.
const (
	// EventCandidate: Step = number of the training. Values: accuracy (the last one on validation images, 0..1),
	// epochs, train_seconds, stopped and diverged (1 where it was). Text: arch, device, from (trained or cache).
	EventCandidate = "candidate"
	// EventEpoch: Step = (number - 1) x epochs of the recipe + epoch. Values: accuracy, loss, on validation images.
	// Text: arch, device.
	EventEpoch = "candidate_epoch"
	// EventRetry: Step = number of the training. Values: attempt. Text: arch, error.
	EventRetry = "candidate_retry"
)

// training is one of a submission.
type training struct {
	arch   space.Arch
	k      int // its seed is Seed+k
	number int // in the log
	ends   func(epoch int, accuracy float64) bool
}

// obtain trains candidates on all slots, or takes them from the cache. ends is asked after an epoch whether the
// training of architecture i with seed k ends there. When one fails the others leave their checkpoints.
func (s *Source) obtain(ctx context.Context, archs []space.Arch,
	ends func(i, k, epoch int, accuracy float64) bool) ([][]outcome, error) {
	made := make([][]outcome, len(archs))
	for i := range made {
		made[i] = make([]outcome, s.Seeds)
	}
	total := len(archs) * s.Seeds
	var next, done atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	for _, at := range labels.Places(s.devices, s.Workers, total) {
		group.Go(func() error {
			for inner.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= total {
					return nil
				}
				i, k := n/s.Seeds, n%s.Seeds
				t := training{archs[i], k, len(s.order)*s.Seeds + n + 1, func(epoch int, accuracy float64) bool {
					return ends(i, k, epoch, accuracy)
				}}
				o, seconds, err := s.candidate(inner, at, t)
				if err != nil {
					return err
				}
				made[i][k] = o
				s.tell(at, t, o, seconds, int(done.Add(1)), total)
			}
			return inner.Err()
		})
	}
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return made, nil
}

// tell reports a training that has ended; seconds of 0 say that it was in the cache.
func (s *Source) tell(at labels.Place, t training, o outcome, seconds float64, done, total int) {
	c := labels.Candidate{Arch: t.arch, N: done, Of: total, Epochs: len(o.curve), Cached: seconds == 0,
		Seconds: seconds, Device: at.Name, Note: ledger.Note{Diverged: o.diverged}}
	values := map[string]float64{"epochs": float64(c.Epochs), "train_seconds": seconds}
	if c.Accuracy = math.NaN(); c.Epochs > 0 {
		c.Accuracy = o.curve[c.Epochs-1]
		values["accuracy"] = c.Accuracy
	}
	if o.stopped {
		c.Note.Stopped = []int{c.Epochs}
		values["stopped"] = 1
	}
	if o.diverged {
		values["diverged"] = 1
	}
	from := "trained"
	if c.Cached {
		from = "cache"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event != nil {
		s.event(events.Event{Name: EventCandidate, Step: t.number, Values: values,
			Text: map[string]string{"arch": t.arch.String(), "device": at.Name, "from": from}})
	}
	if s.progress != nil {
		s.progress(done, total)
	}
	if s.Done != nil {
		s.Done(c)
	}
}

func (s *Source) log(e events.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event != nil {
		s.event(e)
	}
}

// settle turns a record into the outcome that a training has, whose end may lie before the record's. It is false where
// the training has to go on beyond the record.
func (s *Source) settle(r *Record, t training) (outcome, bool) {
	if r == nil {
		return outcome{}, false
	}
	s.leftOut.add(r.Corrupt)
	for i, v := range r.Validation {
		if epoch := i + 1; epoch < s.Recipe.Epochs && t.ends(epoch, v) {
			return outcome{curve: r.Validation[:epoch], stopped: true}, true
		}
	}
	o := outcome{curve: r.Validation, diverged: r.Diverged != "", test: r.Test}
	return o, o.diverged || len(o.curve) == s.Recipe.Epochs
}

// candidate returns the outcome of a training, from the cache or by doing it, and how many seconds that took; 0 from
// the cache.
func (s *Source) candidate(ctx context.Context, at labels.Place, t training) (o outcome, seconds float64, err error) {
	key := s.key(t.arch.String(), t.k)
	look := func() (settled bool, err error) {
		r, err := s.cache.load(key)
		if err == nil {
			o, settled = s.settle(r, t)
		}
		return settled, err
	}
	if settled, err := look(); settled || err != nil {
		return o, 0, err
	}
	dir, lock, err := s.cache.claim(ctx, key)
	if err != nil {
		return o, 0, err
	}
	defer func() { _ = lock.Unlock() }()
	if settled, err := look(); settled || err != nil { // another process has done it meanwhile
		return o, 0, errors.Join(err, lock.Remove())
	}
	begin := time.Now()
	r, err := s.make(ctx, at, t, dir)
	if err != nil {
		return o, 0, err
	}
	seconds = time.Since(begin).Seconds()
	r.Seconds = seconds
	if err := s.cache.store(r); err != nil {
		return o, 0, err
	}
	if o, settled := s.settle(r, t); settled {
		return o, seconds, lock.Remove()
	}
	return o, 0, fmt.Errorf("candidate %v in %s ended after %d of %d epochs", t.arch, dir,
		len(r.Validation), s.Recipe.Epochs)
}

// make trains a candidate in its folder; what fails is tried again.
func (s *Source) make(ctx context.Context, at labels.Place, t training, dir string) (*Record, error) {
	for attempt := 0; ; attempt++ {
		r, err := s.attempt(ctx, at, t, dir)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, ctx.Err()
		}
		if attempt == s.Retries || ctx.Err() != nil || data.IsCorrupt(err) {
			// Another attempt would find such an image again.
			return nil, fmt.Errorf("candidate %v with seed %d on %s, in %s: %w", t.arch, s.Seed+uint64(t.k), at.Name,
				dir, err)
		}
		s.log(events.Event{Name: EventRetry, Step: t.number,
			Values: map[string]float64{"attempt": float64(attempt + 1)},
			Text:   map[string]string{"arch": t.arch.String(), "error": err.Error()}})
		if attempt > 0 { // its checkpoint may be what makes it fail
			if err := empty(dir); err != nil {
				return nil, err
			}
		}
	}
}

// attempt trains a candidate, from the checkpoint in its folder if there is one. A panic is an error.
func (s *Source) attempt(ctx context.Context, at labels.Place, t training, dir string) (record *Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	net, err := t.arch.(space.Trainable).Network(s.NetworkSize()) // Has was true
	if err != nil {
		return nil, err
	}
	d := s.sets[t.k]
	job := trainer.Job{Arch: t.arch.String(), Net: net, Data: d, Source: s.dataKind(), Recipe: s.Recipe,
		Seed: s.Seed + uint64(t.k), OnNaN: s.OnNaN, OnCorrupt: s.OnCorrupt}
	if s.Start != nil {
		if job.Start, err = s.Start.Of(ctx, t.arch); err != nil {
			return nil, err
		}
	}
	result, err := s.train(ctx, job, trainer.Deps{Device: at.Device, Workers: at.Loaders, Dir: dir, Version: s.Version,
		Stop: func(e trainer.Evaluation) bool {
			s.log(events.Event{Name: EventEpoch, Step: (t.number-1)*s.Recipe.Epochs + e.Epoch,
				Values: map[string]float64{"accuracy": e.Top1, "loss": float64(e.Loss)},
				Text:   map[string]string{"arch": t.arch.String(), "device": at.Name}})
			return e.Epoch < s.Recipe.Epochs && t.ends(e.Epoch, e.Top1)
		}})
	var diverged *trainer.Diverged
	switch {
	case errors.As(err, &diverged):
		record = s.record(t, net, diverged.Validation)
		record.Diverged = diverged.Error()
	case err != nil:
		return nil, err
	default:
		record = s.record(t, net, result.Validation)
		record.Corrupt = result.Corrupt
		if result.Test != nil && len(result.Validation) == s.Recipe.Epochs {
			record.Test = &result.Test.Top1
		}
	}
	return record, nil
}

func (s *Source) record(t training, net *nn.Network, validation []trainer.Evaluation) *Record {
	cost := net.Cost()
	r := &Record{Key: s.key(t.arch.String(), t.k), Validation: make([]float64, len(validation)), Params: cost.Params,
		MAdds: cost.MAdds}
	for i, e := range validation {
		r.Validation[i] = e.Top1
	}
	return r
}
