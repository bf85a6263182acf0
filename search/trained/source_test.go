package trained

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/made"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

const tinyQuery = "recipe=shapes&epochs=6&batch=10&channels=8&resolution=8&val-split=0.3&recalibrate=1&warmup=0&lr=0.05"

// tiny is a source of trainings that take milliseconds, with its own cache.
func tiny(t testing.TB, images, query string, change func(c *Config)) *Source {
	spec, err := Parse("train:imagenet:" + images + "?" + tinyQuery + query)
	require.NoError(t, err)
	c := Config{Spec: spec, Space: space.NASBench101{Vertices: 4}, Device: exec.Config{Threads: 2}, Workers: 2,
		Cache: t.TempDir(), Version: "test"}
	if change != nil {
		change(&c)
	}
	s, err := Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// cells are the first n of the space.
func cells(t testing.TB, n int) []space.Arch {
	list, err := space.NASBench101{Vertices: 4}.All(t.Context(), nil)
	require.NoError(t, err)
	return list[:n]
}

// fake stands in for trainer.Train: curves are a function of architecture and seed, times are random.
type fake struct {
	calls atomic.Int64
	mu    sync.Mutex
	fails map[string]int // architecture: how often it fails yet; negative: it panics
	falls map[string]int // architecture: the epoch in which it diverges
	dirs  []string
}

func (f *fake) curve(arch string, seed uint64, epoch, epochs int) float64 {
	h := fnv.New32a()
	fmt.Fprint(h, arch)
	level := float64(h.Sum32()%1000) / 1000
	noise := philox.New(seed, philox.PurposeTest, h.Sum32()+uint32(epoch)).Float64()
	return (0.1 + 0.8*level*float64(epoch)/float64(epochs)) + 0.05*noise
}

func (f *fake) train(ctx context.Context, j trainer.Job, d trainer.Deps) (*trainer.Result, error) {
	f.calls.Add(1)
	f.mu.Lock()
	f.dirs = append(f.dirs, d.Dir)
	left := f.fails[j.Arch]
	if left > 0 {
		f.fails[j.Arch]--
	} else if left < 0 {
		f.fails[j.Arch]++
	}
	fall := f.falls[j.Arch]
	f.mu.Unlock()
	switch {
	case left > 0:
		return nil, errors.New("the device fell off the bus")
	case left < 0:
		panic("index out of range")
	}
	r := &trainer.Result{Test: &trainer.Evaluation{Top1: 0.5}}
	for e := 1; e <= j.Recipe.Epochs; e++ {
		for range rand.IntN(3) { // others may overtake it
			runtime.Gosched()
		}
		if ctx.Err() != nil {
			return nil, trainer.ErrInterrupted
		}
		if e == fall {
			return nil, &trainer.Diverged{Update: 7, Where: "stem/conv", Validation: r.Validation}
		}
		r.Validation = append(r.Validation, trainer.Evaluation{Epoch: e,
			Top1: f.curve(j.Arch, j.Seed, e, j.Recipe.Epochs)})
		if d.Stop(r.Validation[e-1]) {
			break
		}
	}
	return r, nil
}

// Labels are those of trainings with the trainer, and depend neither on how many are trained at once nor on threads;
// what is in the cache is not trained again.
func TestLabels(t *testing.T) {
	images := testdata.Images(t)
	archs := cells(t, 5)
	one := tiny(t, images, "&seeds=2", func(c *Config) { c.Workers, c.Device.Threads = 1, 1 })
	require.Len(t, labels.Places(one.local.devices, one.Workers, 9), 1)
	want, err := one.Label(t.Context(), archs)
	require.NoError(t, err)
	for i, a := range archs {
		mean := 0.0
		for k := range 2 {
			net, err := a.(space.Trainable).Network(one.NetworkSize())
			require.NoError(t, err)
			r, err := trainer.Train(t.Context(), trainer.Job{Arch: a.String(), Net: net, Data: one.sets[k],
				Recipe: one.Recipe, Seed: uint64(1 + k), OnNaN: "stop"}, trainer.Deps{Device: exec.Config{Threads: 2}})
			require.NoError(t, err)
			mean += r.Validation[5].Top1 / 2
		}
		require.Equal(t, mean, want[i])
	}
	require.Greater(t, spread(want), 0.0, "labels differ")

	var events int
	three := tiny(t, images, "&seeds=2", func(c *Config) {
		c.Workers, c.Device.Threads, c.Done = 3, 4, func(labels.Candidate) { events++ }
	})
	threads := func(trainings int) (list []int) {
		for _, s := range labels.Places(three.local.devices, three.Workers, trainings) {
			list = append(list, s.Device.Threads)
		}
		return list
	}
	require.Equal(t, []int{2, 1, 1}, threads(9))
	require.Equal(t, []int{4}, threads(1), "one alone has all of them")
	got, err := three.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, 10, events)
	require.Equal(t, one.Checksum(), three.Checksum())

	again := tiny(t, images, "&seeds=2", func(c *Config) { c.Cache = three.Cache })
	again.local.train = func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) {
		return nil, errors.New("everything is in the cache")
	}
	got, err = again.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)
	folders, err := filepath.Glob(filepath.Join(three.Cache, "*", "*"))
	require.NoError(t, err)
	require.Len(t, folders, 10)
	for _, f := range folders {
		require.Equal(t, ".json", filepath.Ext(f), "no folder of work is left")
	}
	records, err := again.Records(archs[0])
	require.NoError(t, err)
	require.Len(t, records, 2)
	require.Len(t, records[1].Validation, 6)

	// Anything that a training depends on is another training.
	for query, change := range map[string]func(c *Config){
		"&seeds=2&lr=0.04": nil, "&seeds=2&seed=9": nil, "&seeds=2&on-nan=skip": nil, "&seeds=2": func(c *Config) {
			c.Version = "other"
		},
	} {
		query = strings.Replace(query, "&lr=0.04", "", 1) // a key must not come twice
		s := tiny(t, images, query, func(c *Config) {
			c.Cache = three.Cache
			if change != nil {
				change(c)
			} else if query == "&seeds=2" {
				c.Recipe.LR = 0.04
			}
		})
		f := &fake{}
		s.local.train = f.train
		_, err := s.Label(t.Context(), archs[:1])
		require.NoError(t, err)
		require.EqualValues(t, 2, f.calls.Load(), query)
		require.NotEqual(t, one.Checksum(), s.Checksum())
	}

	// The test accuracy stays sealed.
	_, _, err = again.Judge(archs[0])
	require.ErrorIs(t, err, table.ErrSealed)
	again.Unseal()
	accuracy, rank, err := again.Judge(archs[0])
	require.NoError(t, err)
	require.Equal(t, (*records[0].Test+*records[1].Test)/2, accuracy)
	require.Zero(t, rank)
	_, _, err = again.Judge(cells(t, 9)[8])
	require.ErrorIs(t, err, ledger.ErrNoLabel)

	require.True(t, again.Has(archs[0]))
	big, err := space.NASBench101{}.Parse("nasbench101:best")
	require.NoError(t, err)
	require.False(t, again.Has(big), "it is not in the space")
	require.Equal(t, ledger.Facts{Source: "trained", Metric: "validation accuracy", Epochs: 6,
		Recipe: "shapes-" + again.Recipe.Hash(), Seed: 1, Seeds: 2}, again.Facts())
	require.NotContains(t, again.Describe(), images, "no path")
}

