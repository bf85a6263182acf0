// Package made has what labels have in common that are made by work of their own, one or several trainings each:
// submissions and who does them, trainings that end early and what they are worth, those that fall apart or fail,
// notes, and what is recalled. What is trained, where and how, a kind of labels says by its jobs (search/job) and a
// Config.
package made

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Job is a training that a label needs.
type Job[R any] interface {
	job.Of[R]
	// Settle is what a result comes to for the job, whose end may lie before the result's; false where the training has
	// to go on beyond it, and of the zero result, which is none.
	Settle(result R) (Outcome, bool)
	// Size is how long it takes beside others of the same search, without a unit; 0: not known.
	Size() float64
}

// Config is how labels are made. They depend on the rules, epochs, chance and jobs alone.
type Config[J Job[R], R any] struct {
	Rules
	Epochs   int     // of each training; 0: nobody knows, and none ends early
	Chance   float64 // the accuracy of guessing
	Executor job.Executor[J, R]
	// Job is the training of an architecture with seed Rules.Seed + k that ends after epoch e where its accuracy is
	// below ends[e-1]; nil: it does not end early.
	Job func(a space.Arch, k int, ends []float64) J
	// Load returns what was made of a job before, the zero result where nothing was.
	Load func(J) (R, error)
	// Folder is where a training's folder is, for the log; nil: none stays, or it is elsewhere.
	Folder func(J) string
	Ready  func(space.Arch, J) J  // completes a job that has to be done; may be nil
	Taken  func(R)                // told of each result that a label is made of, from any goroutine; may be nil
	Done   func(labels.Candidate) // told of each training that has ended, never twice at once; may be nil
}

// Maker makes labels. It is used by one goroutine. It is a ledger.Submitter, Maker and Judge but for what the labels
// are.
type Maker[J Job[R], R any] struct {
	how  Config[J, R]
	crew crew[J, R]

	made     map[space.Arch][]Outcome // by seed
	order    []space.Arch             // the keys of made, in the order of the ledger
	unsealed bool

	mu       sync.Mutex // guards the calls of Done and of the observers
	event    func(events.Event)
	progress func(done, total int)
}

// New is a maker that has made nothing yet.
func New[J Job[R], R any](c Config[J, R]) *Maker[J, R] {
	return &Maker[J, R]{how: c, made: map[space.Arch][]Outcome{}}
}

// Label trains candidates and returns their validation accuracies.
func (m *Maker[J, R]) Label(ctx context.Context, archs []space.Arch) ([]float64, error) {
	return m.Submit(ctx, len(m.order), len(m.order), archs)()
}

// Submit begins to train candidates. What ends them early, and what one that was ended is worth, depends on the first
// labels, so many of them as are to be known.
func (m *Maker[J, R]) Submit(ctx context.Context, known, asked int, archs []space.Arch) func() ([]float64, error) {
	r := m.rule(known)
	ends := make([][]float64, m.how.Seeds)
	for k := range ends {
		ends[k] = r.ends(k)
	}
	x := m.submit(ctx, asked*m.how.Seeds, archs, func(_, k int) ([]float64, bool) { return ends[k], false })
	return func() ([]float64, error) {
		made, err := m.wait(x)
		if err != nil {
			return nil, err
		}
		return m.take(archs, made, r)
	}
}

// take makes labels of outcomes by the rule of their submission.
func (m *Maker[J, R]) take(archs []space.Arch, made [][]Outcome, r rule) ([]float64, error) {
	values := make([]float64, len(archs))
	for i, runs := range made {
		for k, o := range runs {
			if o.Diverged && m.how.Diverged == Fail {
				return nil,
					fmt.Errorf("the training of %v with seed %d diverged; diverged=%s gives it the accuracy of "+
						"guessing", archs[i], m.how.Seed+uint64(k), Chance)
			}
			values[i] += m.value(r, k, o) / float64(m.how.Seeds)
		}
		values[i] = math.Min(1, values[i]) // a sum of shares of 1 may be rounded up
	}
	m.keep(archs, made)
	return values, nil
}

// value is what a training with seed k adds to a label.
func (m *Maker[J, R]) value(r rule, k int, o Outcome) float64 {
	if last := len(o.Curve) - 1; o.Stopped {
		return r.equivalent(k, last+1, o.Curve[last])
	}
	return m.worth(o)
}

// worth is what a training comes to that was not stopped.
func (m *Maker[J, R]) worth(o Outcome) float64 {
	if o.Diverged || o.Failed {
		return m.how.Chance
	}
	return o.Value
}

// Guessing is the accuracy of it.
func (m *Maker[J, R]) Guessing() float64 { return m.how.Chance }

