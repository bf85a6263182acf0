//go:build !nofarm

package farm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/bus"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/trained"
)

const epochs = 3

// some are jobs of one search.
func some(from, n int) (list []trained.Job) {
	for i := range n {
		j := trained.Job{Space: "nowhere", Data: "shapes"}
		j.Key = trained.Key{Arch: fmt.Sprint("arch", from+i), Images: "images", Seed: 1, Level: "level",
			Version: "this"}
		j.Key.Recipe.Epochs = epochs
		list = append(list, j)
	}
	return list
}

// recordOf is what training a job comes to here: anything that depends on the job alone.
func recordOf(j trained.Job) *trained.Record {
	r := &trained.Record{Key: j.Key, Params: 7, Seconds: rand.Float64()}
	sum := digest.Of(encode(j.Key))
	for e := range epochs {
		r.Validation = append(r.Validation, float64(sum[e]%16)/16)
	}
	r.Test = &r.Validation[epochs-1]
	return r
}

// fake trains in no time, unless a hook takes some.
type fake struct {
	mu    sync.Mutex
	calls map[string]int
	hook  func(ctx context.Context, j trained.Job) error
	wrong func(r *trained.Record)
	says  int // notices of each training beside the first
}

func (f *fake) Capacity(jobs int) int { return jobs }

func (f *fake) Do(ctx context.Context, j trained.Job, tell func(job.Notice)) (*trained.Record, error) {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[j.Key.Arch]++
	f.mu.Unlock()
	tell(job.Notice{Device: "cpu", Epoch: 1, Accuracy: 0.5})
	for range f.says {
		tell(job.Notice{Device: "cpu", Epoch: 2, Accuracy: 0.25})
	}
	if f.hook != nil {
		if err := f.hook(ctx, j); err != nil {
			return nil, err
		}
	}
	r := recordOf(j)
	if f.wrong != nil {
		f.wrong(r)
	}
	return r, nil
}

func (f *fake) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		n += c
	}
	return n
}

// farm is one for tests.
type farm struct {
	t     *testing.T
	dir   string
	at    string
	cache trained.Cache
	queue *Queue
	join  chan string
}

func newFarm(t *testing.T) *farm {
	f := &farm{t: t, dir: filepath.Join(t.TempDir(), "farm"), at: "127.0.0.1:0", cache: trained.Cache(t.TempDir()),
		join: make(chan string, 1)}
	f.open()
	t.Cleanup(func() { require.NoError(t, f.queue.Close()) })
	return f
}

// open is a coordinator that begins, or goes on.
func (f *farm) open() {
	f.queue = NewQueue(Config{Dir: f.dir, At: f.at, AckWait: time.Second, Quick: true,
		Tell: func(text string) { f.t.Log(text) }, Joined: func(join, _ string) {
			select {
			case f.join <- join:
			default:
			}
		}})
}

// trainings has them done by a coordinator.
func (f *farm) trainings(q *Queue) trained.Executor { return job.On[trained.Job](q, f.cache.Put) }

// reopen closes the coordinator and opens it again at its address, where something happens in between.
func (f *farm) reopen(between func()) {
	require.NoError(f.t, f.queue.Close())
	between()
	join := f.joined()
	f.at = join[len("tls://"):]
	f.open()
}

// joined is where workers join.
func (f *farm) joined() string {
	join := <-f.join
	f.join <- join
	return join
}

// do has jobs done and returns their errors.
func (f *farm) do(ctx context.Context, jobs []trained.Job) []error {
	errs := make([]error, len(jobs))
	var group sync.WaitGroup
	for i, j := range jobs {
		group.Go(func() {
			r, err := f.trainings(f.queue).Do(ctx, j, func(job.Notice) {})
			if errs[i] = err; err == nil {
				if !j.Same(r, recordOf(j)) {
					errs[i] = errors.New("another record")
				}
			}
		})
	}
	group.Wait()
	return errs
}

// work is a worker until stop, which returns its error.
func (f *farm) work(e *fake, change func(w *Worker)) (stop func() error) {
	ctx, cancel := context.WithCancel(f.t.Context())
	end := make(chan error, 1)
	w := Worker{Keys: filepath.Join(f.dir, bus.KeysFolder), Version: "this", Work: f.t.TempDir(),
		Executor: func(context.Context, Charter) (Fitted, error) { return Fit(e, "level", 2, nil), nil },
		Tell:     func(text string) { f.t.Log(text) }}
	go func() {
		select {
		case w.Join = <-f.join:
			f.join <- w.Join
		case <-ctx.Done():
			end <- nil
			return
		}
		if change != nil {
			change(&w)
		}
		end <- Work(ctx, w)
	}()
	var err error
	stop = sync.OnceValue(func() error {
		cancel()
		err = <-end
		return err
	})
	f.t.Cleanup(func() { _ = stop() })
	return stop
}