func spread(v []float64) float64 {
	low, high := v[0], v[0]
	for _, x := range v {
		low, high = min(low, x), max(high, x)
	}
	return high - low
}

// Stopped in the middle, trainings go on from their checkpoints and labels are those of a run that never stopped.
func TestInterruptedTrainingsGoOn(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 3)
	want, err := tiny(t, images, "", nil).Label(t.Context(), archs)
	require.NoError(t, err)
	cache := t.TempDir()
	epochs, stops := 0, 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		s := tiny(t, images, "", func(c *Config) { c.Cache, c.Workers = cache, 1 })
		left := 4
		s.Observe(func(e events.Event) {
			if e.Name == made.EventEpoch {
				if epochs++; left == 0 {
					cancel()
				}
				left--
			}
		}, nil)
		got, err := s.Label(ctx, archs)
		cancel()
		if err == nil {
			require.Equal(t, want, got)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		stops++
	}
	require.GreaterOrEqual(t, stops, 2)
	require.LessOrEqual(t, epochs, 3*6+stops, "an epoch at most is done again")
}

// What was labelled before is told to a new source, which then stops by it as the first one would have, and knows its
// notes and test accuracies.
func TestRecall(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 60)
	s := tiny(t, images, "&stop=median&stop-after=2", nil)
	f := &fake{falls: map[string]int{archs[3].String(): 4, archs[41].String(): 1}}
	s.local.train = f.train
	l := ledger.New(s, 100)
	for i := range 4 {
		_, err := l.Query(t.Context(), archs[10*i:10*i+10], "random", i)
		require.NoError(t, err)
	}
	want, err := s.Label(t.Context(), archs[40:])
	require.NoError(t, err)

	for _, cache := range []string{s.Cache, t.TempDir()} { // with its cache and without
		next := tiny(t, images, "&stop=median&stop-after=2", func(c *Config) { c.Cache = cache })
		g := &fake{falls: f.falls}
		next.local.train = g.train
		require.NoError(t, next.Recall(t.Context(), l.Labels()))
		if cache == s.Cache {
			require.Zero(t, g.calls.Load())
		}
		got, err := next.Label(t.Context(), archs[40:])
		require.NoError(t, err)
		require.Equal(t, want, got)
		for _, a := range archs {
			require.Equal(t, s.Note(a), next.Note(a))
		}
	}
}