// rule is that of a submission that knows so many labels.
func (m *Maker[J, R]) rule(known int) rule {
	r := rule{quantile: m.how.Stop, after: m.how.StopAfter, epochs: m.how.Epochs,
		earlier: make([][]Outcome, m.how.Seeds)}
	for _, a := range m.order[:known] {
		for k, o := range m.made[a] {
			r.earlier[k] = append(r.earlier[k], o)
		}
	}
	return r
}

func (m *Maker[J, R]) keep(archs []space.Arch, made [][]Outcome) {
	for i, a := range archs {
		if _, twice := m.made[a]; !twice {
			m.order = append(m.order, a)
		}
		m.made[a] = made[i]
	}
}

// Recall takes over what was labelled before: what was made of it, and what is no longer there is made again.
func (m *Maker[J, R]) Recall(ctx context.Context, labels []ledger.Label) error {
	archs := make([]space.Arch, len(labels))
	for i, l := range labels {
		if n := len(l.Note.Stopped); n != 0 && n != m.how.Seeds {
			return fmt.Errorf("the label of %v says where %d trainings stopped: it was one of %d", l.Arch, n,
				m.how.Seeds)
		}
		archs[i] = l.Arch
	}
	made, err := m.wait(m.submit(ctx, len(m.order)*m.how.Seeds, archs, func(i, k int) (ends []float64, failed bool) {
		stopped := labels[i].Note.Stopped
		if len(stopped) == 0 || stopped[k] == 0 {
			return nil, slices.Contains(labels[i].Note.Failed, k)
		}
		ends = slices.Repeat([]float64{NeverEnds}, stopped[k])
		ends[stopped[k]-1] = AlwaysEnds
		return ends, false
	}))
	if err != nil {
		return err
	}
	m.keep(archs, made)
	return nil
}

// Note says where the trainings of a label were stopped and whether one diverged.
func (m *Maker[J, R]) Note(a space.Arch) ledger.Note {
	var n ledger.Note
	for k, o := range m.made[a] {
		if o.Stopped {
			if n.Stopped == nil {
				n.Stopped = make([]int, m.how.Seeds)
			}
			n.Stopped[k] = len(o.Curve)
		}
		n.Diverged = n.Diverged || o.Diverged
		if o.Failed {
			n.Failed = append(n.Failed, k)
		}
	}
	if made := m.made[a]; len(made) > 0 {
		n.Metrics = metrics(made)
	}
	return n
}

// metrics are the means of what all trainings of a label have measured; nil without any.
func metrics(made []Outcome) map[string]float64 {
	var means map[string]float64
	for name := range made[0].Metrics {
		values := make([]float64, 0, len(made))
		for _, o := range made {
			if v, measured := o.Metrics[name]; measured {
				values = append(values, v)
			}
		}
		if len(values) == len(made) {
			if means == nil {
				means = map[string]float64{}
			}
			means[name] = stat.Mean(values)
		}
	}
	return means
}

// Whole is the label of an architecture whose trainings were not stopped; an error of others, which tables cannot have.
func (m *Maker[J, R]) Whole(a space.Arch) (float64, error) {
	runs, n := m.made[a], m.Note(a)
	if runs == nil || n.Stopped != nil {
		return 0, fmt.Errorf("%v: it was not trained to the end (%v)", a, n)
	}
	mean := 0.0
	for _, o := range runs {
		mean += m.worth(o) / float64(m.how.Seeds)
	}
	return math.Min(1, mean), nil
}

// Observe sets who is told what happens.
func (m *Maker[J, R]) Observe(event func(events.Event), progress func(done, total int)) {
	m.event, m.progress = event, progress
}

// Unseal ends the search: from now on Judge answers.
func (m *Maker[J, R]) Unseal() { m.unsealed = true }

// Judge returns the mean test accuracy at the end of a labelled architecture's own trainings; ledger.ErrNoLabel for
// others and where one was stopped or diverged. There are no ranks.
func (m *Maker[J, R]) Judge(a space.Arch) (accuracy float64, rank int, err error) {
	if !m.unsealed {
		return 0, 0, table.ErrSealed
	}
	var tests []float64
	for _, o := range m.made[a] {
		if o.Test != nil {
			tests = append(tests, *o.Test)
		}
	}
	if len(tests) < m.how.Seeds {
		return 0, 0, fmt.Errorf("test accuracy of %v: %w", a, ledger.ErrNoLabel)
	}
	return stat.Mean(tests), 0, nil
}

// Percentile is not known of any architecture.
func (m *Maker[J, R]) Percentile(a space.Arch) (float64, error) {
	return 0, fmt.Errorf("rank of %v: %w", a, ledger.ErrNoLabel)
}

// Total is 0: nobody knows the ranks.
func (m *Maker[J, R]) Total() int { return 0 }
