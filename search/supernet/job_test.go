package supernet_test

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer/data"
)

// wire is a farm with one worker, to which jobs go as text and from which results come as text.
type wire struct {
	there *supernet.Local
	spoil func(*supernet.Result) // what comes back; nil: nothing is spoiled
	jobs  atomic.Int64
	last  atomic.Pointer[supernet.Job]
}

func (w *wire) Capacity(jobs int) int { return w.there.Capacity(min(jobs, 2)) }

func (w *wire) Do(ctx context.Context, j job.Job, believe func([]byte) error, tell func(job.Notice)) error {
	w.jobs.Add(1)
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	var sent supernet.Job
	if err := json.Unmarshal(text, &sent); err != nil {
		return err
	}
	w.last.Store(&sent)
	r, err := w.there.Do(ctx, sent, tell)
	if err != nil {
		return err
	}
	if w.spoil != nil {
		w.spoil(r)
	}
	if text, err = json.Marshal(r); err != nil {
		return err
	}
	return believe(text)
}

// newWire is a wire to a machine with a supernet and images, and the change of an evaluator that has it measure.
func newWire(t *testing.T, images, path string) (*wire, func(*supernet.Config)) {
	device := exec.Config{Device: "cpu", Threads: 3}
	devices, level, err := labels.Devices(device)
	require.NoError(t, err)
	stock, err := supernet.OpenStock([]string{path})
	require.NoError(t, err)
	set, err := data.Open(images, data.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close()) })
	w := &wire{there: supernet.NewLocal(supernet.LocalConfig{Version: "v", Stock: stock, Devices: devices, Workers: 2,
		Cache: t.TempDir(), Images: func(kind string) *data.Dataset {
			if kind == "imagenet" {
				return set
			}
			return nil
		}})}
	t.Cleanup(w.there.Close)
	return w, func(c *supernet.Config) {
		c.Path, c.Level = path, level
		c.Device.Device = "nowhere" // nothing is measured here
		c.Elsewhere = func(keep func(*supernet.Result) error) supernet.Executor {
			return job.On[supernet.Job](w, keep)
		}
	}
}

