package made

import (
	"context"
	"errors"
	"math"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
)

// The events of a candidate's training in a run's log. Trainings are numbered from 1, in the order of the ledger and
// within a label by seed.
const (
	// EventCandidate: Step = number of the training. Values: accuracy (the last one on validation images, 0..1),
	// epochs, train_seconds, stopped, diverged and failed (1 where it was). Text: arch, device, from (trained or
	// cache); folder, where one stays.
	EventCandidate = "candidate"
	// EventEpoch: Step = (number - 1) x epochs of a training + epoch; where nobody knows how many there are the number.
	// Values: accuracy, loss, on validation images; epoch. Text: arch, device.
	EventEpoch = "candidate_epoch"
	// EventRetry: Step = number of the training. Values: attempt. Text: arch, error.
	EventRetry = "candidate_retry"
	// EventFailed: Step = number of the training, which is given up. Text: arch, error.
	EventFailed = "candidate_failed"
)

// tell reports a training of a submission that has ended, on a device; empty: it was in the cache.
func (m *Maker[J, R]) tell(x *submission[J], t training[J], o Outcome, device string) {
	if device == "" {
		o.Seconds = 0
	}
	c := labels.Candidate{Arch: t.arch, Of: len(x.trainings), Epochs: len(o.Curve), Cached: device == "",
		Seconds: o.Seconds, Device: device, Note: ledger.Note{Diverged: o.Diverged}}
	values := map[string]float64{"epochs": float64(c.Epochs), "train_seconds": o.Seconds}
	c.Accuracy = math.NaN()
	if o.whole() {
		c.Accuracy = o.Value
	} else if c.Epochs > 0 {
		c.Accuracy = o.Curve[c.Epochs-1]
	}
	if !math.IsNaN(c.Accuracy) {
		values["accuracy"] = c.Accuracy
	}
	if o.Stopped {
		c.Note.Stopped = []int{c.Epochs}
		values["stopped"] = 1
	}
	if o.Diverged {
		values["diverged"] = 1
	}
	if o.Failed {
		c.Note.Failed = []int{0}
		values["failed"] = 1
	}
	from := "trained"
	if c.Cached {
		from = "cache"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	x.done++
	c.N = x.done
	if m.event != nil {
		text := map[string]string{"arch": t.arch.String(), "device": device, "from": from}
		if m.how.Folder != nil {
			text["folder"] = m.how.Folder(t.job)
		}
		m.event(events.Event{Name: EventCandidate, Step: t.number, Values: values, Text: text})
	}
	if m.progress != nil && x.waited {
		m.progress(c.N, c.Of)
	}
	if m.how.Done != nil {
		m.how.Done(c)
	}
}

func (m *Maker[J, R]) log(e events.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.event != nil {
		m.event(e)
	}
}

// candidate returns the outcome of a training, which was made before or is done on a device.
func (m *Maker[J, R]) candidate(ctx context.Context, t training[J]) (o Outcome, device string, err error) {
	if t.failed {
		return Outcome{Failed: true}, "", nil
	}
	r, err := m.how.Load(t.job)
	if err != nil {
		return o, "", err
	}
	o, settled := t.job.Settle(r)
	if !settled {
		if m.how.Ready != nil {
			t.job = m.how.Ready(t.arch, t.job)
		}
		r, err = m.how.Executor.Do(ctx, t.job, func(n job.Notice) {
			device = n.Device
			m.notice(t, n)
		})
		switch failed := new(job.Failed); {
		case errors.As(err, &failed) && m.how.Failed == Chance:
			m.log(events.Event{Name: EventFailed, Step: t.number,
				Text: map[string]string{"arch": t.arch.String(), "error": err.Error()}})
			return Outcome{Failed: true}, device, nil
		case err != nil:
			return o, "", err
		}
		o, _ = t.job.Settle(r) // it does
	}
	if m.how.Taken != nil {
		m.how.Taken(r)
	}
	return o, device, nil
}

// notice writes news of a training into the log.
func (m *Maker[J, R]) notice(t training[J], n job.Notice) {
	switch {
	case n.Epoch > 0:
		e := events.Event{Name: EventEpoch, Step: t.number, Values: map[string]float64{"accuracy": n.Accuracy},
			Text: map[string]string{"arch": t.arch.String(), "device": n.Device}}
		if n.Loss != nil {
			e.Values["loss"] = *n.Loss
		}
		if m.how.Epochs > 0 {
			e.Step = (t.number-1)*m.how.Epochs + n.Epoch
		} else {
			e.Values["epoch"] = float64(n.Epoch)
		}
		m.log(e)
	case n.Attempt > 0:
		m.log(events.Event{Name: EventRetry, Step: t.number, Values: map[string]float64{"attempt": float64(n.Attempt)},
			Text: map[string]string{"arch": t.arch.String(), "error": n.Err}})
	}
}
