package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Position is a place in the sequence of batches: all the state that a loader has. A loader that starts at a position
// goes on exactly as one that reached it.
type Position struct {
	Epoch int `json:"epoch"`
	Batch int `json:"batch"` // of the epoch
}

// Config of a Loader.
type Config struct {
	Batch     int // images
	Transform Transform
	// Sides are what the images of a batch may be cut to instead of Transform.Size, which is the largest of them: each
	// batch has one, drawn by SideOf. nil: all have Transform.Size. With CropRandomResized.
	Sides []int
	Seed  uint64
	// Train visits the images in a new random order every epoch and leaves out those that do not fill a batch. Without
	// it the order is the set's and the last batch is smaller.
	Train  bool
	Epochs int      // where the sequence ends; 0: never
	Start  Position // of the first batch
	Mixup  float64  // alpha of mixup, 0: none; with Train
	Shards int      // equal parts of a batch within which images are mixed; 0 is 1
	// Part of Parts equal parts of every batch, from 0, is all that is drawn, with Train; the rest of Batch is left as
	// it was. Parts 0 is 1.
	Part, Parts int
	// Every is which of the batches are handed out, from Start on, of one epoch: every so many-th; 0 is 1.
	Every int
	// OnCorrupt says what becomes of an image that cannot be read. With Skip and Train it is replaced by the next one
	// of the epoch's order that can be, with Skip alone its place has label -1 and zeros, and Batch.Corrupt lists it;
	// otherwise the sequence ends with an UnreadableError.
	OnCorrupt OnCorrupt
	Workers   int // 0: as many as processors
	// Raw leaves all but reading and decoding to a device, by the operation of Loader.Regions: images come as bytes of
	// what their crops show, with what was drawn for them.
	Raw bool
	// Memory is where raw batches go, each in RawBytes bytes; as many batches are prepared or in use at the same time.
	// nil: the loader allocates three, as it does for others.
	Memory [][]byte

	levels bool // images are whole numbers from 0 to 255 instead of normalised ones
}

// Batch is what a network is fed with.
type Batch struct {
	Position
	N      int       // images; fewer than Config.Batch only at the end of an epoch without Train
	Side   int       // of its images, in pixels
	Images []float32 // Config.Batch x Side x Side x 3 (NHWC); zero behind the first N images; nil with Raw
	Raw    [][]byte  // with Config.Raw, of each shard: what Loader.Regions makes images of
	Labels []int32   // Config.Batch; -1 behind the first N
	// Mixup: image i is Weight of an image of class Labels[i] and 1-Weight of one of class Partners[i]. Weight is 1 and
	// Partners nil without mixup.
	Weight   float32
	Partners []int32
	// Corrupt are the images of the batch that could not be read, by number; nil without any. Split is empty.
	Corrupt []Corrupt
}

// Clone is a batch of the same that does not end with the next one.
func (b *Batch) Clone() *Batch {
	c := *b
	c.Images, c.Labels, c.Partners = slices.Clone(b.Images), slices.Clone(b.Labels), slices.Clone(b.Partners)
	c.Raw, c.Corrupt = slices.Clone(b.Raw), slices.Clone(b.Corrupt)
	for i, part := range c.Raw {
		c.Raw[i] = slices.Clone(part)
	}
	return &c
}

// Loader hands out batches that goroutines prepare ahead. Its methods are for one goroutine.
type Loader struct {
	set     *Set
	c       Config
	batches int // in an epoch
	next    Position
	held    *slot // the caller uses it
	waiting *slot // taken from ready, not filled yet when a caller's context ended
	err     error

	cancel  context.CancelFunc
	context context.Context
	running sync.WaitGroup
	free    chan *slot // to be filled; room for all
	work    chan task
	ready   chan *slot // in order, being filled or filled; room for all

	mu      sync.Mutex
	corrupt map[int]*UnreadableError // by number in the set: they are not read again
}

