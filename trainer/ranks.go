package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
	"github.com/ctnas/ctnas/kernels/optim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// A batch is trained on in shards: equal parts of it, each with batch norms of its own ("ghost batches", Hoffer et al.
// 2017), whose gradients, losses and running statistics are added up in the order of a balanced tree. Ranks are devices
// that divide the shards of every batch among them. Each rank holds all parameters and makes the same update of them.
// What comes out depends on the number of shards, and not on that of ranks: a rank's shards are an aligned part of the
// tree.

// rank is a device's part of a training.
type rank struct {
	number   int
	dev      *exec.Device
	name     string
	params   *Parameters
	o        *optimizer
	more     []*exec.Buffer // what else updates change
	sharding *sharding      // nil: a batch is one shard
	free     func()         // what it holds beside its device
	beside   *beside        // nil: sums come after the shards
}

// adding adds up what the shards leave that a rank trains on, one after the other, 2^k of them.
type adding struct {
	whole []*exec.Buffer // where each leaves it
	// keep puts what was added up so far aside, of 2^k shards, and add adds it, as what came first.
	keep, add []*exec.Program
}

// newAdding adds up what so many shards leave in buffers of an arena's device.
func newAdding(a *exec.Arena, shards int, whole ...*exec.Buffer) adding {
	s := adding{whole: whole}
	for n := 1; n < shards; n *= 2 {
		keep, add := a.NewProgram("keep_shards"), a.NewProgram("add_shards")
		for _, b := range whole {
			kept := a.Zeros(b.Len())
			recordSum(keep, kept, nil, b)
			recordSum(add, b, nil, kept, b)
		}
		s.keep, s.add = append(s.keep, keep), append(s.add, add)
	}
	return s
}

// recordSum appends the sum of buffers, times a number on the device unless that is nil.
func recordSum(p *exec.Program, out *exec.Buffer, scale *exec.Buffer, terms ...*exec.Buffer) *exec.Program {
	sum := elementwise.Sum{Out: out}
	for _, z := range terms {
		in := tensor.Input{Shape: flat(tensor.Shape{N: 1, H: out.Len(), W: 1, C: 1}), Z: z}
		sum.Terms = append(sum.Terms, elementwise.Term{In: in, Scalar: scale})
	}
	sum.Record(p)
	return p
}

// took comes after a shard, from 0: what it has left joins what the shards before have. After the last one it is their
// sum.
func (s *adding) took(shard int) {
	level := 0
	for ; shard>>level&1 == 1; level++ {
		s.add[level].Run(1)
	}
	if level < len(s.keep) {
		s.keep[level].Run(1)
	}
}

// sharding adds up the shards that a rank trains on: their gradients and running statistics, and what else there is.
type sharding struct {
	adding
	buckets []adding // of parts of the gradient that are whole earlier, in that order
	// begin remembers the running statistics before a batch, again goes back to them for its next shard; nil where
	// there are none. end divides their sum by the number of shards.
	begin, again, end *exec.Program
	// Several steps an update: first keeps the gradient of the first of them, more adds the others'.
	first, more *exec.Program
	norm        *exec.Program // of the whole gradient
}

// newSharding adds up what each of a batch's shards leaves, of which a rank trains on some: the gradient and the
// running statistics of parameters, and what else there is. Segments of the step that leaves them say which parts of
// the gradient are whole when they begin. steps is how many are made an update, clip the limit of the gradient's
// 2-norm.
func newSharding(m *Parameters, segments []segment, all, mine, steps int, clip float64,
	more ...*exec.Buffer) *sharding {
	a := m.store
	s, to := &sharding{norm: a.NewProgram("norm")}, m.Params
	for _, part := range segments {
		s.buckets = append(s.buckets, newAdding(a, mine, m.Grad.Slice(part.whole, to-part.whole)))
		to = part.whole
	}
	whole := append(more, m.Grad.Slice(0, to))
	if statistics := m.State.Slice(m.Params, m.State.Len()-m.Params); statistics.Len() > 0 {
		before := a.Zeros(statistics.Len())
		s.begin = recordSum(a.NewProgram("begin_shards"), before, nil, statistics)
		s.again = recordSum(a.NewProgram("next_shard"), statistics, nil, before)
		s.end = recordSum(a.NewProgram("mean_of_shards"), statistics, a.Floats([]float32{1 / float32(all)}), statistics)
		whole = append(whole, statistics)
	}
	s.adding = newAdding(a, mine, whole...)
	if steps > 1 {
		total := a.Zeros(m.Grad.Len())
		s.first = recordSum(a.NewProgram("first_step"), total, nil, m.Grad)
		s.more = recordSum(recordSum(a.NewProgram("more_steps"), m.Grad, nil, total, m.Grad), total, nil, m.Grad)
	}
	optim.RecordNorm(s.norm, optim.Norm{G: m.Grad, Max: clip, Out: m.Norm})
	return s
}