func (f *farm) fine(errs []error) {
	f.t.Helper()
	for _, err := range errs {
		require.NoError(f.t, err)
	}
}

// Jobs are done by whoever is there, each once, and end in the cache; a search that has ended ends its workers. A
// coordinator that comes again, even without its store, has all of it done again that it asks for and the cache lacks.
func TestFarm(t *testing.T) {
	f := newFarm(t)
	_, err := os.Stat(f.dir)
	require.ErrorIs(t, err, os.ErrNotExist, "nothing is opened before the first job")
	var workers []*fake
	var stops []func() error
	for range 3 {
		e := &fake{}
		workers = append(workers, e)
		stops = append(stops, f.work(e, nil))
	}
	total := func() (n int) {
		for _, e := range workers {
			n += e.total()
		}
		return n
	}
	jobs := some(0, 40)
	f.fine(f.do(t.Context(), jobs))
	require.Equal(t, 40, total())
	for _, j := range jobs {
		r, err := f.cache.Load(j.Key)
		require.NoError(t, err)
		require.NotNil(t, r)
	}
	var device string
	var first job.Notice
	j := some(50, 1)[0]
	_, err = f.trainings(f.queue).Do(t.Context(), j, func(n job.Notice) {
		if device = n.Device; n.Epoch > 0 {
			first = n
		}
	})
	require.NoError(t, err)
	require.Regexp(t, `^.+/cpu$`, device)
	require.Equal(t, 0.5, first.Accuracy)

	admin, err := Open(t.Context(), f.dir)
	require.NoError(t, err)
	s, err := admin.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 41, 3}, []int{s.Queued, s.Taken, s.Results, len(s.Workers)})
	require.Equal(t, "this", s.Charter.Version)
	admin.Close()

	// Two coordinators in one folder would spoil it.
	other := NewQueue(f.queue.Config)
	_, err = f.trainings(other).Do(t.Context(), j, func(job.Notice) {})
	require.ErrorContains(t, err, "is at work there")
	require.NoError(t, other.Close())

	f.reopen(func() {})
	f.fine(f.do(t.Context(), jobs[:20]))
	require.Equal(t, 41, total(), "the server has the results")
	f.reopen(func() { require.NoError(t, os.RemoveAll(filepath.Join(f.dir, "store"))) })
	f.fine(f.do(t.Context(), append(some(100, 10), jobs[:5]...)))
	require.Equal(t, 56, total(), "without the store they are done again")
	require.Empty(t, f.queue.Different(t.Context()))
	require.NoError(t, f.queue.End(t.Context()))
	for _, stop := range stops {
		require.NoError(t, stop())
	}
	_, err = Open(t.Context(), t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What fails wherever it is tried is given up with its history, once; so ends what is cancelled. Others go on.
func TestGivenUp(t *testing.T) {
	f := newFarm(t)
	before := seen(t)
	hold := make(chan struct{})
	var mended atomic.Bool
	e := &fake{hook: func(ctx context.Context, j trained.Job) error {
		switch j.Key.Arch {
		case "arch1":
			if !mended.Load() {
				return errors.New("division of networks by zero")
			}
		case "arch2":
			select {
			case <-hold:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}}
	f.work(e, nil)
	done := make(chan []error, 1)
	go func() { done <- f.do(t.Context(), some(0, 4)) }()
	f.joined()
	admin, err := Open(t.Context(), f.dir)
	require.NoError(t, err)
	defer admin.Close()
	require.Eventually(t, func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.calls["arch2"] > 0 },
		20*time.Second, 5*time.Millisecond)
	n, err := admin.Cancel(t.Context(), "arch2")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	errs := <-done
	require.NoError(t, errs[0])
	require.NoError(t, errs[3])
	for i, want := range map[int]string{1: "given up after 3 attempts: ", 2: "cancelled"} {
		require.ErrorContains(t, errs[i], want)
		require.True(t, errors.As(errs[i], new(*job.Failed)))
	}
	require.ErrorContains(t, errs[1], "failed division of networks by zero")
	require.Equal(t, 3, e.calls["arch1"])
	got := seen(t)
	require.Equal(t, before["ctnas_failed_total"]+2, got["ctnas_failed_total"])
	require.GreaterOrEqual(t, got["ctnas_redelivered_total"], before["ctnas_redelivered_total"]+2)

	// It was told: who asks again, a search that goes on for one, has it tried again.
	close(hold)
	mended.Store(true)
	f.fine(f.do(t.Context(), some(1, 2)))

	// Drained, a worker ends its jobs and takes no more.
	s, err := admin.Status(t.Context())
	require.NoError(t, err)
	require.Len(t, s.Workers, 1)
	require.NoError(t, admin.Drain(t.Context(), s.Workers[0].Name))
	require.Eventually(t, func() bool {
		s, err := admin.Status(t.Context())
		return err == nil && s.Workers[0].State == "stopped"
	}, 20*time.Second, 5*time.Millisecond)
	require.Error(t, admin.Drain(t.Context(), "nobody"))
	require.Error(t, admin.Drain(t.Context(), "*"))
}

// What fails again and again on one machine is tried on another, if there is one, before it is given up.
func TestOtherHost(t *testing.T) {
	for _, both := range []bool{false, true} {
		f := newFarm(t)
		f.queue.AckWait = 400 * time.Millisecond
		odd := errors.New("this machine is odd")
		busy, release := make(chan struct{}), make(chan struct{})
		other := &fake{hook: func(ctx context.Context, j trained.Job) error {
			if j.Key.Arch == "arch2" {
				close(busy)
				select {
				case <-release:
				case <-ctx.Done():
				}
			} else if both {
				return odd
			}
			return nil
		}}
		f.work(other, func(w *Worker) {
			w.Host = "other"
			w.Executor = func(context.Context, Charter) (Fitted, error) { return Fit(other, "level", 1, nil), nil }
		})
		jobs, done := some(0, 3), make(chan []error, 2)
		go func() { done <- f.do(t.Context(), jobs[2:]) }()
		<-busy // it is there, and has no time
		tries := make(chan struct{}, 99)
		f.work(&fake{hook: func(context.Context, trained.Job) error { tries <- struct{}{}; return odd }},
			func(w *Worker) { w.Host = "odd" })
		go func() { done <- f.do(t.Context(), jobs[:1]) }()
		for range DefaultCrashes {
			<-tries
		}
		time.Sleep(f.queue.AckWait) // it is handed out here again, and given back
		require.Empty(t, done, "it is not given up yet")
		require.Empty(t, tries)
		close(release)
		f.fine(<-done)
		errs := <-done
		if !both {
			f.fine(errs)
			continue
		}
		require.ErrorContains(t, errs[0], "given up after 4 attempts")
		require.ErrorContains(t, errs[0], "odd-")
		require.ErrorContains(t, errs[0], "other-")
	}
}

// What speaks against a job is not forgotten while it is handed back, and what cannot be read is not taken for nothing.
func TestHistory(t *testing.T) {
	f := newFarm(t)
	f.work(&fake{}, nil)
	f.fine(f.do(t.Context(), some(0, 1)))
	w := &worker{conn: f.queue.conn, names: f.queue.names, charter: f.queue.charter}
	note := func(n int, a attempt) {
		at := w.names.attempt("job", fmt.Sprint(n))
		require.NoError(t, w.conn.Put(t.Context(), w.names.attempts(), at, encode(a)))
	}
	for n := range DefaultCrashes {
		note(n+1, attempt{Sequence: 5, State: attemptFailed})
	}
	note(4, attempt{Sequence: 4, State: attemptFailed})
	note(5, attempt{Sequence: 5, State: attemptPreempted})
	d := &bus.Delivery{Times: 200, Sequence: 5}
	d.Subject = w.names.job(w.charter.class(), "job")
	list, _, err := w.history(t.Context(), d, "job")
	require.NoError(t, err)
	require.Len(t, list, DefaultCrashes)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = w.history(ctx, d, "job")
	require.ErrorIs(t, err, context.Canceled)
}

// A worker that is told to stop hands its job back at once; one whose machine fails does, too, and ends; neither speaks
// against the job.
func TestHandedBack(t *testing.T) {
	f := newFarm(t)
	begun := make(chan string, 9)
	stuck := &fake{hook: func(ctx context.Context, j trained.Job) error {
		begun <- j.Key.Arch
		<-ctx.Done()
		return ctx.Err()
	}}
	full := &fake{hook: func(context.Context, trained.Job) error { return fmt.Errorf("write: %w", syscall.ENOSPC) }}
	stop := f.work(stuck, nil)
	done := make(chan []error, 1)
	jobs := some(0, 1)
	go func() { done <- f.do(t.Context(), jobs) }()
	<-begun
	for range DefaultCrashes + 1 { // as often as a job is given up, and more
		require.NoError(t, stop())
		stop = f.work(stuck, nil)
		<-begun
	}
	require.NoError(t, stop())
	end := make(chan error, 1)
	w := Worker{Join: f.joined(), Keys: filepath.Join(f.dir, bus.KeysFolder), Version: "this",
		Executor: func(context.Context, Charter) (Fitted, error) { return Fit(full, "level", 1, nil), nil }}
	go func() { end <- Work(t.Context(), w) }()
	err := <-end
	require.ErrorIs(t, err, ErrUnfit)
	require.ErrorIs(t, err, syscall.ENOSPC)
	broken := &fake{hook: func(context.Context, trained.Job) error { return errors.New("an illegal address") }}
	w.Executor = func(context.Context, Charter) (Fitted, error) {
		return Fit(broken, "level", 1, func() error { return errors.New("the GPU has fallen off the bus") }), nil
	}
	go func() { end <- Work(t.Context(), w) }()
	err = <-end
	require.ErrorIs(t, err, ErrUnfit)
	require.ErrorContains(t, err, "fallen off the bus, after: an illegal address")
	f.work(&fake{}, nil)
	f.fine(<-done)
}

// Workers that do not fit say why, take nothing, and are seen to be there.
func TestMisfits(t *testing.T) {
	f := newFarm(t)
	var mu sync.Mutex
	var said []string
	tell := func(w *Worker) {
		w.Tell = func(text string) { mu.Lock(); defer mu.Unlock(); said = append(said, text) }
	}
	old := &fake{}
	f.work(old, func(w *Worker) { tell(w); w.Version, w.Name = "that", "old" })
	f.work(old, func(w *Worker) {
		tell(w)
		w.Name = "poor"
		w.Executor = func(context.Context, Charter) (Fitted, error) {
			return Fitted{}, errors.New("no such images here")
		}
	})
	follower := make(chan error, 1)
	go func() {
		follower <- Work(t.Context(), Worker{Join: f.joined(), Keys: filepath.Join(f.dir, bus.KeysFolder),
			Version: "that", Follow: true})
	}()
	done := make(chan []error, 1)
	go func() { done <- f.do(t.Context(), some(0, 2)) }()
	require.ErrorIs(t, <-follower, ErrOther)
	admin, err := Open(t.Context(), f.dir)
	require.NoError(t, err)
	defer admin.Close()
	states := map[string]string{}
	require.Eventually(t, func() bool {
		s, err := admin.Status(t.Context())
		for _, w := range s.Workers {
			states[w.Name] = w.State
		}
		return err == nil && states["old"] != "" && states["poor"] != ""
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, "this worker is that, the search is this: start a worker of the same program", states["old"])
	require.Equal(t, "no such images here", states["poor"])
	f.work(&fake{}, func(w *Worker) { w.Jobs = 2 })
	f.fine(<-done)
	require.Zero(t, old.total())
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, said, "no jobs for this worker: no such images here")

	// A job that is not of this farm is refused.
	j := some(0, 1)[0]
	j.Key.Images = "others"
	_, err = f.trainings(f.queue).Do(t.Context(), j, nil)
	require.ErrorContains(t, err, "of another kind, program, level or set of images")
}

// A first record counts: a second that differs is told, one that is no record of its job is not believed. A record
// that could not be sent is sent by the next worker of its folder.
func TestRecords(t *testing.T) {
	f := newFarm(t)
	var mu sync.Mutex
	var all []Difference
	told := func() []Difference { mu.Lock(); defer mu.Unlock(); return slices.Clone(all) }
	differs := func(f *farm) {
		f.queue.Differs = func(d Difference) { mu.Lock(); defer mu.Unlock(); all = append(all, d) }
	}
	differs(f)
	jobs := some(0, 4)
	liar := &fake{wrong: func(r *trained.Record) { r.Key.Seed = 9 }}
	stop := f.work(liar, func(w *Worker) { w.Jobs = 1 })
	errs := f.do(t.Context(), jobs[:1])
	require.ErrorContains(t, errs[0], "cannot be believed: it is the record of arch0 with seed 9")
	require.NoError(t, stop())
	stop = f.work(&fake{}, nil)
	f.fine(f.do(t.Context(), jobs[:1])) // it is not kept
	require.NoError(t, stop())

	// It has a job when it is cut off, and ends it while another does, too.
	hold, begun := make(chan struct{}), make(chan struct{}, 2)
	slow := &fake{hook: func(context.Context, trained.Job) error { begun <- struct{}{}; <-hold; return nil },
		wrong: func(r *trained.Record) { r.Params++ }}
	work := t.TempDir()
	f.work(slow, func(w *Worker) { w.Work = work; w.Jobs = 1 })
	done := make(chan []error, 1)
	go func() { done <- f.do(t.Context(), jobs[1:2]) }()
	<-begun
	// The other sends its record first: as if the job had been handed out to it, too.
	o := outcome{Result: encode(recordOf(jobs[1])), Worker: "quick", Device: "cpu"}
	require.NoError(t, f.queue.conn.Put(t.Context(), f.queue.names.results(),
		f.queue.names.result(jobs[1].Name()), encode(o)))
	f.fine(<-done)
	close(hold)
	require.Eventually(t, func() bool { return len(f.queue.Different(t.Context())) == 1 }, 20*time.Second,
		5*time.Millisecond)
	list := f.queue.Different(t.Context())
	require.Equal(t, []Difference{{jobs[1].Name(), []string{"arch1"}, "quick", list[0].Second}}, list)
	require.Equal(t, list, told(), "each is told once")
	f.reopen(func() {})
	differs(f)
	f.fine(f.do(t.Context(), jobs[1:2]))
	require.Eventually(t, func() bool { return len(told()) == 2 }, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, append(list, list...), told(), "a coordinator that goes on is told, too")

	// The spool.
	left := t.TempDir()
	folder := filepath.Join(left, "spool", f.queue.charter.Search)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	kept := filepath.Join(folder, jobs[2].Name()+".json")
	text, err := checkpoint.SealJSON(outcome{Result: encode(recordOf(jobs[2])), Worker: "gone", Device: "cpu"})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(kept, text, 0o644))
	text, err = checkpoint.SealJSON(outcome{Result: encode(recordOf(jobs[3])), Worker: "gone", Device: "cpu"})
	require.NoError(t, err)
	spoiled := filepath.Join(folder, jobs[3].Name()+".json")
	text = bytes.Replace(text, []byte(`"params": 7`), []byte(`"params": 8`), 1)
	require.NoError(t, os.WriteFile(spoiled, text, 0o644))
	e := &fake{}
	f.work(e, func(w *Worker) { w.Work = left })
	require.Eventually(t, func() bool { _, err := os.Stat(kept); return err != nil }, 20*time.Second,
		5*time.Millisecond)
	f.fine(f.do(t.Context(), jobs[2:]))
	require.Equal(t, 1, e.total(), "what was changed is not sent")
	require.FileExists(t, spoiled)
}

// What a coordinator says of itself becomes the name of a folder and how long is waited: it is checked.
func TestCharter(t *testing.T) {
	good := Charter{Search: "0123456789abcdef", AckWait: time.Second, Crashes: 1}
	require.NoError(t, good.check())
	for _, spoil := range []func(c *Charter){
		func(c *Charter) { c.Search = "" }, func(c *Charter) { c.Search = "../../x" },
		func(c *Charter) { c.AckWait = -1 }, func(c *Charter) { c.AckWait = 0 }, func(c *Charter) { c.Crashes = 0 },
	} {
		bad := good
		spoil(&bad)
		require.Error(t, bad.check(), bad)
	}
	f := newFarm(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []error, 1)
	go func() { done <- f.do(ctx, some(0, 1)) }()
	t.Cleanup(func() { cancel(); <-done })
	f.joined()
	bad := f.queue.charter
	bad.Search = "../../x"
	require.NoError(t, f.queue.conn.Put(ctx, f.queue.names.farm(), f.queue.names.charter(), encode(bad)))
	said := make(chan string, 99)
	e := &fake{}
	stop := f.work(e, func(w *Worker) { w.Tell = func(text string) { said <- text } })
	require.Regexp(t, `cannot be believed: search "../../x"`, <-said)
	require.NoError(t, stop())
	require.Zero(t, e.total())
}

// A worker that ends when it is idle also does where there is no search.
func TestIdleWithoutASearch(t *testing.T) {
	keys := t.TempDir()
	require.NoError(t, bus.MakeKeys(keys))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, Work(ctx, Worker{Join: "tls://127.0.0.1:1", Keys: filepath.Join(keys, bus.KeysFolder),
		Idle: time.Millisecond}))
	require.NoError(t, ctx.Err())
}

