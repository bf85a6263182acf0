package trainer

import (
	"context"
	"slices"
	"time"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
)

// feed hands a loader's batches to a model, or to a supernet's paths; of several devices each gets its part of every
// batch, shard by shard. On accelerators it is one batch ahead: while a step runs, the images of the next are loaded
// and on their way into one of two buffers of their own, from which the device takes them when their turn comes.
type feed struct {
	to      []receiver
	portion portion
	loader  *data.Loader
	next    func(context.Context) (*data.Batch, error) // of the loader
	left    int                                        // batches that are still to be fetched
	waited  time.Duration

	batch *data.Batch // fetched, not yet taken
	err   error       // of the fetch; told when the batch is asked for
	turn  int         // which buffers the next images go to

	// Of the batch that was taken; accelerators have its images.
	images   []float32
	labels   []int32
	partners []int32
	weight   float32
}

// receiver is a model that a feed serves, whose batch is a shard.
type receiver struct {
	arena    *exec.Arena
	in       inputs
	incoming [2][]*section // by shard; none on the CPU
	placed   int           // the shard that is there
}

// newFeed hands on `left` batches, with buffers of the receivers' arenas, all accelerators or none; it has the loader
// from now on.
func newFeed(l *data.Loader, left int, p portion, to ...receiver) *feed {
	f := &feed{to: to, portion: p, loader: l, next: l.Next, left: left}
	if !f.accelerated() {
		return f
	}
	made := false
	defer func() {
		if !made { // a device has no room for them
			f.close()
		}
	}()
	for i := range to {
		r := &to[i]
		for k := range r.incoming {
			for range p.each {
				r.incoming[k] = append(r.incoming[k], newSection(r.arena, l.Regions(), r.in.Images))
			}
		}
		r.arena.Device().Sync() // uploads do not wait for the filling of new buffers
	}
	made = true
	return f
}

func (f *feed) accelerated() bool { return f.to[0].arena.Device().Accelerated() }

// close stops the loader.
func (f *feed) close() { f.loader.Close() }

// fetch waits for the next batch unless there is one, and sends its images off.
func (f *feed) fetch(ctx context.Context) {
	if f.batch != nil || f.err != nil {
		return
	}
	begin := time.Now()
	f.batch, f.err = f.next(ctx)
	f.waited += time.Since(begin)
	if f.err == nil && f.accelerated() {
		exec.Fail(exec.Each(len(f.to), func(i int) error {
			for shard, s := range f.to[i].incoming[f.turn] {
				s.bytes.UploadBytes(f.batch.Raw[f.portion.before+i*f.portion.each+shard])
			}
			return nil
		}))
	}
}

// take makes the next batch the images and labels of the step, its first shard for each receiver; smaller images fill
// the front of the buffer. The batch is valid until ahead is called.
func (f *feed) take(ctx context.Context) (*data.Batch, error) {
	f.fetch(ctx)
	b, err := f.batch, f.err
	if f.batch, f.err = nil, nil; err != nil {
		return nil, err
	}
	f.left--
	f.turn ^= 1
	f.images, f.labels, f.weight = b.Images, append(f.labels[:0], b.Labels...), b.Weight
	f.partners = append(f.partners[:0], b.Partners...)
	for i := range f.to {
		f.to[i].placed = -1
		f.place(i, 0)
	}
	return b, nil
}

// shard is where a receiver's shard begins and ends, of a list that has equally many elements for each.
func (f *feed) shard(receiver, shard, elements int) (from, to int) {
	each := elements / f.portion.all
	at := f.portion.before + receiver*f.portion.each + shard
	return at * each, (at + 1) * each
}

// place makes a shard of the batch that was taken the images and labels of its receiver, unless it is there.
func (f *feed) place(receiver, shard int) {
	r := &f.to[receiver]
	if r.placed == shard {
		return
	}
	r.placed = shard
	if incoming := r.incoming[f.turn^1]; incoming != nil {
		incoming[shard].develop.Run(1)
	} else {
		from, to := f.shard(receiver, shard, len(f.images))
		r.in.Images.WriteF32(0, f.images[from:to])
	}
	from, to := f.shard(receiver, shard, len(f.labels))
	r.in.Labels.WriteI32(0, f.labels[from:to])
	if len(f.partners) > 0 {
		r.in.Partners.WriteI32(0, f.partners[from:to])
		r.in.Mix.WriteF32(0, []float32{f.weight})
	}
}

// part is a shard of a batch by itself, as far as a teacher looks at it: of a raw one the receiver has the images.
func (f *feed) part(b *data.Batch, receiver, shard int) *data.Batch {
	from, to := f.shard(receiver, shard, len(b.Images))
	first, last := f.shard(receiver, shard, len(b.Labels))
	return &data.Batch{Images: b.Images[from:to], Labels: slices.Clip(b.Labels[first:last])}
}

// ahead fetches the batch after the one that a step was enqueued for, on accelerators. The buffers that it goes to were
// taken from by the step before that, which has ended: its metrics were read.
func (f *feed) ahead(ctx context.Context) {
	if f.accelerated() && f.left > 0 {
		f.fetch(ctx)
	}
}