// next comes before a rank's shard, from 0.
func (s *sharding) next(shard int) {
	switch {
	case s.begin == nil:
	case shard == 0:
		s.begin.Run(1)
	default:
		s.again.Run(1)
	}
}

// finish makes an update's gradient, or what is there after step `part` of it, of the sum over all ranks.
func (s *sharding) finish(part int) {
	if s.end != nil {
		s.end.Run(1)
	}
	switch {
	case s.first == nil:
	case part == 0:
		s.first.Run(1)
	default:
		s.more.Run(1)
	}
	s.norm.Run(1)
}

// places are the devices of a training: those of its configuration, or the processor's threads divided into so many
// executors.
func (d Deps) places() []exec.Config {
	all := d.Device.Each()
	if len(all) > 1 || d.Ranks < 2 {
		return all
	}
	all[0].Threads = max(1, threadsOf(all[0])/d.Ranks)
	return slices.Repeat(all, d.Ranks)
}

// threadsOf is how many threads an executor has.
func threadsOf(c exec.Config) int { return cmp.Or(c.Threads, runtime.GOMAXPROCS(0)) }

// Devices is on how many devices a training computes.
func (d Deps) Devices() int { return len(d.places()) }

// Fitting is how many of so many devices a training can use: the most that can divide its shards among them.
func (l Length) Fitting(devices int) int {
	most := 1
	for n := 1; n <= min(devices, l.parts()); n *= 2 {
		most = n
	}
	return most
}

// CheckRanks tells what is wrong with training by a recipe on so many devices.
func (r Recipe) CheckRanks(devices int) error {
	shards := r.parts()
	if shards%devices == 0 {
		return nil
	}
	fit := ""
	for n := 2; n <= mostShards && fit == ""; n *= 2 {
		if n%devices == 0 && r.Batch%n == 0 {
			fit = fmt.Sprintf(", or --shards %d", n)
		}
	}
	return fmt.Errorf("shards %d: %d devices cannot divide a batch of %d shards among them: want %d of them%s "+
		"(results depend on shards, not on devices)", r.Shards, devices, shards, r.Fitting(devices), fit)
}

// parts is the number of shards of a batch, at least 1.
func (l Length) parts() int { return max(1, l.Shards) }

// openRanks opens the devices, and has put what is trained on each. shards are those of all of them and of each. The
// first rank's device and optimizer are the course's.
func (c *course) openRanks(put func(k *rank, all, mine int) error) error {
	places := c.places()
	_, nodes := c.node()
	if err := c.Recipe.CheckRanks(nodes * len(places)); err != nil {
		return err
	}
	shards := c.Recipe.parts()
	if c.Recipe.SyncBN && shards > 1 {
		places = apart(places, shards/(nodes*len(places)))
		c.meeting = newMeeting(len(places), c.Nodes)
	}
	for i, place := range places {
		dev, err := exec.Open(place)
		if err != nil {
			return err
		}
		k := &rank{number: i, dev: dev, name: fmt.Sprintf("%s, rank %d", place.Device, i), free: func() {}}
		c.ranks, c.devices = append(c.ranks, k), append(c.devices, cmp.Or(place.Device, "cpu"))
		if first := c.ranks[0].dev; dev.Level() != first.Level() {
			return fmt.Errorf("%s is %s and %s is %s: what a batch leaves would depend on which is which",
				places[0].Device, first.Level(), place.Device, dev.Level())
		}
		if err := put(k, shards, shards/(nodes*len(places))); err != nil {
			return err
		}
		if k.o, err = newOptimizer(k.params, c.Recipe.Optimization); err != nil {
			return err
		}
	}
	c.dev, c.o = c.ranks[0].dev, c.ranks[0].o
	return c.prepareSums()
}