// A server that does not take jobs is told, and what it lacks is made again.
func TestComplaint(t *testing.T) {
	f := newFarm(t)
	said := make(chan string, 999)
	f.queue.Tell = func(text string) { said <- text }
	f.work(&fake{}, nil)
	f.fine(f.do(t.Context(), some(0, 1)))
	for n := 1; len(said) == 0; n++ { // it may be made again before it is missed
		require.NoError(t, f.queue.conn.RemoveStream(t.Context(), f.queue.names.jobs()))
		f.fine(f.do(t.Context(), some(n, 1)))
	}
	require.Contains(t, <-said, "jobs wait for the farm's server: ")
}

// A job that the server hands to nobody though workers ask for jobs is submitted again.
func TestSilence(t *testing.T) {
	f := newFarm(t)
	f.queue.AckWait = 300 * time.Millisecond
	done := make(chan []error, 1)
	go func() { done <- f.do(t.Context(), some(0, 1)) }()
	f.joined()
	d, err := f.queue.conn.Next(t.Context(), f.queue.names.jobs(), f.queue.charter.class(), 10*time.Second)
	require.NoError(t, err)
	f.work(&fake{}, nil)
	for {
		select {
		case errs := <-done:
			f.fine(errs)
			return
		case <-time.After(50 * time.Millisecond): // as if the server thought so
			require.NoError(t, d.Working())
		}
	}
}

