package supernet

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// worker measures one architecture at a time. It puts the supernet on its device when that is first wanted.
type worker struct {
	e     *Evaluator
	at    labels.Place
	dev   *exec.Device
	super *trainer.Supernet
	m     *trainer.Model // of the latest architecture
}

func (w *worker) open() (err error) {
	if w.super != nil {
		return nil
	}
	if w.dev, err = exec.Open(w.at.Device); err != nil {
		return err
	}
	w.super, err = trainer.NewSupernet(w.dev, w.e.shared, trainer.SupernetOptions{Batch: w.e.batch,
		Image: w.e.largest.Input(), Classes: len(w.e.classes)})
	if err != nil {
		return err
	}
	w.super.SetValues(w.e.values)
	return nil
}

// close gives the device back; the next attempt opens it anew. Of one that has died the error is what it died of.
func (w *worker) close() (err error) {
	defer exec.Catch(&err)
	super, dev := w.super, w.dev
	w.super, w.dev, w.m = nil, nil, nil
	if super != nil {
		super.Close()
	}
	if dev != nil {
		dev.Close()
	}
	return nil
}

// measure gives a sub-network statistics of its own and, where there are images that judge, evaluates it. What fails is
// tried again, on a device that is opened anew.
func (w *worker) measure(ctx context.Context, a space.Arch) (Measured, error) {
	for attempt := 0; ; attempt++ {
		measured, err := w.attempt(ctx, a)
		if err == nil || ctx.Err() != nil {
			return measured, err
		}
		closed := w.close()
		if attempt == w.e.Retries {
			return measured, fmt.Errorf("%v on %s: %w", a, w.at.Name, errors.Join(err, closed))
		}
	}
}

// attempt is measure, once. A panic is an error.
func (w *worker) attempt(ctx context.Context, a space.Arch) (measured Measured, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	defer exec.Catch(&err)
	if err := w.open(); err != nil {
		return measured, err
	}
	w.m, err = w.super.Path(a.String(), trainer.PathOptions{EvalOnly: true, Transient: w.e.batched()},
		func() (nn.Path, error) { return space.PathOf(w.e.sharing, a, w.e.NetworkSize()) })
	if err != nil {
		return measured, err
	}
	side := w.m.Net.Input().H
	if !w.e.batched() {
		images, err := decoded(ctx, w.e.album.calibration, side)
		if err != nil {
			return measured, err
		}
		if err := w.calibrate(ctx, images); err != nil || w.e.Judging() == 0 {
			return measured, err
		}
	}
	images, err := decoded(ctx, w.e.album.judging, side)
	if err != nil {
		return measured, err
	}
	return w.evaluate(ctx, images)
}

// calibrate sets the running statistics to the means over all batches.
func (w *worker) calibrate(ctx context.Context, d *data.Decoded) error {
	w.m.BeginRecalibration()
	return w.each(ctx, d, func(int) { w.m.Recalibrate() })
}

func (w *worker) evaluate(ctx context.Context, d *data.Decoded) (measured Measured, err error) {
	w.m.Count.WriteI32(0, make([]int32, 3))
	total := 0.0
	err = w.each(ctx, d, func(n int) {
		w.m.Evaluate()
		total += float64(w.m.Loss.Values()[0]) * float64(n)
	})
	count := make([]int32, 3)
	w.m.Count.ReadI32(0, count)
	n := float64(count[0])
	return Measured{Images: int(count[0]), Loss: trainer.Real(total / n), Top1: float64(count[1]) / n,
		Top5: float64(count[2]) / n}, err
}

// batch is one that goes to the network.
type batch struct {
	n      int // images
	images []float32
	labels []int32
}

// each makes batches of images the network's, one after the other, and has run do something with each. While it does
// the next one is prepared.
func (w *worker) each(ctx context.Context, d *data.Decoded, run func(n int)) error {
	size, one := w.m.Batch, 3*d.Side*d.Side
	free, ready := make(chan *batch, 2), make(chan *batch, 2)
	for range 2 {
		free <- &batch{images: make([]float32, size*one), labels: make([]int32, size)}
	}
	take := d.Batch
	if w.e.batched() {
		take = d.Full
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for k := range d.Batches(size) {
			select {
			case b := <-free:
				b.n = take(k, b.images, b.labels)
				ready <- b
			case <-ctx.Done():
				return
			}
		}
	}()
	for range d.Batches(size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case b := <-ready:
			w.m.Images.WriteF32(0, b.images)
			w.m.Labels.WriteI32(0, b.labels)
			run(b.n)
			free <- b
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// values are the latest architecture's own variables, in the layout of memory.
func (w *worker) values() (values [][]float32, err error) {
	defer exec.Catch(&err)
	return w.m.Values(), nil
}