// Hopeless trainings end early: by earlier submissions only, so that neither timing nor what a cache holds changes a
// label.
func TestStop(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 60)
	whole := tiny(t, images, "", nil)
	all := &fake{}
	whole.local.train = all.train
	full, err := whole.Label(t.Context(), archs)
	require.NoError(t, err)
	run := func(workers int, cache string) (labels []float64, notes []ledger.Note, epochs int) {
		s := tiny(t, images, "&stop=median&stop-after=2", func(c *Config) { c.Workers, c.Cache = workers, cache })
		s.local.train = (&fake{}).train
		s.Observe(func(e events.Event) {
			if e.Name == made.EventEpoch {
				epochs++
			}
		}, nil)
		for begin := 0; begin < len(archs); begin += 20 {
			got, err := s.Label(t.Context(), archs[begin:begin+20])
			require.NoError(t, err)
			labels = append(labels, got...)
		}
		for _, a := range archs {
			notes = append(notes, s.Note(a))
		}
		return labels, notes, epochs
	}
	cache := t.TempDir()
	labels, notes, epochs := run(1, cache)
	again, notesAgain, _ := run(4, t.TempDir())
	require.Equal(t, labels, again)
	require.Equal(t, notes, notesAgain)
	fromFull, _, none := run(2, whole.Cache)
	require.Equal(t, labels, fromFull, "a cache with whole trainings changes nothing")
	require.Zero(t, none)

	require.Equal(t, full[:20], labels[:20], "there was nothing to compare the first ones with")
	best, stopped, saved := 0.0, 0, 0
	for i, v := range labels {
		if notes[i].Stopped == nil {
			require.Equal(t, full[i], v)
			best = max(best, v)
			continue
		}
		stopped++
		saved += 6 - notes[i].Stopped[0]
		require.Contains(t, notes[i].String(), "stopped after")
		require.InDelta(t, full[i], v, 0.2, "an estimate of what it would have been")
	}
	require.Greater(t, stopped, 10)
	require.Less(t, stopped, 35)
	require.Equal(t, 60*6-saved, epochs)
	for i, v := range labels {
		if notes[i].Stopped != nil {
			require.Less(t, v, best)
		}
	}
	// A partial training in the cache is not taken for a whole one.
	other := tiny(t, images, "", func(c *Config) { c.Cache = cache })
	f := &fake{}
	other.local.train = f.train
	got, err := other.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, full, got)
	require.EqualValues(t, stopped, f.calls.Load())
	labelsAfter, _, _ := run(3, cache)
	require.Equal(t, labels, labelsAfter)
}