// slot is a batch that is used again and again.
type slot struct {
	batch   Batch
	memory  []float32         // batch.Images are its first; nil with Raw
	raw     []*kernel.Section // of each shard, with Raw
	images  []int32           // numbers in the set, of the epoch: images[from:] begin the batch
	from    int
	pending atomic.Int64
	done    chan struct{} // one signal a batch

	mu      sync.Mutex
	err     error
	errAt   int // place in the batch of err: the first one is reported, whoever found which first
	corrupt map[int]*UnreadableError
}

// task is some of the images of a batch: [from, to); with mixup some of the pairs, see Loader.pair.
type task struct {
	s        *slot
	from, to int
}

// NewLoader starts the workers. Close the loader after use.
func NewLoader(set *Set, c Config) (*Loader, error) {
	n := set.Len()
	switch {
	case n == 0:
		return nil, errors.New("the image set is empty")
	case c.Batch < 1 || c.Batch > 1<<20:
		return nil, fmt.Errorf("batches of %d images: want 1..%d", c.Batch, 1<<20)
	case c.Train && c.Batch > n:
		return nil, fmt.Errorf("batches of %d images of a set of %d", c.Batch, n)
	case !c.Train && c.Mixup != 0:
		return nil, errors.New("mixup is for training: it would change what is evaluated")
	case c.Shards < 0 || c.Shards > 1 && c.Batch%c.Shards != 0:
		return nil, fmt.Errorf("%d shards of batches of %d images", c.Shards, c.Batch)
	case c.Part < 0 || c.Part >= max(1, c.Parts) || c.Parts > 1 && (!c.Train || c.Batch%c.Parts != 0 ||
		c.Mixup > 0 && max(1, c.Shards)%c.Parts != 0):
		return nil, fmt.Errorf("part %d of %d of batches of %d images in %d shards", c.Part, c.Parts, c.Batch, c.Shards)
	case c.Every < 0 || c.Every > 1 && c.Epochs != c.Start.Epoch+1:
		return nil, fmt.Errorf("every %d batches of more than one epoch", c.Every)
	case !(c.Mixup >= 0 && c.Mixup <= 100):
		return nil, fmt.Errorf("mixup %g: want 0..100", c.Mixup)
	case c.Memory != nil && !c.Raw:
		return nil, errors.New("memory of raw batches for others")
	case c.Workers < 0 || c.Workers > 1024:
		return nil, fmt.Errorf("%d workers: want 1..1024, or 0 for all processors", c.Workers)
	}
	if err := c.Transform.check(); err != nil {
		return nil, err
	}
	if err := c.checkSides(); err != nil {
		return nil, err
	}
	l := &Loader{set: set, c: c, batches: (n + c.Batch - 1) / c.Batch, next: c.Start,
		corrupt: map[int]*UnreadableError{}}
	if c.Train {
		l.batches = n / c.Batch
	}
	if c.Epochs < 0 || c.Start.Epoch < 0 || c.Start.Batch < 0 || c.Start.Batch >= l.batches ||
		int64(c.Start.Epoch) > 1<<31 {
		return nil, fmt.Errorf("start at epoch %d, batch %d of %d: no such batch", c.Start.Epoch,
			c.Start.Batch, l.batches)
	}
	slots := 3
	if c.Memory != nil {
		slots = len(c.Memory)
	}
	l.free, l.ready = make(chan *slot, slots), make(chan *slot, slots)
	for i := range slots {
		s := &slot{batch: Batch{Labels: make([]int32, c.Batch)}, done: make(chan struct{}, 1)}
		if !c.Raw {
			s.memory = make([]float32, c.Batch*c.Transform.Size*c.Transform.Size*3)
		} else if err := s.layOut(c, i); err != nil {
			return nil, err
		}
		if c.Mixup > 0 {
			s.batch.Partners = make([]int32, c.Batch)
		}
		l.free <- s
	}
	workers := c.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	artists, as := make([]*artist, workers), look{levels: c.levels, fixed: set.packed(), raw: c.Raw}
	for i := range artists {
		var err error
		if artists[i], err = newArtist(c.Transform, as); err != nil {
			for _, a := range artists[:i] {
				a.close()
			}
			return nil, err
		}
	}
	l.work = make(chan task, 4*workers)
	l.context, l.cancel = context.WithCancel(context.Background())
	l.running.Go(l.dispatch)
	for _, a := range artists {
		l.running.Go(func() {
			defer a.close()
			w := worker{l: l, a: a}
			for {
				select {
				case t := <-l.work:
					w.do(t)
				case <-l.context.Done():
					return
				}
			}
		})
	}
	return l, nil
}