// On a server that is there already searches do not see each other, and leave little behind.
func TestForeignServer(t *testing.T) {
	keys := t.TempDir()
	require.NoError(t, bus.MakeKeys(keys))
	s, err := bus.Serve(bus.ServerConfig{Host: "127.0.0.1", Keys: keys, Store: t.TempDir(), Publish: []string{">"},
		Subscribe: []string{">"}, Quick: true})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	farms := []*farm{newFarm(t), newFarm(t)}
	for i, f := range farms {
		f.queue.At, f.queue.Keys = fmt.Sprintf("tls://127.0.0.1:%d", s.Port()), keys
		e := &fake{}
		stop := f.work(e, func(w *Worker) { w.Keys = filepath.Join(keys, bus.KeysFolder) })
		f.fine(f.do(t.Context(), some(0, 3)))
		require.Equal(t, 3, e.total(), "those of the other do not count")
		require.Contains(t, f.joined(), string(f.queue.names))
		if i == 0 {
			continue
		}
		admin, err := Open(t.Context(), f.dir)
		require.NoError(t, err)
		status, err := admin.Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, status.Results)
		admin.Close()
		require.NoError(t, f.queue.End(t.Context()))
		require.NoError(t, stop())
	}
	owner, err := bus.Owner(keys)
	require.NoError(t, err)
	c, err := bus.Dial(t.Context(), farms[0].queue.At, "test", owner, nil)
	require.NoError(t, err)
	defer c.Close()
	_, _, err = c.Count(t.Context(), farms[0].queue.names.results())
	require.NoError(t, err)
	_, _, err = c.Count(t.Context(), farms[1].queue.names.results())
	require.Error(t, err)
}