// What fails is tried again, first with its checkpoint and then without; what fails for good ends the search with an
// error that names it.
func TestRetries(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 4)
	s := tiny(t, images, "", func(c *Config) { c.Retries = 2 })
	f := &fake{fails: map[string]int{archs[1].String(): 2, archs[2].String(): -1}}
	s.local.train = func(ctx context.Context, j trainer.Job, d trainer.Deps) (*trainer.Result, error) {
		if j.Arch == archs[1].String() {
			mark := filepath.Join(d.Dir, "mark")
			_, err := os.Stat(mark)
			switch f.fails[j.Arch] { // archs[1] is trained by one goroutine
			case 2:
				require.ErrorIs(t, err, os.ErrNotExist)
				require.NoError(t, os.WriteFile(mark, nil, 0o644))
			case 1:
				require.NoError(t, err, "the first retry has the checkpoint")
			case 0:
				require.ErrorIs(t, err, os.ErrNotExist, "the second begins afresh")
			}
		}
		return f.train(ctx, j, d)
	}
	var retries []string
	s.Observe(func(e events.Event) {
		if e.Name == made.EventRetry {
			retries = append(retries, e.Text["arch"]+" "+e.Text["error"])
		}
	}, nil)
	got, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Len(t, retries, 3)
	require.Contains(t, strings.Join(retries, "\n"), "panic: index out of range")
	plain := tiny(t, images, "", nil)
	plain.local.train = (&fake{}).train
	want, err := plain.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)

	s = tiny(t, images, "", func(c *Config) { c.Retries = 1 })
	f = &fake{fails: map[string]int{archs[1].String(): 9}}
	s.local.train = f.train
	_, err = s.Label(t.Context(), archs)
	require.ErrorContains(t, err, "candidate "+archs[1].String()+" with seed 1 on cpu")
	require.ErrorContains(t, err, s.Cache)
	require.ErrorContains(t, err, "fell off the bus")
	require.Equal(t, 7, f.fails[archs[1].String()])
}

// What diverges has the label of guessing, or is an error; it is not tried again, and it is remembered.
func TestDiverged(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 3)
	s := tiny(t, images, "", func(c *Config) { c.Retries = 5 })
	f := &fake{falls: map[string]int{archs[1].String(): 2}}
	s.local.train = f.train
	got, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, 1./3, got[1])
	require.Equal(t, ledger.Note{Diverged: true}, s.Note(archs[1]))
	require.Equal(t, ledger.Note{}, s.Note(archs[0]))
	require.EqualValues(t, 3, f.calls.Load())
	s.Unseal()
	_, _, err = s.Judge(archs[1])
	require.ErrorIs(t, err, ledger.ErrNoLabel)
	strict := tiny(t, images, "&diverged=fail", func(c *Config) { c.Cache = s.Cache })
	strict.local.train = func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) {
		return nil, errors.New("cached")
	}
	_, err = strict.Label(t.Context(), archs)
	require.ErrorContains(t, err, archs[1].String())
	require.ErrorContains(t, err, "diverged=chance")

	// A real one.
	wild := tiny(t, images, "", func(c *Config) {
		c.Recipe.LR, c.Recipe.Schedule, c.Recipe.Momentum, c.Recipe.Clip = 1000, "constant", 0.99, 0
	})
	got, err = wild.Label(t.Context(), archs[2:])
	require.NoError(t, err)
	if wild.Note(archs[2]).Diverged {
		require.Equal(t, 1./3, got[0])
	}
}

