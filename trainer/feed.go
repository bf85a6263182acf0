package trainer

import (
	"context"
	"time"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/data"
)

// feed hands a loader's batches to a model, or to a supernet's paths. On an accelerator it is one batch ahead: while a
// step runs, the images of the next are loaded and on their way into one of two buffers of their own, from which the
// device takes them when their turn comes.
type feed struct {
	in     inputs
	loader *data.Loader
	next   func(context.Context) (*data.Batch, error) // of the loader
	left   int                                        // batches that are still to be fetched
	waited time.Duration

	batch *data.Batch // fetched, not yet taken
	err   error       // of the fetch; told when the batch is asked for

	turn     int // which buffer the next images go to
	incoming [2]*exec.Buffer
	taking   [2]*exec.Program // from a buffer to the model's images
}

// newFeed hands on `left` batches, with buffers of an arena; it has the loader from now on.
func newFeed(a *exec.Arena, to inputs, l *data.Loader, left int) *feed {
	f := &feed{in: to, loader: l, next: l.Next, left: left}
	d := a.Device()
	if !d.Accelerated() {
		return f
	}
	n := to.Images.Len()
	for k := range f.incoming {
		f.incoming[k] = a.F32(n)
		f.taking[k] = a.NewProgram("take")
		in := tensor.Input{Shape: flat(tensor.Shape{N: 1, H: n, W: 1, C: 1}), Z: f.incoming[k]}
		elementwise.Sum{Terms: []elementwise.Term{{In: in}}, Out: to.Images}.Record(f.taking[k])
	}
	d.Sync() // uploads do not wait for the filling of new buffers
	return f
}

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
	if f.err == nil && f.incoming[0] != nil {
		f.incoming[f.turn].UploadF32(f.batch.Images)
	}
}

// take makes the next batch the images and labels of the step; smaller images fill the front of the buffer. The batch
// is valid until ahead is called.
func (f *feed) take(ctx context.Context) (*data.Batch, error) {
	f.fetch(ctx)
	b, err := f.batch, f.err
	if f.batch, f.err = nil, nil; err != nil {
		return nil, err
	}
	f.left--
	if f.incoming[0] != nil {
		f.taking[f.turn].Run(1)
		f.turn ^= 1
	} else {
		f.in.Images.WriteF32(0, b.Images)
	}
	f.in.Labels.WriteI32(0, b.Labels)
	if b.Partners != nil {
		f.in.Partners.WriteI32(0, b.Partners)
		f.in.Mix.WriteF32(0, []float32{b.Weight})
	}
	return b, nil
}

// ahead fetches the batch after the one that a step was enqueued for, on an accelerator. The buffer that it goes to was
// taken from by the step before that, which has ended: its metrics were read.
func (f *feed) ahead(ctx context.Context) {
	if f.incoming[0] != nil && f.left > 0 {
		f.fetch(ctx)
	}
}