// prepareSums prepares what adds up what the ranks have of their shards.
func (c *course) prepareSums() (err error) {
	if c.ranks[0].sharding != nil {
		c.sums, err = c.sumsOf(func(_ int, k *rank) []*exec.Buffer { return k.sharding.whole })
	}
	return err
}

// sumsOf are the sums over all ranks of buffers, in each of which every rank has its part.
func (c *course) sumsOf(whole func(i int, k *rank) []*exec.Buffer) (sums []*group.Sum, err error) {
	defer exec.Catch(&err)
	var arenas []*exec.Arena
	for _, k := range c.ranks {
		arenas = append(arenas, k.params.store)
	}
	for n := range whole(0, c.ranks[0]) {
		var all []*exec.Buffer
		for i, k := range c.ranks {
			all = append(all, whole(i, k)[n])
		}
		sums = append(sums, group.NewSum(arenas, all, c.beyond()))
	}
	return sums, nil
}

// runSums leaves sums over all ranks on each.
func runSums(sums []*group.Sum) error {
	for _, s := range sums {
		if err := s.Run(); err != nil {
			return err
		}
	}
	return nil
}

// meets is where a rank's models exchange the sums of their batch norms; nil: these are over a shard.
func (c *course) meets(k *rank) *place {
	if c.meeting == nil {
		return nil
	}
	return &place{c.meeting, k.number}
}

// beyond adds to what this node has of a sum what the other nodes do; nil: there are none.
func (c *course) beyond() func(values []float32) error {
	if c.Nodes == nil {
		return nil
	}
	return c.Nodes.Sum
}

// portion is a node's part of the shards of a batch: of all, each of its ranks has some, behind those of other nodes.
type portion struct{ all, each, before int }

// portion is this node's.
func (c *course) portion() portion {
	me, nodes := c.node()
	s := portion{all: c.Recipe.parts()}
	s.each = s.all / (nodes * len(c.ranks))
	s.before = me * len(c.ranks) * s.each
	return s
}

// settle waits for what is enqueued on a rank's device: another one may be about to copy from its memory, or to write
// there. What has failed close tells.
func (k *rank) settle() {
	wait := func(d *exec.Device) {
		var failed error
		defer exec.Catch(&failed)
		d.Sync()
	}
	wait(k.dev)
	if k.beside != nil {
		wait(k.beside.dev)
	}
}

// close gives a rank's device back.
func (k *rank) close() error {
	var errs [2]error
	if k.beside != nil {
		errs[0] = giveBack(k.beside.arena.Free, k.beside.dev)
	}
	errs[1] = giveBack(k.free, k.dev)
	return errors.Join(errs[:]...)
}

// giveBack closes a device, of which free frees what is held.
func giveBack(free func(), d *exec.Device) (err error) {
	defer exec.Catch(&err)
	free()
	d.Close()
	return nil
}

// buffers are what a rank's next updates depend on.
func (k *rank) buffers() []*exec.Buffer {
	all := append([]*exec.Buffer{k.params.State}, k.o.moments...)
	if k.o.mean != nil {
		all = append(all, k.o.mean)
	}
	return append(all, k.more...)
}

// each does something on every rank at the same time.
func (c *course) each(do func(i int, k *rank) error) error {
	return exec.Each(len(c.ranks), func(i int) error { return do(i, c.ranks[i]) })
}

