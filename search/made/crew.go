package made

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"sync"

	"github.com/ctnas/ctnas/search/space"
)

// training is one of a submission.
type training[J any] struct {
	arch   space.Arch
	job    J
	number int  // in the log
	failed bool // it is known to fail
}

// submission is trainings that were asked for together.
type submission[J any] struct {
	first     int // how many were asked for before
	trainings []training[J]
	made      [][]Outcome // by architecture and seed
	outer     context.Context
	ctx       context.Context
	end       context.CancelCauseFunc // of all of them
	left      sync.WaitGroup          // those that have not ended

	// What follows is guarded by the maker's mu.
	done   int
	waited bool // somebody waits for them
}

// submit begins to have candidates trained, or to take what was made, after so many trainings that were asked for
// before. known returns of architecture i with seed k where it ends, and whether it is known to fail. When one fails
// the others are ended.
func (m *Maker[J, R]) submit(ctx context.Context, first int, archs []space.Arch,
	known func(i, k int) (ends []float64, failed bool)) *submission[J] {
	x := &submission[J]{first: first, made: make([][]Outcome, len(archs)), outer: ctx}
	x.ctx, x.end = context.WithCancelCause(ctx)
	for i, a := range archs {
		x.made[i] = make([]Outcome, m.how.Seeds)
		for k := range m.how.Seeds {
			ends, failed := known(i, k)
			x.trainings = append(x.trainings,
				training[J]{a, m.how.Job(a, k, ends), first + len(x.trainings) + 1, failed})
		}
	}
	x.left.Add(len(x.trainings))
	m.crew.put(x, m)
	return x
}

// wait returns the outcomes of a submission when all of its trainings have ended.
func (m *Maker[J, R]) wait(x *submission[J]) ([][]Outcome, error) {
	m.attend(x, true)
	x.left.Wait()
	m.attend(x, false)
	err := context.Cause(x.ctx)
	x.end(nil)
	switch {
	case x.done == len(x.trainings): // whatever came then
		return x.made, nil
	case x.outer.Err() != nil && errors.Is(err, context.Canceled):
		return nil, x.outer.Err()
	}
	return nil, err
}

// attend tells of a submission as long as somebody waits for it.
func (m *Maker[J, R]) attend(x *submission[J], waited bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x.waited = waited
	if waited && x.done > 0 && m.progress != nil {
		m.progress(x.done, len(x.trainings))
	}
}

// Queued is how many trainings wait for their turn.
func (m *Maker[J, R]) Queued() int {
	m.crew.mu.Lock()
	defer m.crew.mu.Unlock()
	return len(m.crew.queue)
}

// crew has trainings done by a maker's executor, as many at once as keep it busy: first those of the submission that
// came first, and of one submission those that take longest, so that none of them is alone at its end.
type crew[J Job[R], R any] struct {
	mu    sync.Mutex
	queue []task[J] // in that order
	hands int       // goroutines that take from it
	most  int       // of them
}

// task is a training of a submission, by its number.
type task[J any] struct {
	of *submission[J]
	n  int
}

// put puts a submission into the queue.
func (c *crew[J, R]) put(x *submission[J], m *Maker[J, R]) {
	tasks := make([]task[J], len(x.trainings))
	for n := range tasks {
		tasks[n] = task[J]{x, n}
	}
	slices.SortStableFunc(tasks, func(a, b task[J]) int {
		return cmp.Compare(x.trainings[b.n].job.Size(), x.trainings[a.n].job.Size())
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hands == 0 && len(tasks) > 0 {
		c.most = m.how.Executor.Capacity(len(tasks))
	}
	// What is recalled goes before what is pending.
	at := sort.Search(len(c.queue), func(i int) bool { return c.queue[i].of.first > x.first })
	c.queue = slices.Insert(c.queue, at, tasks...)
	for range min(len(c.queue), c.most-c.hands) {
		c.hands++
		go c.work(m)
	}
}

// work does what is in the queue until it is empty.
func (c *crew[J, R]) work(m *Maker[J, R]) {
	for {
		t, ok := c.next()
		if !ok {
			return
		}
		m.do(t)
	}
}

func (c *crew[J, R]) next() (t task[J], ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.hands--
		return t, false
	}
	t, c.queue = c.queue[0], c.queue[1:]
	return t, true
}

// do has a training done, unless its submission has ended.
func (m *Maker[J, R]) do(t task[J]) {
	x := t.of
	defer x.left.Done()
	if x.ctx.Err() != nil {
		return
	}
	o, where, err := m.candidate(x.ctx, x.trainings[t.n])
	if err != nil {
		x.end(err)
		return
	}
	x.made[t.n/m.how.Seeds][t.n%m.how.Seeds] = o
	m.tell(x, x.trainings[t.n], o, where)
}
