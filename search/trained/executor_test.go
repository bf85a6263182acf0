package trained

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// wire sends jobs and records as text, as to another machine, and does one after the other there.
type wire struct {
	t     *testing.T
	there *Local
	here  Cache
	mu    sync.Mutex
	jobs  []Job
}

func (w *wire) Capacity(int) int { return 7 }

func (w *wire) Do(ctx context.Context, j Job, tell func(job.Notice)) (*Record, error) {
	text, err := json.Marshal(j)
	require.NoError(w.t, err)
	require.Less(w.t, len(text), 64<<10)
	var sent Job
	require.NoError(w.t, json.Unmarshal(text, &sent))
	require.Equal(w.t, j, sent)
	require.Equal(w.t, j.Name(), sent.Name())
	w.mu.Lock()
	w.jobs = append(w.jobs, sent)
	w.mu.Unlock()
	r, err := w.there.Do(ctx, sent, func(n job.Notice) { n.Device = "far/" + n.Device; tell(n) })
	if err != nil {
		return nil, err
	}
	text, err = json.Marshal(r)
	require.NoError(w.t, err)
	var got Record
	require.NoError(w.t, json.Unmarshal(text, &got))
	require.NoError(w.t, j.Check(&got))
	return &got, w.here.Put(&got)
}

// Trainings that are done elsewhere, from jobs that are data alone, make the same labels and notes; those that take
// longest are begun first.
func TestElsewhere(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 30)
	const query = "&stop=median&stop-after=2"
	run := func(s *Source) (all []float64, news map[string]int) {
		news = map[string]int{}
		s.Observe(func(e events.Event) { news[e.Name+" on "+e.Text["device"]]++ }, nil)
		for begin := 0; begin < len(archs); begin += 15 {
			values, err := s.Label(t.Context(), archs[begin:begin+15])
			require.NoError(t, err)
			all = append(all, values...)
		}
		return all, news
	}
	local := tiny(t, images, query, nil)
	local.local.train = (&fake{}).train
	want, news := run(local)

	far := tiny(t, images, query, nil)
	far.local.train = (&fake{}).train
	far.local.Capacity(1)
	w := &wire{t: t, there: far.local}
	s := tiny(t, images, query, func(c *Config) {
		c.Elsewhere, c.Level = func(here Cache) Executor { w.here = here; return w }, local.level
	})
	got, farNews := run(s)
	require.Equal(t, want, got)
	require.Equal(t, local.Checksum(), s.Checksum())
	require.Equal(t, news[made.EventEpoch+" on cpu"], farNews[made.EventEpoch+" on far/cpu"])
	require.Equal(t, 30, farNews[made.EventCandidate+" on far/cpu"])
	for _, a := range archs {
		require.Equal(t, local.Note(a), s.Note(a))
		records, err := s.Records(a)
		require.NoError(t, err)
		require.NotNil(t, records[0], "it is in the cache here too")
	}
	require.Len(t, w.jobs, 30)
	works := 0.0
	for _, j := range w.jobs[:15] {
		works += j.Work
	}
	require.Positive(t, works)
	require.Empty(t, w.jobs[0].Ends)
	require.Len(t, w.jobs[20].Ends, 5)

	next := tiny(t, images, query, func(c *Config) { c.Cache = s.Cache })
	next.local.train = nil // which would panic
	again, _ := run(next)
	require.Equal(t, want, again, "nothing is trained twice")
}

// A job says where its training ends, and which records are its own.
func TestJob(t *testing.T) {
	j := Job{Ends: []float64{made.NeverEnds, 0.5, made.AlwaysEnds}}
	j.Key.Recipe.Epochs = 4
	require.False(t, j.ends(1, 0))
	require.True(t, j.ends(2, 0.49))
	require.False(t, j.ends(2, 0.5))
	require.True(t, j.ends(3, 1))
	require.False(t, j.ends(4, 0), "that is its end anyway")
	require.NoError(t, j.Check(&Record{Key: j.Key, Validation: []float64{0.1, 0.4}}))
	require.NoError(t, j.Check(&Record{Key: j.Key, Validation: []float64{0.1, 0.6, 0.6}}))
	require.NoError(t, j.Check(&Record{Key: j.Key, Validation: []float64{0.1}, Diverged: "it did"}))
	require.ErrorContains(t, j.Check(&Record{Key: j.Key, Validation: []float64{0.1, 0.6}}), "after 2 of 4 epochs")
	require.ErrorContains(t, j.Check(&Record{Key: j.Key, Validation: []float64{math.NaN()}}), "accuracy of NaN")
	other := j
	other.Key.Seed = 3
	require.ErrorContains(t, j.Check(&Record{Key: other.Key, Validation: []float64{0.1, 0.4}}), "seed 3")
	require.NotEqual(t, j.Name(), other.Name())
	other = j
	other.Ends = nil
	require.NotEqual(t, j.Name(), other.Name(), "another end is another record")
	other = j
	other.Work, other.Of = 7, "x"
	require.Equal(t, j.Name(), other.Name())
}