// Several processes that share a cache train nothing twice.
func TestSharedCache(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 12)
	cache, f := t.TempDir(), &fake{}
	var group sync.WaitGroup
	labels := make([][]float64, 3)
	for n := range labels {
		s := tiny(t, images, "", func(c *Config) { c.Cache, c.Workers = cache, 3 })
		s.local.train = f.train
		group.Go(func() {
			var err error
			if labels[n], err = s.Label(t.Context(), archs); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 12, f.calls.Load())
	require.Equal(t, labels[0], labels[1])
	require.Equal(t, labels[0], labels[2])
}

// A record that was edited, damaged or put in another one's place is refused with what to do, never believed.
func TestDamagedRecord(t *testing.T) {
	images, archs := testdata.Images(t), cells(t, 2)
	s := tiny(t, images, "", nil)
	s.local.train = (&fake{}).train
	want, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	path, other := s.cache.base(s.key(archs[0].String(), 0))+".json", s.cache.base(s.key(archs[1].String(), 0))+".json"
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	swapped, err := os.ReadFile(other)
	require.NoError(t, err)
	for _, key := range []string{`"arch": "nasbench101:`, `"seed": 1,`, `"images": "`, `"lr": 0.05`, `"sha256": "`} {
		require.Contains(t, string(good), key, "it can be read")
	}
	refused := func(text, says string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		again := tiny(t, images, "", func(c *Config) { c.Cache = s.Cache })
		again.local.train = s.local.train
		_, err := again.Label(t.Context(), archs)
		require.ErrorContains(t, err,
			path+", which keeps the training of "+archs[0].String()+" with seed 1, cannot be believed: "+says)
		require.ErrorContains(t, err, "delete the file to have it trained again")
	}
	var r Record
	require.NoError(t, checkpoint.OpenJSON(good, &r))
	digits := fmt.Sprint(r.Validation[5])
	for at := 2; at < len(digits); at++ { // each digit of an accuracy
		changed := []byte(digits)
		changed[at] = '0' + (changed[at]-'0'+1)%10
		refused(strings.Replace(string(good), digits, string(changed), 1), checkpoint.ErrChanged.Error())
	}
	refused(strings.Replace(string(good), `"test": 0.5`, `"test": 0.6`, 1), checkpoint.ErrChanged.Error())
	refused(strings.Replace(string(good), archs[0].String(), archs[1].String(), 1), checkpoint.ErrChanged.Error())
	refused(string(swapped), "it is the record of "+archs[1].String()+" with seed 1 in another file's place")
	refused("{", "")
	refused(`{"validation":[2]}`, `it has no "sha256"`)
	for _, change := range []func(r *Record){
		func(r *Record) {
			r.Validation[3] = 2
		}, func(r *Record) { v := -0.1; r.Test = &v }, func(r *Record) { r.Validation = make([]float64, 7) },
	} {
		r := Record{}
		require.NoError(t, checkpoint.OpenJSON(good, &r))
		change(&r)
		text, err := checkpoint.SealJSON(r)
		require.NoError(t, err)
		refused(string(text), "")
	}
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(" ", 2<<20+1)), 0o644))
	_, err = s.Label(t.Context(), archs)
	require.ErrorContains(t, err, path)

	// Without the file it is trained again; with the right one it is not.
	require.NoError(t, os.Remove(path))
	got, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, os.WriteFile(path, good, 0o644))
	s.local.train = nil
	got, err = s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Image sets of equal names and sizes share no label.
func TestOtherImagesAreOtherLabels(t *testing.T) {
	a, b, archs := testdata.Images(t), testdata.Images(t), cells(t, 2)
	s := tiny(t, a, "", nil)
	f := &fake{}
	s.local.train = f.train
	_, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	other := func() *Source {
		o := tiny(t, b, "", func(c *Config) { c.Cache = s.Cache })
		o.local.train = f.train
		_, err := o.Label(t.Context(), archs)
		require.NoError(t, err)
		return o
	}
	require.Equal(t, s.Checksum(), other().Checksum(), "the same images elsewhere")
	require.EqualValues(t, 2, f.calls.Load())
	from, err := os.ReadFile(filepath.Join(b, "train", "class1", "train1-0.png"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(b, "train", "class1", "train1-1.png"), from, 0o644))
	require.NotEqual(t, s.Checksum(), other().Checksum())
	require.EqualValues(t, 4, f.calls.Load())
}