// SideOf is the side of batch number `number` of a training, counted from its beginning: one of sides, each as likely
// as the others. It depends on nothing else, so that loaders of the same seed agree whatever images they have.
func SideOf(seed, number uint64, sides []int) int {
	key := philox.Key{Seed: seed, Purpose: philox.PurposeSide}
	s := key.From(uint32(number), number>>32<<32)
	return sides[s.Intn(len(sides))]
}

func (c *Config) checkSides() error {
	if len(c.Sides) == 0 {
		return nil
	}
	for _, side := range c.Sides {
		if side < 1 || side > c.Transform.Size {
			return fmt.Errorf("side %d of a batch's images: want 1..%d", side, c.Transform.Size)
		}
		if side != c.Transform.Size && c.Transform.Crop != CropRandomResized {
			return fmt.Errorf("sides %v of batches: only random resized crops have any side", c.Sides)
		}
	}
	if c.Transform.Cutout > slices.Min(c.Sides) {
		return fmt.Errorf("cutout %d of images of %d", c.Transform.Cutout, slices.Min(c.Sides))
	}
	return nil
}

// side is that of a batch's images.
func (l *Loader) side(p Position) int {
	if len(l.c.Sides) == 0 {
		return l.c.Transform.Size
	}
	return SideOf(l.c.Seed, uint64(p.Epoch)*uint64(l.batches)+uint64(p.Batch), l.c.Sides)
}

// Close stops the workers and waits for them. The latest batch must not be used afterwards.
func (l *Loader) Close() {
	l.cancel()
	l.running.Wait()
	l.err = cmp.Or(l.err, errors.New("the loader is closed"))
}

// Batches is the number of batches of an epoch.
func (l *Loader) Batches() int { return l.batches }

// Position is that of the batch that Next returns next.
func (l *Loader) Position() Position { return l.next }