// What fails wherever it is tried ends the labels, or has the label of guessing where that was asked for; it is
// remembered, and not tried again on a resume. A full disk is nobody's label.
func TestFailed(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 3)
	for query, fails := range map[string]bool{"": true, "&failed=chance": false} {
		s := tiny(t, images, query, func(c *Config) { c.Retries = 1 })
		f := &fake{fails: map[string]int{archs[1].String(): 2}}
		s.local.train = f.train
		l := ledger.New(s, 9)
		got, err := l.Query(t.Context(), archs, "random", 0)
		if fails {
			require.ErrorAs(t, err, new(*job.Failed))
			require.ErrorContains(t, err, "the device fell off the bus")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 1./3, got[1])
		require.Equal(t, ledger.Note{Failed: []int{0}}, s.Note(archs[1]))
		require.Equal(t, "failed", s.Note(archs[1]).String())
		require.NotEqual(t, 1./3, got[0])
		next := tiny(t, images, query, func(c *Config) { c.Cache = s.Cache })
		next.local.train = nil
		require.NoError(t, next.Recall(t.Context(), l.Labels()))
		require.Equal(t, s.Note(archs[1]), next.Note(archs[1]))
		require.NotEqual(t, tiny(t, images, "", nil).Checksum(), s.Checksum())

		full := tiny(t, images, query, nil)
		full.local.train = func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) {
			return nil, fmt.Errorf("write: %w", syscall.ENOSPC)
		}
		_, err = full.Label(t.Context(), archs)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.False(t, errors.As(err, new(*job.Failed)))
	}
}

// What a machine has decides what it can train: other images, programs, files and weights are refused with the reason.
func TestStock(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 2)
	s := tiny(t, images, "", nil)
	want, err := s.Label(t.Context(), archs[:1])
	require.NoError(t, err)
	stock, err := OpenStock(t.Context(), "test", []string{"imagenet:" + images}, data.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, stock.Close()) }()
	j := s.job(archs[0], 0, nil)
	require.NoError(t, stock.Lacks("imagenet", s.ImagesChecksum()))
	there := NewLocal(Cache(t.TempDir()), s.local.devices, 1, stock.Materials)
	there.Capacity(1)
	r, err := there.Do(t.Context(), j, func(job.Notice) {})
	require.NoError(t, err)
	require.Equal(t, want[0], r.Validation[5])

	require.ErrorContains(t, stock.Lacks("cifar10", "x"), "the search has images of cifar10, and here are only: ima")
	require.ErrorContains(t, stock.Lacks("imagenet", "xyz"), "other images than the imagenet that is here")
	for want, change := range map[string]func(j *Job){
		"other images than":           func(j *Job) { j.Key.Images = "other" },
		"the job is of program other": func(j *Job) { j.Key.Version = "other" },
		"begins with weights":         func(j *Job) { j.Key.Start = "sum" },
		"a file of another machine's": func(j *Job) { j.Space = "file:/etc/passwd" },
		"unknown search space":        func(j *Job) { j.Space = "nowhere" },
		"images to train on":          func(j *Job) { j.Key.Train++ },
		"nasbench101":                 func(j *Job) { j.Key.Arch = "nonsense" },
		"epochs":                      func(j *Job) { j.Key.Recipe.Epochs = -1 },
	} {
		bad := j
		change(&bad)
		_, err := stock.Materials(t.Context(), bad)
		require.ErrorContains(t, err, want)
	}
	_, err = OpenStock(t.Context(), "test", []string{"imagenet:" + images, "imagenet:" + images}, data.Options{})
	require.ErrorContains(t, err, "of this kind already")
}

// A packed set is another set than its source, and as good as that for whoever has it.
func TestStockOfPackedImages(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 1)
	d, err := data.Open("imagenet:"+images, data.Options{})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "x.pack")
	_, err = d.Pack(t.Context(), path, data.PackConfig{Side: 8, Raw: true})
	require.NoError(t, errors.Join(err, d.Close()))
	s := tiny(t, path, "", nil)
	require.Contains(t, s.Describe(), "trained on imagenet, 8-pixel store (recipe")
	want, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	stock := func(where string) *Stock {
		stock, err := OpenStock(t.Context(), "test", []string{"imagenet:" + where}, data.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, stock.Close()) })
		return stock
	}
	require.ErrorContains(t, stock(images).Lacks("imagenet", s.ImagesChecksum()), "other images than the imagenet")
	packed := stock(path)
	require.NoError(t, packed.Lacks("imagenet", s.ImagesChecksum()))
	there := NewLocal(Cache(t.TempDir()), s.local.devices, 1, packed.Materials)
	there.Capacity(1)
	r, err := there.Do(t.Context(), s.job(archs[0], 0, nil), func(job.Notice) {})
	require.NoError(t, err)
	require.Equal(t, want[0], r.Validation[5])
}