// Workers that were told the file of a coordinator follow it to another address; what they have trained meanwhile is
// not lost.
func TestMoved(t *testing.T) {
	f := newFarm(t)
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	e := &fake{hook: func(context.Context, trained.Job) error { begun <- struct{}{}; <-hold; return nil }}
	f.work(e, func(w *Worker) { w.Join, w.Keys = filepath.Join(f.dir, JoinName), "" })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []error, 1)
	go func() { done <- f.do(ctx, some(0, 1)) }()
	<-begun
	cancel()
	require.ErrorIs(t, (<-done)[0], context.Canceled)
	require.NoError(t, f.queue.Close())
	f.open() // at whatever address
	f.queue.At = "127.0.0.1:0"
	go func() { done <- f.do(t.Context(), some(0, 1)) }()
	time.AfterFunc(500*time.Millisecond, func() { close(hold) })
	f.fine(<-done)
	require.Equal(t, 1, e.total())
	err := Work(t.Context(), Worker{Join: filepath.Join(t.TempDir(), "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A job is of the smallest class of GPUs that have room for it; on processors there is one class.
func TestMemories(t *testing.T) {
	j := some(0, 1)[0]
	j.Memory = 500 << 30
	require.Zero(t, memoryOf(j))
	j.Key.Level = "sm_90/bf16"
	for needs, want := range map[int64]int{0: 16, 14 << 30: 16, 15 << 30: 24, 30 << 30: 40, 74 << 30: 80,
		131 << 30: 140, 500 << 30: 140} {
		j.Memory = needs
		require.Equal(t, want, memoryOf(j), "%d GiB", needs>>30)
	}
	c := Charter{Terms: j.Terms(), Memories: []int{80, 16, 140}}
	of := func(list ...int) (names []string) {
		for _, memory := range list {
			names = append(names, c.classIn(memory))
		}
		return names
	}
	for gib, want := range map[float64][]string{139.8: of(140, 80, 16), 79.1: of(80, 16), 47.5: of(16), 11: of(16),
		0: of(140, 80, 16)} {
		require.Equal(t, want, c.classesFor(int64(gib*(1<<30))), "%g GiB", gib)
	}
	c.Level = "avx2"
	require.Equal(t, []string{c.class()}, c.classesFor(0))
}

// Jobs go to GPUs that have the memory for them, and the status says of which size none is there. A coordinator that
// comes again finds what was queued.
func TestMemoryClasses(t *testing.T) {
	f := newFarm(t)
	var jobs []trained.Job
	for i, gib := range []int64{1, 60, 1, 60, 1, 30} {
		j := some(i, 1)[0]
		j.Key.Level, j.Memory = "sm_90/bf16", gib<<30
		jobs = append(jobs, j)
	}
	with := func(e *fake, gib int64) func() error {
		return f.work(e, func(w *Worker) {
			w.Executor = func(context.Context, Charter) (Fitted, error) {
				fit := Fit(e, "sm_90/bf16", 1, nil)
				fit.Memory = gib << 30
				return fit, nil
			}
		})
	}
	small, large := &fake{}, &fake{}
	with(small, 24)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan []error, 1)
	go func() { done <- f.do(ctx, jobs) }()
	f.joined()
	var s Status
	waiting := func(want ...Waiting) {
		t.Helper()
		require.Eventually(t, func() bool {
			admin, err := Open(t.Context(), f.dir)
			if err != nil {
				return false
			}
			defer admin.Close()
			s, err = admin.Status(t.Context())
			slices.SortFunc(s.Waiting, func(a, b Waiting) int { return a.Memory - b.Memory })
			return err == nil && slices.Equal(want, s.Waiting)
		}, 20*time.Second, 20*time.Millisecond)
	}
	waiting(Waiting{1, 40}, Waiting{2, 80})
	require.Eventually(t, func() bool { return small.total() == 3 }, 20*time.Second, 5*time.Millisecond)
	cancel()
	<-done
	f.reopen(func() {})
	go func() { done <- f.do(t.Context(), jobs) }()
	waiting(Waiting{1, 40}, Waiting{2, 80})
	with(large, 79)
	f.fine(<-done)
	waiting()
	require.Equal(t, []int{3, 3}, []int{small.total(), large.total()})
}

func TestAddress(t *testing.T) {
	for _, good := range []string{":7420", "10.0.0.5:7420", "[::1]:7420", "host:0", "nats://127.0.0.1:4222",
		"tls://host:4222", "tls://host:4222/"} {
		require.NoError(t, CheckAddress(good), good)
	}
	for _, bad := range []string{"", "host", "host:x", "host:70000", "http://host:1", "nats://host:4222", "tls://",
		"tls://host:1/x"} {
		require.Error(t, CheckAddress(bad), bad)
	}
}

// A store that was spoiled, whatever of it, is no more than one that was lost.
func TestSpoiledStore(t *testing.T) {
	cases := 1
	if testdata.All() {
		cases = 5
	}
	for range cases {
		seed := rand.Uint64()
		t.Log("seed", seed)
		f := newFarm(t)
		e := &fake{}
		f.work(e, nil)
		f.fine(f.do(t.Context(), some(0, 8)))
		r := rand.New(rand.NewPCG(seed, 1))
		spoiled := 0
		f.reopen(func() {
			require.NoError(t, filepath.WalkDir(filepath.Join(f.dir, "store"),
				func(path string, d os.DirEntry, err error) error {
					if err != nil || d.IsDir() || r.IntN(2) == 0 {
						return err
					}
					spoiled++
					text, err := os.ReadFile(path)
					require.NoError(t, err)
					switch r.IntN(3) {
					case 0: // cut off
						text = text[:r.IntN(len(text)+1)]
					case 1: // zeros, as a file system leaves them
						clear(text[r.IntN(len(text)+1):])
					default:
						for i := range text {
							text[i] ^= byte(r.IntN(256))
						}
					}
					return os.WriteFile(path, text, 0o600)
				}))
		})
		require.Positive(t, spoiled)
		f.fine(f.do(t.Context(), some(4, 8)))
		require.NoError(t, f.queue.End(t.Context()))
	}
}

// A worker that ends when it is idle does not wait for a server with a result: it is kept, and sent by the next one.
func TestIdleWithAResult(t *testing.T) {
	f := newFarm(t)
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	slow := &fake{hook: func(context.Context, trained.Job) error { begun <- struct{}{}; <-hold; return nil }}
	work, end := t.TempDir(), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	jobs, done := some(0, 1), make(chan []error, 1)
	go func() { done <- f.do(ctx, jobs) }()
	w := Worker{Join: f.joined(), Keys: filepath.Join(f.dir, bus.KeysFolder), Version: "this", Work: work,
		Idle: 500 * time.Millisecond, Tell: func(text string) { t.Log(text) },
		Executor: func(context.Context, Charter) (Fitted, error) { return Fit(slow, "level", 1, nil), nil }}
	go func() { end <- Work(t.Context(), w) }()
	<-begun
	cancel()
	require.ErrorIs(t, (<-done)[0], context.Canceled)
	f.reopen(func() {
		close(hold)
		require.NoError(t, <-end)
		require.FileExists(t, filepath.Join(work, "spool", f.queue.charter.Search, jobs[0].Name()+".json"))
	})
	e := &fake{}
	f.work(e, func(w *Worker) { w.Work = work })
	f.fine(f.do(t.Context(), append(some(1, 1), jobs...)))
	require.Equal(t, 1, e.total())
}

// Of a worker's number of jobs those do not count that it hands back.
func TestJobsThatAreHandedBack(t *testing.T) {
	f := newFarm(t)
	var failed atomic.Bool
	e := &fake{hook: func(context.Context, trained.Job) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("out of luck")
		}
		return nil
	}}
	stop := f.work(e, func(w *Worker) {
		w.Jobs = 2
		w.Executor = func(context.Context, Charter) (Fitted, error) { return Fit(e, "level", 1, nil), nil }
	})
	f.fine(f.do(t.Context(), some(0, 2)))
	require.NoError(t, stop())
	require.Equal(t, 3, e.total())
}