// What is measured elsewhere is what is measured here, in jobs of some sub-networks each, and is kept here.
func TestElsewhere(t *testing.T) {
	set := imageSet(t)
	for statistics, n := range map[string]int{supernet.StatisticsCalibrated: 2, supernet.StatisticsBatch: 17} {
		here := tiny(t, set, func(c *supernet.Config) { c.Statistics = statistics })
		archs := sample(here.Space, n)
		want, err := here.Evaluate(t.Context(), archs, quiet)
		require.NoError(t, err)
		w, elsewhere := newWire(t, set, here.Path)
		there := tiny(t, set, func(c *supernet.Config) { elsewhere(c); c.Statistics = statistics })
		require.Equal(t, here.Checksum(), there.Checksum())
		var done atomic.Int64
		got, err := there.Evaluate(t.Context(), archs, func(x supernet.Told) {
			require.False(t, x.Cached)
			require.Equal(t, "cpu", x.Place)
			done.Add(1)
		})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, int64(n), done.Load())
		require.Equal(t, int64(min(n, 9)), w.jobs.Load(), "16 at least were wanted, which of 17 are 2 each")
		got, err = there.Evaluate(t.Context(), archs, func(x supernet.Told) { require.True(t, x.Cached) })
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// late is a wire that keeps jobs back.
type late struct {
	*wire
	until func(ctx context.Context, archs []string) error
}

func (late) Capacity(int) int { return 8 }

func (l late) Do(ctx context.Context, j job.Job, believe func([]byte) error, tell func(job.Notice)) error {
	if err := l.until(ctx, j.Archs()); err != nil {
		return err
	}
	return l.wire.Do(ctx, j, believe, tell)
}

// What is submitted elsewhere is measured while more is: here it is done only when the next has begun.
func TestSubmissionsOverlap(t *testing.T) {
	set := imageSet(t)
	here := tiny(t, set, func(*supernet.Config) {})
	archs := sample(here.Space, 4)
	want, err := supernet.NewSource(here, nil).Label(t.Context(), archs)
	require.NoError(t, err)
	w, elsewhere := newWire(t, set, here.Path)
	w.Capacity(2)
	next := make(chan struct{})
	begin := sync.OnceFunc(func() { close(next) })
	farm := late{w, func(ctx context.Context, names []string) error {
		if names[0] == archs[2].String() {
			begin()
		}
		select {
		case <-next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	there := tiny(t, set, func(c *supernet.Config) {
		elsewhere(c)
		c.Elsewhere = func(keep func(*supernet.Result) error) supernet.Executor {
			return job.On[supernet.Job](farm, keep)
		}
	})
	s := supernet.NewSource(there, nil)
	var mu sync.Mutex
	steps := map[int]string{}
	s.Observe(func(e events.Event) {
		mu.Lock()
		defer mu.Unlock()
		steps[e.Step] = e.Text["arch"]
	}, func(done, total int) { require.LessOrEqual(t, done, total) })
	one, two := s.Submit(t.Context(), 0, 0, archs[:2]), s.Submit(t.Context(), 0, 2, archs[2:])
	got, err := one()
	require.NoError(t, err)
	more, err := two()
	require.NoError(t, err)
	require.Equal(t, want, append(got, more...))
	for i, a := range archs {
		require.Equal(t, a.String(), steps[i+1])
	}
}

// What no job comes to is not believed, and not kept.
func TestUnbelievable(t *testing.T) {
	set := imageSet(t)
	w, elsewhere := newWire(t, set, writeSupernet(t, openSpace(t, tinySpace), classNames, nil))
	e := tiny(t, set, elsewhere)
	archs := sample(e.Space, 1)
	for want, spoil := range map[string]func(*supernet.Result){
		"does not hold 1 records":                  func(r *supernet.Result) { r.Records = nil },
		"an accuracy of 1.5 of 20 images":          func(r *supernet.Result) { r.Records[0].Top1 = 1.5 },
		"of 21 images":                             func(r *supernet.Result) { r.Records[0].Measured.Images++ },
		"it is the record of nothing with another": func(r *supernet.Result) { r.Records[0].Key.Arch = "nothing" },
		archs[0].String() + " with another key":    func(r *supernet.Result) { r.Records[0].Key.Seed++ },
	} {
		w.spoil = spoil
		_, err := e.Evaluate(t.Context(), archs, quiet)
		require.ErrorAs(t, err, new(*job.Unbelievable))
		require.ErrorContains(t, err, want)
	}
	w.spoil = nil
	_, err := e.Evaluate(t.Context(), archs, func(x supernet.Told) { require.False(t, x.Cached) })
	require.NoError(t, err)

	r := &supernet.Result{Records: []supernet.Record{{Measured: supernet.Measured{Top1: 0.5}}}, Seconds: 1}
	r.Records[0].Loss = 1
	other := &supernet.Result{Records: []supernet.Record{r.Records[0]}, Seconds: 2}
	require.True(t, supernet.Job{}.Same(r, other))
	other.Records[0].Loss = 2
	require.False(t, supernet.Job{}.Same(r, other))
}

// A machine does no job that does not fit it, whatever it says.
func TestJobsThatDoNotFit(t *testing.T) {
	set := imageSet(t)
	w, elsewhere := newWire(t, set, writeSupernet(t, openSpace(t, tinySpace), classNames, nil))
	e := tiny(t, set, elsewhere)
	_, err := e.Evaluate(t.Context(), sample(e.Space, 1), quiet)
	require.NoError(t, err)
	good := *w.last.Load()
	require.Equal(t, job.Terms{Kind: supernet.KindName, Version: "v", Level: good.Key.Level, Data: "imagenet",
		Images: e.ImagesChecksum(), Weights: e.Weights.Checksum}, good.Terms())
	for want, change := range map[string]func(*supernet.Job){
		"a job of 0 sub-networks":          func(j *supernet.Job) { j.Paths = nil },
		"a job of 65 sub-networks":         func(j *supernet.Job) { j.Paths = make([]string, 65) },
		"evaluates a supernet of checksum": func(j *supernet.Job) { j.Key.Weights = "none" },
		"a file of another machine's":      func(j *supernet.Job) { j.Space = "file:x" },
		"there is no supernet of":          func(j *supernet.Job) { j.Space = "nasbench201" },
		"no cifar10 is here":               func(j *supernet.Job) { j.Data = "cifar10" },
		"calibrate":                        func(j *supernet.Job) { j.Key.Calibrate = math.MaxInt },
		"split":                            func(j *supernet.Job) { j.Key.Split = "all" },
		"statistics":                       func(j *supernet.Job) { j.Key.Statistics = "none" },
		"and this machine measures":        func(j *supernet.Job) { j.Key.Version = "other" },
		"mobilenetv3":                      func(j *supernet.Job) { j.Paths = []string{"mobilenetv3:x"} },
	} {
		j := good
		change(&j)
		_, err := w.there.Do(t.Context(), j, func(job.Notice) {})
		require.ErrorContains(t, err, want)
	}
}
