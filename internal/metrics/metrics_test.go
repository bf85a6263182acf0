package metrics

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// gathered are the numbers of a collector, by name and label; of a histogram how many it counted.
func gathered(t *testing.T, c prometheus.Collector) map[string]float64 {
	r := prometheus.NewRegistry()
	require.NoError(t, r.Register(c))
	families, err := r.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func TestWhatNobodyToldIsAbsent(t *testing.T) {
	one := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "one"}, nil)}
	states := Gauge{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "states"}, []string{"state"})}
	took := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "took"}, nil)}
	require.Empty(t, gathered(t, one.vec))
	require.Empty(t, gathered(t, took.vec))
	one.Set(0)
	require.Equal(t, map[string]float64{"one": 0}, gathered(t, one.vec))
	one.Remove()
	require.Empty(t, gathered(t, one.vec))
	states.Add(1, "done")
	states.Add(2, "done")
	states.Set(5, "queued")
	require.Equal(t, map[string]float64{"states done": 3, "states queued": 5}, gathered(t, states.vec))
	took.Observe(time.Second)
	require.Equal(t, map[string]float64{"took": 1}, gathered(t, took.vec))
	require.Empty(t, gathered(t, newTrained()))
}

// Devices that divide an update have equal parts of its images, and one that has two parts has both.
func TestDevicesShareImages(t *testing.T) {
	tr := newTrained()
	now := time.Unix(1_800_000_000, 0)
	tr.now = func() time.Time { return now }
	now = now.Add(time.Second)
	tr.add(now, []string{"cuda:0", "cuda:1", "cuda:1", "cuda:3"}, 64, time.Second, time.Second/2)
	require.Equal(t, map[string]float64{"ctnas_images_per_second cuda:0": 16, "ctnas_images_per_second cuda:1": 32,
		"ctnas_images_per_second cuda:3": 16, "ctnas_loader_wait_ratio": 0.5}, gathered(t, tr))
}

// The rate is that of the last minute, in which it may have begun; devices have rates of their own, the wait is one.
func TestRatesAreThoseOfTheLastMinute(t *testing.T) {
	tr := newTrained()
	now := time.Unix(1_800_000_000+rand.Int64N(1000), 0)
	tr.now = func() time.Time { return now }
	for range 10 { // 64 images a second, a quarter of it waiting
		now = now.Add(time.Second)
		tr.add(now, []string{"cpu"}, 64, time.Second, time.Second/4)
	}
	got := gathered(t, tr)
	require.InDelta(t, 64, got["ctnas_images_per_second cpu"], 1e-9)
	require.InDelta(t, 0.25, got["ctnas_loader_wait_ratio"], 1e-9)
	require.Len(t, got, 2)
	for range 120 { // twice as fast, without waiting, and a second device
		now = now.Add(time.Second)
		tr.add(now, []string{"cpu"}, 128, time.Second, 0)
		tr.add(now, []string{"cuda:0"}, 1000, time.Second, 0)
	}
	got = gathered(t, tr)
	require.InDelta(t, 128, got["ctnas_images_per_second cpu"], 1e-9)
	require.InDelta(t, 1000, got["ctnas_images_per_second cuda:0"], 1e-9)
	require.Zero(t, got["ctnas_loader_wait_ratio"])
	now = now.Add(30 * time.Second) // half of the minute without an update
	require.InDelta(t, 64, gathered(t, tr)["ctnas_images_per_second cpu"], 1e-9)
	now = now.Add(30 * time.Second)
	got = gathered(t, tr)
	require.Equal(t, map[string]float64{"ctnas_images_per_second cpu": 0, "ctnas_images_per_second cuda:0": 0}, got)
}

// Who asks while somebody does waits for those answers, and not for longer than it wants to.
func TestAskedAtOnce(t *testing.T) {
	begun, may := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	end := Whenever(func(context.Context) { asked.Add(1); close(begun); <-may })
	first := make(chan struct{})
	go func() { Ask(t.Context()); close(first) }()
	<-begun
	done, cancel := context.WithCancel(t.Context())
	cancel()
	Ask(done)
	ended := make(chan struct{})
	go func() { end(); close(ended) }()
	select {
	case <-ended:
		t.Fatal("it is being asked still")
	case <-time.After(10 * time.Millisecond):
	}
	close(may)
	<-first
	<-ended
	Ask(t.Context())
	require.EqualValues(t, 1, asked.Load())
}
