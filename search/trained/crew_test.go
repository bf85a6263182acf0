package trained

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/job"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// far has jobs done by another source's Local, as many at once as it says, and remembers when they began.
type far struct {
	*Local
	places int
	here   Cache
	gate   func(ctx context.Context, j Job) error // before a job is done; may be nil

	mu    sync.Mutex
	begun []Job
}

func (f *far) Capacity(int) int { return f.places }

func (f *far) Do(ctx context.Context, j Job, tell func(job.Notice)) (*Record, error) {
	f.mu.Lock()
	f.begun = append(f.begun, j)
	f.mu.Unlock()
	if f.gate != nil {
		if err := f.gate(ctx, j); err != nil {
			return nil, err
		}
	}
	r, err := f.Local.Do(ctx, j, tell)
	if err != nil {
		return nil, err
	}
	return r, f.here.Put(r)
}

// elsewhere is a source whose trainings a far executor does.
func elsewhere(t *testing.T, images, query string, places int) (*Source, *far) {
	there := tiny(t, images, query, nil)
	there.local.train = (&fake{}).train
	there.local.Capacity(there.Workers)
	f := &far{Local: there.local, places: places}
	s := tiny(t, images, query, func(c *Config) {
		c.Elsewhere, c.Level = func(here Cache) Executor { f.here = here; return f }, there.level
	})
	return s, f
}

// shuffled are distinct cells in a random order.
func shuffled(t *testing.T, n int) []space.Arch {
	archs := slices.Clone(cells(t, 60))
	rand.Shuffle(len(archs), func(i, j int) { archs[i], archs[j] = archs[j], archs[i] })
	return archs[:n]
}

// The longest trainings of a submission are begun first, on this machine as elsewhere, and those of an earlier
// submission before those of a later one, however much longer they are; the answers keep the order of the requests.
func TestTheLongestAreBegunFirst(t *testing.T) {
	images, archs := testdata.Images(t), shuffled(t, 30)
	s, f := elsewhere(t, images, "", 1)
	first := make(chan struct{})
	f.gate = func(ctx context.Context, _ Job) error { // until both submissions are there
		<-first
		return ctx.Err()
	}
	one := s.Submit(t.Context(), 0, 0, archs[:15])
	two := s.Submit(t.Context(), 0, 15, archs[15:])
	close(first)
	values, err := one()
	require.NoError(t, err)
	more, err := two()
	require.NoError(t, err)
	require.Len(t, f.begun, 30)
	for i := range f.begun[1:] {
		if i+1 != 15 {
			require.GreaterOrEqual(t, f.begun[i].Work, f.begun[i+1].Work)
		}
		require.Equal(t, i < 15, slices.ContainsFunc(archs[:15], func(a space.Arch) bool {
			return a.String() == f.begun[i].Key.Arch
		}))
	}
	require.Less(t, f.begun[14].Work, f.begun[15].Work)

	here := tiny(t, images, "", func(c *Config) { c.Workers = 1 })
	trainings := &fake{}
	here.local.train = trainings.train
	alone, err := here.Label(t.Context(), archs[:15])
	require.NoError(t, err)
	require.Equal(t, alone, values)
	next, err := here.Label(t.Context(), archs[15:])
	require.NoError(t, err)
	require.Equal(t, next, more)
	for i, dir := range trainings.dirs {
		require.Equal(t, here.cache.base(f.begun[i].Key), dir)
	}
}