// Next returns the next batch, which is valid until the following call; io.EOF behind the last one of Config.Epochs;
// ctx's error where that ends first, even if the batch is ready.
func (l *Loader) Next(ctx context.Context) (*Batch, error) {
	if l.err != nil {
		return nil, l.err
	}
	if l.c.Epochs > 0 && l.next.Epoch >= l.c.Epochs {
		return nil, io.EOF
	}
	if l.held != nil {
		l.free <- l.held
		l.held = nil
	}
	if err := ctx.Err(); err != nil { // of two that are ready select takes any
		return nil, err
	}
	if l.waiting == nil {
		select {
		case l.waiting = <-l.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-l.waiting.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := l.waiting
	l.waiting = nil
	if s.err != nil {
		l.err = s.err
		return nil, l.err
	}
	s.batch.Raw = s.batch.Raw[:0]
	for _, part := range s.raw {
		s.batch.Raw = append(s.batch.Raw, part.Bytes())
	}
	for _, k := range slices.Sorted(maps.Keys(s.corrupt)) {
		s.batch.Corrupt = append(s.batch.Corrupt, Corrupt{Image: k, Why: s.corrupt[k].Error()})
	}
	l.held = s
	l.next = l.after(s.batch.Position)
	return &s.batch, nil
}

func (l *Loader) after(p Position) Position {
	if p.Batch += max(1, l.c.Every); p.Batch >= l.batches {
		p = Position{Epoch: p.Epoch + 1}
	}
	return p
}

// order is the sequence of images of an epoch, as positions in the set.
func (l *Loader) order(epoch int) []int32 {
	n := l.set.Len()
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	if l.c.Train {
		s := philox.New(l.c.Seed, philox.PurposeShuffle, uint32(epoch))
		for i := n - 1; i > 0; i-- {
			j := s.Intn(i + 1)
			order[i], order[j] = order[j], order[i]
		}
	}
	return order
}

// dispatch cuts the sequence of batches into tasks.
func (l *Loader) dispatch() {
	var order []int32
	for p := l.c.Start; l.c.Epochs == 0 || p.Epoch < l.c.Epochs; p = l.after(p) {
		if order == nil || p.Batch == 0 {
			order = l.order(p.Epoch)
		}
		var s *slot
		select {
		case s = <-l.free:
		case <-l.context.Done():
			return
		}
		l.prepare(s, p, order)
		l.ready <- s
		todo, step := s.batch.N, 1
		if l.c.Mixup > 0 {
			todo = l.pairs() * l.shards()
		}
		parts := max(1, l.c.Parts)
		begin := todo * l.c.Part / parts
		todo /= parts
		if _, ok := l.set.store.(*pixels); ok {
			step = 32 // a few microseconds each
		}
		s.pending.Store(int64((todo + step - 1) / step))
		for from := 0; from < todo; from += step {
			select {
			case l.work <- task{s, begin + from, begin + min(from+step, todo)}:
			case <-l.context.Done():
				return
			}
		}
	}
}

// prepare sets all of a batch but its images.
func (l *Loader) prepare(s *slot, p Position, order []int32) {
	b := &s.batch
	s.images, s.from, s.err, s.corrupt = order, p.Batch*l.c.Batch, nil, nil
	b.Position, b.N, b.Weight, b.Corrupt = p, min(l.c.Batch, len(order)-s.from), 1, nil
	for i := b.N; i < l.c.Batch; i++ {
		b.Labels[i] = -1
	}
	b.Side = l.side(p)
	if l.c.Mixup > 0 {
		key := philox.Key{Seed: l.c.Seed, Purpose: philox.PurposeMixup}
		r := key.From(uint32(p.Epoch), uint64(p.Batch)<<20)
		b.Weight = float32(betaOne(l.c.Mixup, &r))
	}
	if !l.c.Raw {
		size := 3 * b.Side * b.Side
		b.Images = s.memory[:l.c.Batch*size]
		clear(b.Images[b.N*size:])
	}
	for _, part := range s.raw {
		part.Begin(l.c.Batch/l.shards(), b.Side, b.Weight)
	}
}

// place is that of image i of the batch, which is not there yet.
func (l *Loader) place(s *slot, i int) place {
	if l.c.Raw {
		each := l.c.Batch / l.shards()
		return place{section: s.raw[i/each], number: i % each}
	}
	size := len(s.batch.Images) / l.c.Batch
	return place{floats: s.batch.Images[i*size : (i+1)*size]}
}

func (l *Loader) shards() int { return max(1, l.c.Shards) }

// pairs is how many pairs of images are mixed in each shard; one in its middle is mixed with itself.
func (l *Loader) pairs() int { return (l.c.Batch/l.shards() + 1) / 2 }

// pair is the n-th pair of a batch: of each shard's images the first and the last, and so on inwards.
func (l *Loader) pair(n int) (i, j int) {
	begin, at := n/l.pairs()*(l.c.Batch/l.shards()), n%l.pairs()
	return begin + at, begin + l.c.Batch/l.shards() - 1 - at
}

// worker is a goroutine that draws images.
type worker struct {
	l   *Loader
	a   *artist
	buf []byte
}

func (w *worker) do(t task) {
	w.a.t.Size = t.s.batch.Side
	for n := t.from; n < t.to && w.l.context.Err() == nil; n++ {
		if w.l.c.Mixup == 0 {
			w.draw(t.s, n)
			continue
		}
		i, j := w.l.pair(n)
		if w.draw(t.s, i); j == i {
			t.s.batch.Partners[i] = t.s.batch.Labels[i]
		} else {
			w.draw(t.s, j)
			t.s.batch.mix(i, j)
		}
	}
	if t.s.pending.Add(-1) == 0 {
		t.s.done <- struct{}{}
	}
}

// mix replaces images i and j by their mixtures, in which each has the larger part of its own class where Weight is
// above one half. Those of a raw batch the device mixes.
func (b *Batch) mix(i, j int) {
	size := len(b.Images) / len(b.Labels)
	x, y := b.Images[i*size:(i+1)*size], b.Images[j*size:(j+1)*size]
	for k, v := range x {
		x[k] = b.Weight*v + (1-b.Weight)*y[k]
		y[k] = b.Weight*y[k] + (1-b.Weight)*v
	}
	b.Partners[i], b.Partners[j] = b.Labels[j], b.Labels[i]
}

// draw fills place i of a batch. In training that is with the first image from there on in the epoch's order that can
// be read, so that what replaces a damaged one depends on the set and the seed alone.
func (w *worker) draw(s *slot, i int) {
	l := w.l
	dst := l.place(s, i)
	var met []Corrupt
	for try := range len(s.images) {
		k := int(s.images[(s.from+i+try)%len(s.images)])
		err := l.read(w, dst, k, s.batch.Epoch)
		if err == nil {
			s.batch.Labels[i] = int32(l.set.Label(k))
			return
		}
		var broken *UnreadableError
		if !errors.As(err, &broken) || !l.c.OnCorrupt.Skip {
			s.fail(i, err)
			return
		}
		s.leaveOut(k, broken)
		met = append(met, Corrupt{Image: k, Why: broken.Error()})
		if !l.c.Train {
			s.batch.Labels[i] = -1
			clear(dst.floats) // of a raw batch it is not there
			return
		}
		if err := l.c.OnCorrupt.allows(met); err != nil {
			s.fail(i, err)
			return
		}
		if l.context.Err() != nil {
			return
		}
	}
	s.fail(i, tooMany{fmt.Errorf("none of the %d images can be read: %v", len(s.images), summary(met))})
}

// read draws image k, unless it is known that it cannot be read.
func (l *Loader) read(w *worker, dst place, k, epoch int) error {
	l.mu.Lock()
	broken := l.corrupt[k]
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	err := w.image(dst, k, epoch)
	if err == nil {
		return nil
	}
	err = unreadable(l.set.ImageName(k), err)
	if errors.As(err, &broken) {
		l.mu.Lock()
		l.corrupt[k] = broken
		l.mu.Unlock()
	}
	return err
}

func (s *slot) leaveOut(k int, why *UnreadableError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.corrupt == nil {
		s.corrupt = map[int]*UnreadableError{}
	}
	s.corrupt[k] = why
}

func (s *slot) fail(i int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || i < s.errAt {
		s.err, s.errAt = err, i
	}
}

// image draws image k of the set.
func (w *worker) image(dst place, k, epoch int) error {
	number := w.l.set.at(k)
	d := draws{philox.Key{Seed: w.l.c.Seed, Purpose: philox.PurposeAugment}, uint32(epoch), number}
	switch st := w.l.set.store.(type) {
	case *pixels:
		return w.a.decoded(dst, st.raster(number), d)
	case encoded:
		var err error
		if p, ok := st.(*packed); ok && p.raw() {
			var r raster
			if r, w.buf, err = p.raster(number, w.buf[:0]); err == nil {
				err = w.a.decoded(dst, r, d)
			}
		} else if w.buf, err = st.read(number, w.buf[:0]); err == nil {
			err = w.a.file(dst, w.buf, d)
		}
		if cap(w.buf) > keptBytes {
			w.buf = nil
		}
		return err
	}
	return nil
}