// A job that the server never will take is refused, and one whose result is such fails.
func TestTooLarge(t *testing.T) {
	f := newFarm(t)
	jobs := some(0, 3)
	jobs[0].Space = strings.Repeat("x", 1<<20)
	e := &fake{wrong: func(r *trained.Record) {
		if r.Key.Arch == "arch1" {
			r.Diverged = strings.Repeat("x", 1<<20)
		}
	}}
	f.work(e, nil)
	errs := f.do(t.Context(), jobs)
	require.ErrorContains(t, errs[0], "candidate arch0 with seed 1: as a job for the farm's server it is larger than")
	require.ErrorContains(t, errs[1], "as a result for the farm's server it is larger than")
	require.NoError(t, errs[2])
}

// A result that the server has and cannot read is removed, and the job done again.
func TestUnreadableResult(t *testing.T) {
	f := newFarm(t)
	e := &fake{}
	f.work(e, nil)
	jobs := some(0, 3)
	for _, j := range jobs { // one after the other
		f.fine(f.do(t.Context(), []trained.Job{j}))
	}
	spoiled := 0
	f.reopen(func() {
		paths, err := filepath.Glob(filepath.Join(f.dir, "store/jetstream/*/streams/RESULTS_*/msgs/*.blk"))
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			if at := bytes.Index(text, []byte(`"arch":"arch0"`)); at >= 0 {
				spoiled++
				text[at+10] ^= 1
				require.NoError(t, os.WriteFile(path, text, 0o600))
			}
		}
	})
	require.Equal(t, 1, spoiled)
	said := make(chan string, 99)
	f.queue.Tell = func(text string) { said <- text }
	f.fine(f.do(t.Context(), jobs))
	require.Contains(t, <-said, "cannot read")
	require.GreaterOrEqual(t, e.total(), 5, "done, not kept, and done again")
	require.Empty(t, said)
	f.reopen(func() {})
	before := e.total()
	f.fine(f.do(t.Context(), jobs[:1]))
	require.Equal(t, before, e.total(), "the server has it")
}

// Who reads news slowly, or not at all, holds up nobody else: more is told than is kept, and results come all the same.
func TestASlowReader(t *testing.T) {
	f := newFarm(t)
	jobs := some(0, 4)
	reading, release, read := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		_, err := f.trainings(f.queue).Do(t.Context(), jobs[0], func(job.Notice) {
			if first {
				first = false
				close(reading)
				<-release
			}
		})
		read <- err
	}()
	f.joined()
	stop := f.work(&fake{says: 10_000}, nil)
	<-reading
	f.fine(f.do(t.Context(), jobs[1:]))
	close(release)
	require.NoError(t, <-read)
	require.NoError(t, f.queue.End(t.Context()))
	require.NoError(t, stop())
}