// What is recalled, for whoever goes on with a search, does not wait for what was submitted and comes later.
func TestWhatIsRecalledGoesFirst(t *testing.T) {
	images, archs := testdata.Images(t), shuffled(t, 12)
	s, f := elsewhere(t, images, "", 1)
	recalling := make(chan struct{})
	f.gate = func(ctx context.Context, _ Job) error {
		select {
		case <-recalling:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	later := s.Submit(t.Context(), 0, 6, archs[6:])
	go func() {
		for s.Queued() < 6+5 {
			runtime.Gosched()
		}
		close(recalling)
	}()
	var labels []ledger.Label
	for _, a := range archs[:6] {
		labels = append(labels, ledger.Label{Arch: a})
	}
	for s.Queued() == 6 {
		runtime.Gosched() // one of the later ones has begun
	}
	require.NoError(t, s.Recall(t.Context(), labels))
	_, err := later()
	require.NoError(t, err)
	for i, j := range f.begun {
		require.Equal(t, i >= 1 && i <= 6, slices.ContainsFunc(archs[:6], func(a space.Arch) bool {
			return a.String() == j.Key.Arch
		}))
	}
}

// Trainings of a later submission are at work before those of an earlier one have ended: these end here only when one
// of the next has begun. What they are worth is what they would be if all of the earlier had been slower or faster.
func TestSubmissionsOverlap(t *testing.T) {
	images, archs := testdata.Images(t), shuffled(t, 45)
	const query = "&stop=median&stop-after=2"
	sizes := []int{0, 15, 30, 45}
	ask := func(s *Source) (values []float64, notes []ledger.Note) {
		label := func(wait func() ([]float64, error)) {
			got, err := wait()
			require.NoError(t, err)
			values = append(values, got...)
		}
		submit := func(i int) func() ([]float64, error) {
			return s.Submit(t.Context(), min(sizes[i], sizes[1]), sizes[i], archs[sizes[i]:sizes[i+1]])
		}
		label(submit(0))
		one, two := submit(1), submit(2) // by the rule of the first, both
		label(one)
		label(two)
		for _, a := range archs {
			notes = append(notes, s.Note(a))
		}
		return values, notes
	}
	s, f := elsewhere(t, images, query, 16)
	next := make(chan struct{})
	begin := sync.OnceFunc(func() { close(next) })
	f.gate = func(ctx context.Context, j Job) error {
		switch i := slices.IndexFunc(archs, func(a space.Arch) bool { return a.String() == j.Key.Arch }); {
		case i < sizes[1]:
			return nil
		case i >= sizes[2]:
			begin()
		}
		select {
		case <-next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	want, notes := ask(s)
	require.True(t, slices.ContainsFunc(notes[15:30], func(n ledger.Note) bool { return n.Stopped != nil }))
	require.True(t, slices.ContainsFunc(notes[30:], func(n ledger.Note) bool { return n.Stopped != nil }))
	for _, workers := range []int{1, 3} {
		local := tiny(t, images, query, func(c *Config) { c.Workers = workers })
		local.local.train = (&fake{}).train
		got, said := ask(local)
		require.Equal(t, want, got)
		require.Equal(t, notes, said)

		// Gone on with when more is known than was at first.
		var labels []ledger.Label
		for i, a := range archs[:30] {
			labels = append(labels, ledger.Label{Arch: a, Note: notes[i]})
		}
		late := tiny(t, images, query, func(c *Config) { c.Workers = workers })
		late.local.train = (&fake{}).train
		require.NoError(t, late.Recall(t.Context(), labels))
		got, err := late.Submit(t.Context(), 15, 30, archs[30:])()
		require.NoError(t, err)
		require.Equal(t, want[30:], got)
	}
}

// A submission that is ended leaves the others alone, and one that fails says why.
func TestASubmissionEndsByItself(t *testing.T) {
	images, archs := testdata.Images(t), shuffled(t, 12)
	s := tiny(t, images, "", func(c *Config) { c.Retries = 0 })
	s.local.train = (&fake{fails: map[string]int{archs[1].String(): 1}}).train
	ctx, stop := context.WithCancel(t.Context())
	failing := s.Submit(t.Context(), 0, 0, archs[:4])
	ended := s.Submit(ctx, 0, 4, archs[4:8])
	whole := s.Submit(t.Context(), 0, 8, archs[8:])
	stop()
	values, err := whole()
	require.NoError(t, err)
	require.Len(t, values, 4)
	_, err = failing()
	require.ErrorContains(t, err, "the device fell off the bus")
	if _, err = ended(); err != nil { // it may have been done by then
		require.ErrorIs(t, err, context.Canceled)
	}
	again, err := s.Label(t.Context(), archs[:8])
	require.NoError(t, err)
	require.Len(t, again, 8)
}