// spread gives every rank what the first one has.
func (c *course) spread() error {
	if len(c.ranks) == 1 {
		return nil
	}
	var values [][]float32
	for _, b := range c.ranks[0].buffers() {
		values = append(values, b.Values())
	}
	updates := make([]int32, 1)
	c.o.updates.ReadI32(0, updates)
	return c.each(func(i int, k *rank) error {
		if i == 0 {
			return nil
		}
		for n, b := range k.buffers() {
			b.WriteF32(0, values[n])
		}
		k.o.updates.WriteI32(0, updates)
		return nil
	})
}

// agree tells whether all ranks have the same parameters and memories of gradients, as they must, those of other nodes
// too.
func (c *course) agree() error {
	if err := c.agreeRanks(); err != nil {
		return err
	}
	return c.agreeNodes()
}

func (c *course) agreeRanks() error {
	if len(c.ranks) == 1 {
		return nil
	}
	same := func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
	var first [][]float32
	for _, b := range c.ranks[0].buffers() {
		first = append(first, b.Values())
	}
	return c.each(func(i int, k *rank) error {
		for n, b := range k.buffers() {
			if i > 0 && !slices.EqualFunc(first[n], b.Values(), same) {
				return fmt.Errorf("after update %d %s has other weights than %s, though both made the same updates: "+
					"one of them does not compute the same thing twice", c.state.Update, k.name, c.ranks[0].name)
			}
		}
		return nil
	})
}

// overShards does something with each shard of the batch that a feed handed out last: each rank with its own, one after
// the other. It does that with rank i and shard number `shard` of the batch, of rank i its own number `mine`, whose
// images and labels are there.
func (c *course) overShards(f *feed, do func(i int, k *rank, shard, mine int) error) error {
	s := c.portion()
	return c.each(func(i int, k *rank) error {
		return c.meeting.watch(func() error {
			for mine := range s.each {
				f.place(i, mine)
				if err := do(i, k, s.before+i*s.each+mine, mine); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// sumShards is overShards, and leaves the sums of what do leaves, the gradient among them, on every rank.
func (c *course) sumShards(f *feed, do func(i int, k *rank, shard, mine int) error) error {
	err := c.overShards(f, func(i int, k *rank, shard, mine int) error {
		if k.sharding == nil {
			return do(i, k, shard, mine)
		}
		k.sharding.next(mine)
		if err := do(i, k, shard, mine); err != nil {
			return err
		}
		k.sharding.took(mine)
		return nil
	})
	if err != nil {
		return err
	}
	return runSums(c.sums)
}

// inShards trains on a batch, which is step `part` of an update, by sumShards.
func (c *course) inShards(part int, train func(i int, k *rank, shard, mine int) error) error {
	if err := c.sumShards(c.feed, train); err != nil || c.ranks[0].sharding == nil {
		return err
	}
	return c.each(func(_ int, k *rank) error {
		k.sharding.finish(part)
		return nil
	})
}

// inspectShards looks at the shards of a feed's latest batch one by one, by a function that looks at what a rank has.
// It returns the first thing that is found.
func (c *course) inspectShards(f *feed, look func(i int, k *rank, shard int) (string, error)) (where string,
	err error) {
	s := c.portion()
	for shard := range s.each * len(c.ranks) {
		i := shard / s.each
		f.place(i, shard%s.each)
		if where, err = look(i, c.ranks[i], s.before+shard); err != nil {
			return where, err
		} else if where != "" {
			break
		}
	}
	return c.firstFound(where)
}

// optimize makes the same update on every rank.
func (c *course) optimize(rate float64) error {
	return c.each(func(_ int, k *rank) error {
		k.o.update(rate)
		return nil
	})
}

// keepStatistics remembers the running statistics as they are, for restoreStatistics.
func (c *course) keepStatistics() error {
	return c.each(func(_ int, k *rank) error {
		k.params.KeepStatistics()
		return nil
	})
}

func (c *course) restoreStatistics() error {
	return c.each(func(_ int, k *rank) error {
		k.params.RestoreStatistics()
		return nil
	})
}

// averaged calls f with the average of weights in the place of the weights of every rank.
func (c *course) averaged(f func() error) error {
	for _, k := range c.ranks {
		inner := f
		f = func() error { return k.o.averaged(inner) }
	}
	return f()
}
