// Package metrics holds the numbers that tell whoever watches a run how it is going; package serve hands them out.
// Nothing in the program reads them, so that they cannot change a result. What nobody has told yet is absent, not zero.
// Labels are devices, states and the like, of which there are few: never an architecture or a path.
package metrics

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Registry holds every number of this package, and those that others register.
var Registry = prometheus.NewRegistry()

// The numbers of a run. Seconds are of the clock.
var (
	Labels       = NewGauge("ctnas_labels", "Labels that the search in work has bought.")
	BestAccuracy = NewGauge("ctnas_best_accuracy",
		"Best label of the search in work, from 0 to 1; absent where labels are predicted scores.")
	Jobs = NewGauge("ctnas_jobs",
		"Candidates whose label was asked for, by state: done, cached, diverged or failed.", "state")
	JobSeconds = NewHistogram("ctnas_job_seconds", "Time that the label of a candidate took, cached ones left out.",
		prometheus.ExponentialBuckets(0.1, 4, 10)) // to 7 hours
	CheckpointSeconds = NewHistogram("ctnas_checkpoint_seconds",
		"Time that a checkpoint took to be written and flushed to the disk.",
		prometheus.ExponentialBuckets(0.001, 4, 9))
	training = newTrained()
)

func init() {
	Registry.MustRegister(training, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// Gauge is a number that goes up and down, absent until it is set for the first time.
type Gauge struct{ vec *prometheus.GaugeVec }

// NewGauge registers a gauge under a name, with a number for each value of its labels.
func NewGauge(name, help string, labels ...string) Gauge {
	g := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)}
	Registry.MustRegister(g.vec)
	return g
}

// Set is the number from now on.
func (g Gauge) Set(v float64, labels ...string) { g.vec.WithLabelValues(labels...).Set(v) }

// Add changes the number by so much; one that was absent begins at zero.
func (g Gauge) Add(v float64, labels ...string) { g.vec.WithLabelValues(labels...).Add(v) }

// Remove makes the number absent again.
func (g Gauge) Remove(labels ...string) { g.vec.DeleteLabelValues(labels...) }

// Clear makes all of its numbers absent.
func (g Gauge) Clear() { g.vec.Reset() }

// Counter is a number that only grows, absent until it is counted for the first time.
type Counter struct{ vec *prometheus.CounterVec }

// NewCounter registers a counter under a name.
func NewCounter(name, help string) Counter {
	c := Counter{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, nil)}
	Registry.MustRegister(c.vec)
	return c
}

// Add counts so many more; none makes it zero where it was absent.
func (c Counter) Add(n int) { c.vec.WithLabelValues().Add(float64(n)) }

// asked are those that are asked before the numbers are handed out.
var asked struct {
	sync.Mutex
	next int
	all  map[int]func(context.Context)
	busy chan struct{} // closed when those who are asked at the moment have answered; nil: nobody is
}

// Whenever has something asked each time before the numbers are handed out, for what costs something to find out, until
// end.
func Whenever(ask func(context.Context)) (end func()) {
	asked.Lock()
	defer asked.Unlock()
	n := asked.next
	asked.next++
	if asked.all == nil {
		asked.all = map[int]func(context.Context){}
	}
	asked.all[n] = ask
	return func() {
		asked.Lock()
		delete(asked.all, n)
		busy := asked.busy
		asked.Unlock()
		if busy != nil { // nobody asks any longer
			<-busy
		}
	}
}

// Ask asks what Whenever was told, unless somebody does already, whose answers are waited for until ctx is done; when
// it returns the numbers may be handed out.
func Ask(ctx context.Context) {
	asked.Lock()
	if busy := asked.busy; busy != nil {
		asked.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
		}
		return
	}
	busy, all := make(chan struct{}), slices.Collect(maps.Values(asked.all))
	asked.busy = busy
	asked.Unlock()
	defer func() {
		asked.Lock()
		asked.busy = nil
		asked.Unlock()
		close(busy)
	}()
	for _, ask := range all {
		ask(ctx)
	}
}

// Told is a number as whoever watches sees it.
type Told struct {
	Name   string // with the values of its labels
	Help   string
	Value  float64 // of what was timed, the mean in seconds
	Counts uint64  // of what was timed: how often; otherwise 0
}

// All are this program's numbers, by name.
func All() (list []Told) {
	families, _ := Registry.Gather() // what one does not tell, others do
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "ctnas_") {
			continue
		}
		for _, m := range f.GetMetric() {
			t := Told{Name: f.GetName(), Help: f.GetHelp()}
			for _, l := range m.GetLabel() {
				t.Name += " " + l.GetValue()
			}
			switch {
			case m.GetGauge() != nil:
				t.Value = m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				t.Value = m.GetCounter().GetValue()
			case m.GetHistogram().GetSampleCount() > 0:
				t.Counts = m.GetHistogram().GetSampleCount()
				t.Value = m.GetHistogram().GetSampleSum() / float64(t.Counts)
			default:
				continue
			}
			list = append(list, t)
		}
	}
	return list
}

// Histogram counts how long things took, absent until the first has ended.
type Histogram struct{ vec *prometheus.HistogramVec }

// NewHistogram registers a histogram of seconds under a name, with the upper ends of its buckets.
func NewHistogram(name, help string, buckets []float64, labels ...string) Histogram {
	h := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets},
		labels)}
	Registry.MustRegister(h.vec)
	return h
}

// Observe counts a duration.
func (h Histogram) Observe(d time.Duration, labels ...string) {
	h.vec.WithLabelValues(labels...).Observe(d.Seconds())
}

// Trained tells of an update on devices, one of them named as often as it has a part: its images, of which each part
// has as many, the time since the training's update before it, and how much of that passed waiting for images.
func Trained(devices []string, images int, passed, waited time.Duration) {
	training.add(time.Now(), devices, images, passed, waited)
}