// decodeRecord reads a record as a cache does.
func decodeRecord(text []byte) (*Record, error) {
	r := &Record{}
	if err := checkpoint.OpenJSON(text, r); err != nil {
		return nil, err
	}
	return r, r.check()
}

func FuzzRecord(f *testing.F) {
	one := 0.5
	text, err := checkpoint.SealJSON(Record{Key: Key{Format: recordFormat, Arch: "a", Recipe: trainer.RecipeDefaults()},
		Validation: []float64{one}, Test: &one})
	require.NoError(f, err)
	_, err = decodeRecord(text)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"key":{},"validation":[1e999]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r *Record
		var err error
		testdata.WithinFactor(t, len(text), 512, func() { r, err = decodeRecord(text) })
		if err == nil {
			require.LessOrEqual(t, len(r.Validation), r.Key.Recipe.Epochs)
		}
		// What a hostile writer seals is checked all the same.
		var fields map[string]json.RawMessage
		if json.Unmarshal(text, &fields) != nil {
			return
		}
		delete(fields, "sha256")
		sealed, err := checkpoint.SealJSON(fields)
		if err != nil {
			return
		}
		if r, err := decodeRecord(sealed); err == nil {
			for _, v := range r.Validation {
				require.True(t, v >= 0 && v <= 1)
			}
		}
	})
}

func TestParse(t *testing.T) {
	s, err := Parse("train:shapes")
	require.NoError(t, err)
	require.Equal(t, "shapes", s.RecipeName)
	require.Equal(t, 2, s.StopAfter)
	require.Equal(t, "train:shapes", s.String())
	s, err = Parse("train:shards:/a/{000..099}.tar?test=/b.tar?recipe=ofa&epochs=3&warmup=0&optimizer=adamw&" +
		"decay-all=true&stop=0.25&seeds=3&seed=7")
	require.NoError(t, err)
	require.Equal(t, "shards:/a/{000..099}.tar?test=/b.tar", s.Data)
	require.Equal(t, []any{3, "adamw", true, 0.25, 3, uint64(7), 1},
		[]any{s.Recipe.Epochs, s.Recipe.Optimizer, s.Recipe.DecayAll, s.Stop, s.Seeds, s.Seed, s.StopAfter})
	again, err := Parse(s.String())
	require.NoError(t, err)
	require.Equal(t, s, again)

	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("my.yaml", []byte("epochs: 4\n"), 0o644))
	s, err = Parse("train:cifar10:data?recipe=my.yaml&lr=0.5")
	require.NoError(t, err)
	text := s.String()
	t.Chdir(t.TempDir())
	moved, err := Parse(text)
	require.NoError(t, err, text)
	require.Equal(t, s.Recipe, moved.Recipe)
	require.True(t, filepath.IsAbs(strings.TrimPrefix(moved.Data, "cifar10:")), moved.Data)
	require.Equal(t, "my-"+s.Recipe.Hash(), s.recipe())

	for labels, want := range map[string]string{
		"table:x":                              "want train:DATA",
		"train:":                               "no images",
		"train:cifar10:x":                      "want ?recipe=R: darts-cifar",
		"train:shapes?recipe=none":             "none of",
		"train:shapes?speed=9":                 `unknown key "speed"; did you mean seed? known: recipe, seed`,
		"train:shapes?lr=fast":                 `lr "fast"`,
		"train:shapes?lr=null":                 `lr "null"`,
		"train:shapes?lr=-1":                   "lr -1",
		"train:shapes?lr=1&lr=2":               "one value",
		"train:shapes?lr=":                     "one value",
		"train:shapes?epochs=%7Ba:%201%7D":     "epochs",
		"train:shapes?seeds=0":                 "seeds 0: want 1 to 1000",
		"train:shapes?seeds=x":                 `seeds "x"`,
		"train:shapes?stop=1":                  "stop 1: want 0 to 0.9",
		"train:shapes?stop=NaN":                "stop NaN",
		"train:shapes?stop-after=0":            "stop-after 0: want 1 to 1000000",
		"train:shapes?on-nan=pray":             `on-nan "pray": want stop, skip`,
		"train:shapes?diverged=no":             `diverged "no": want chance, fail`,
		"train:shapes?on-corrupt=skip=0":       `on-corrupt "skip=0"`,
		"train:shards:/a.tar?test=/b-%zz.tar":  "%zz",
		"train:shards:/a/{0..1}.tar?test=/b.t": `unknown key "test"`,
	} {
		_, err := Parse(labels)
		require.ErrorContains(t, err, want, labels)
	}
}

