package supernet

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// EventCandidate is written to a run's log for each label. Step = number of the label. Values: accuracy (0..1), images
// (forward; 0 from the cache), evaluate_seconds. Text: arch, device, from (evaluated or cache).
const EventCandidate = "candidate"

// Source labels architectures by what their sub-networks reach. It is used by one goroutine.
type Source struct {
	*Evaluator
	Done func(labels.Candidate)

	asked int // labels so far
	made  map[space.Arch]Measured

	hasMu sync.Mutex
	has   map[space.Arch]bool

	mu       sync.Mutex // guards the calls of Done and of the observers
	event    func(events.Event)
	progress func(done, total int)
}

var (
	_ ledger.Source    = (*Source)(nil)
	_ ledger.Maker     = (*Source)(nil)
	_ ledger.Sized     = (*Source)(nil)
	_ ledger.Submitter = (*Source)(nil)
	_ ledger.Renewable = (*Source)(nil)
	_ labels.Tabled    = (*Source)(nil)
)

// NewSource is a source of the labels that an evaluator measures. done is told of each; nil: nobody is.
func NewSource(e *Evaluator, done func(labels.Candidate)) *Source {
	return &Source{Evaluator: e, Done: done, made: map[space.Arch]Measured{}, has: map[space.Arch]bool{}}
}

// Fresh is the same source before anything was labelled: close the first one only.
func (s *Source) Fresh() ledger.Source { return NewSource(s.Evaluator, s.Done) }

// Has tells whether the supernet has a sub-network.
func (s *Source) Has(a space.Arch) bool {
	s.hasMu.Lock()
	defer s.hasMu.Unlock()
	has, known := s.has[a]
	if !known {
		has = s.Evaluator.Has(a) == nil
		s.has[a] = has
	}
	return has
}

// Label returns the accuracies of sub-networks.
func (s *Source) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	return s.Submit(ctx, s.asked, s.asked, archs)()
}

// Submit has sub-networks measured, on whose labels none depends: elsewhere at once, on the devices here, which measure
// one submission after the other, when they are waited for.
func (s *Source) Submit(ctx context.Context, _, asked int, archs []space.Arch) func() ([]float64, error) {
	var waited atomic.Bool
	evaluate := func() ([]Measured, error) {
		return s.Evaluate(ctx, archs, func(t Told) { s.tell(asked, archs[t.I], t, len(archs), waited.Load()) })
	}
	if s.executor != nil {
		evaluate = begin(evaluate)
	}
	return func() ([]float64, error) {
		waited.Store(true)
		measured, err := evaluate()
		if err != nil {
			return nil, err
		}
		s.asked += len(archs)
		values := make([]float64, len(archs))
		for i, m := range measured {
			values[i], s.made[archs[i]] = m.Top1, m
		}
		return values, nil
	}
}

// begin calls a function in another goroutine, and returns one that waits for its results.
func begin(f func() ([]Measured, error)) func() ([]Measured, error) {
	var measured []Measured
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		measured, err = f()
	}()
	return func() ([]Measured, error) {
		<-done
		return measured, err
	}
}

// tell reports one of so many sub-networks, before which so many others were asked for; whoever waits for it hears of
// it.
func (s *Source) tell(asked int, a space.Arch, t Told, total int, waited bool) {
	c, from := s.Candidate(a, t, total), "evaluated"
	if t.Cached {
		from = "cache"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.event != nil {
		s.event(events.Event{Name: EventCandidate, Step: asked + t.I + 1,
			Values: map[string]float64{"accuracy": c.Accuracy, "images": float64(c.Images),
				"evaluate_seconds": c.Seconds},
			Text: map[string]string{"arch": a.String(), "device": c.Device, "from": from}})
	}
	if s.progress != nil && waited {
		s.progress(c.N, c.Of)
	}
	if s.Done != nil {
		s.Done(c)
	}
}

// Note is empty: all labels are made in the same way.
func (s *Source) Note(space.Arch) ledger.Note { return ledger.Note{} }

// Recall takes over what was labelled before: a label depends on none of them.
func (s *Source) Recall(_ context.Context, before []ledger.Label) error {
	s.asked += len(before)
	return nil
}

// Observe sets who is told what happens.
func (s *Source) Observe(event func(events.Event), progress func(done, total int)) {
	s.event, s.progress = event, progress
}

// judged are the images that judge, in words.
func (e *Evaluator) judged() string {
	if e.Split == SplitHeldOut {
		return "held-out"
	}
	return "validation"
}

// StatisticsText says what batch norms normalise by.
func (e *Evaluator) StatisticsText() string {
	if e.batched() {
		return fmt.Sprintf("with the statistics of each batch of %d", e.batch)
	}
	return fmt.Sprintf("after new statistics of %d training images", e.Calibrate)
}

// Facts says what the labels are.
func (s *Source) Facts() ledger.Facts {
	return ledger.Facts{Source: "supernet", Metric: s.judged() + " accuracy with shared weights",
		Supernet: s.Weights.Checksum[:12], Seed: s.Seed}
}

// Describe says the same in words.
func (s *Source) Describe() string {
	by := fmt.Sprintf("%d training images of %s that it has not seen", s.Judging(), s.DataSource())
	if s.Split == SplitVal {
		by = fmt.Sprintf("%d validation images", s.Judging())
	}
	text := fmt.Sprintf("chosen on the accuracy that sub-networks of the supernet %s have with shared weights, by %s, "+
		"%s", s.Weights.Checksum[:12], by, s.StatisticsText())
	if s.Seed != 0 && !s.batched() {
		text += fmt.Sprintf(" (seed %d)", s.Seed)
	}
	if s.Split == SplitVal {
		name := s.DataSource()
		if rest, ok := strings.CutPrefix(name, "imagenet"); ok {
			name = "ImageNet" + rest
		}
		return text + ": chosen and judged on " + name + " validation"
	}
	return text + "; no network was trained by itself, and nothing else judges"
}

// WriteTable writes the accuracies of labelled architectures as a CSV table, which package table reads.
func (s *Source) WriteTable(w io.Writer, archs []space.Arch) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"arch", "accuracy"}}
	for _, a := range archs {
		m, made := s.made[a]
		if !made {
			return fmt.Errorf("%v: it has no label", a)
		}
		rows = append(rows, []string{a.String(), strconv.FormatFloat(m.Top1, 'g', -1, 64)})
	}
	return out.WriteAll(rows)
}
