package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// window is how many seconds back rates look.
const window = 60

// recent adds up what happened within the last window, in parts of a second.
type recent struct {
	sums    [window]float64
	seconds [window]int64 // which second each sum is of
}

func (r *recent) add(second int64, v float64) {
	i := second % window
	if r.seconds[i] != second {
		r.seconds[i], r.sums[i] = second, 0
	}
	r.sums[i] += v
}

// sum is that of the window which ends with a second.
func (r *recent) sum(second int64) (sum float64) {
	for i, at := range r.seconds {
		if at > second-window && at <= second {
			sum += r.sums[i]
		}
	}
	return sum
}

// trained is how fast trainings are, several of which may share a device.
type trained struct {
	now            func() time.Time
	speed, waiting *prometheus.Desc

	mu             sync.Mutex
	images         map[string]*recent   // by device
	begun          map[string]time.Time // when the first update on it began
	passed, waited recent
}

func newTrained() *trained {
	return &trained{
		now: time.Now,
		speed: prometheus.NewDesc("ctnas_images_per_second",
			"Images trained on a device a second, over the last minute.", []string{"device"}, nil),
		waiting: prometheus.NewDesc("ctnas_loader_wait_ratio",
			"Share of the time of trainings that passed waiting for images, over the last minute.", nil, nil),
		images: map[string]*recent{}, begun: map[string]time.Time{},
	}
}

// add counts an update of images that devices had equal parts of.
func (t *trained) add(at time.Time, devices []string, images int, passed, waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	second := at.Unix()
	for _, device := range devices {
		if t.images[device] == nil {
			t.images[device], t.begun[device] = &recent{}, at.Add(-passed)
		}
		t.images[device].add(second, float64(images)/float64(len(devices)))
	}
	t.passed.add(second, passed.Seconds())
	t.waited.add(second, waited.Seconds())
}

// Describe is prometheus.Collector's.
func (t *trained) Describe(to chan<- *prometheus.Desc) {
	to <- t.speed
	to <- t.waiting
}

// Collect is prometheus.Collector's. What has no update in the last minute has a speed of zero, and no share.
func (t *trained) Collect(to chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	second := now.Unix()
	for device, images := range t.images {
		passed := min(window, max(now.Sub(t.begun[device]).Seconds(), 1e-3))
		to <- prometheus.MustNewConstMetric(t.speed, prometheus.GaugeValue, images.sum(second)/passed, device)
	}
	if passed := t.passed.sum(second); passed > 0 {
		to <- prometheus.MustNewConstMetric(t.waiting, prometheus.GaugeValue, t.waited.sum(second)/passed)
	}
}