// Images that cannot be read end the labels, at once, or are left out and said, whether a training is new or of the
// cache.
func TestOnCorrupt(t *testing.T) {
	images := testdata.Images(t)
	require.NoError(t, os.Truncate(filepath.Join(images, "train", "class1", "train1-3.png"), 90))
	archs := cells(t, 2)
	strict := tiny(t, images, "", nil)
	f := 0
	train := strict.local.train
	strict.local.train = func(ctx context.Context, j trainer.Job, d trainer.Deps) (*trainer.Result, error) {
		f++
		return train(ctx, j, d)
	}
	_, err := strict.Label(t.Context(), archs[:1])
	require.True(t, data.IsCorrupt(err), "%v", err)
	require.ErrorContains(t, err, "train1-3.png")
	require.Equal(t, 1, f, "another attempt finds the same")
	require.Nil(t, strict.Corrupt())

	s := tiny(t, images, "&on-corrupt=skip=2", nil)
	require.NotEqual(t, strict.Checksum(), s.Checksum())
	require.NotEqual(t, strict.key("a", 0).hash(), s.key("a", 0).hash())
	want, err := s.Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, 1, s.Corrupt().Count)
	require.Contains(t, s.Describe(), "images that cannot be read are left out")

	var warned []string
	again := tiny(t, images, "&on-corrupt=skip=2", func(c *Config) {
		c.Cache = s.Cache
		c.Images.Warn = func(text string) { warned = append(warned, text) }
	})
	again.local.train = func(context.Context, trainer.Job, trainer.Deps) (*trainer.Result, error) {
		return nil, errors.New("all is in the cache")
	}
	got, err := again.Fresh().Label(t.Context(), archs)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, s.Corrupt(), again.Corrupt())
	require.NoError(t, again.Close())
	require.Contains(t, warned[len(warned)-1], "1 images that cannot be read were left out: ")
	require.Contains(t, warned[len(warned)-1], "train1-3.png")
}

func FuzzParse(f *testing.F) {
	f.Add("train:shapes?recipe=shapes&epochs=3&stop=median")
	f.Add("train:shards:/a?b?seeds=2&lr=%31")
	f.Fuzz(func(t *testing.T, labels string) {
		if s, err := Parse(labels); err == nil {
			require.NoError(t, s.Settings().Check())
		}
	})
}

func TestOpenErrors(t *testing.T) {
	images := testdata.Images(t)
	for query, want := range map[string]string{"&batch=50": "has 42 images to train on",
		"&val-split=0": "no validation images"} {
		key, _, _ := strings.Cut(query[1:], "=")
		var kept []string
		for _, part := range strings.Split(tinyQuery, "&") {
			if !strings.HasPrefix(part, key+"=") {
				kept = append(kept, part)
			}
		}
		spec, err := Parse("train:imagenet:" + images + "?" + strings.Join(kept, "&") + query)
		require.NoError(t, err)
		_, err = Open(t.Context(), Config{Spec: spec, Space: space.NASBench101{}, Cache: t.TempDir()})
		require.ErrorContains(t, err, want)
		_, err = Open(t.Context(), Config{Spec: spec, Space: space.NASBench101{}})
		require.ErrorContains(t, err, "want a folder")
	}
}
