package supernet

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Colours of calibration images are changed as once-for-all changes those of training.
var colours = data.Jitter{Brightness: 32.0 / 255, Saturation: 0.5}

// decoded are images of a side as bytes, RGB, with the network's labels.
type decoded struct {
	side   int
	pix    []byte
	labels []int32
}

// album holds the images that sub-networks see, by their sides.
type album struct {
	data                 *data.Dataset
	calibration, judging *data.Set // with the network's labels
	images               zoo.Images
	seed                 uint64

	mu    sync.Mutex
	pages map[page]*developing
}

// page is images of a side: those that judge, or those of calibration.
type page struct {
	side    int
	judging bool
}

// developing is a page that somebody decodes, or has decoded.
type developing struct {
	once sync.Once
	err  error
	*decoded
}

// of returns the images of a page; the first who asks decodes them.
func (a *album) of(ctx context.Context, which page) (*decoded, error) {
	a.mu.Lock()
	p := a.pages[which]
	if p == nil {
		p = &developing{}
		a.pages[which] = p
	}
	a.mu.Unlock()
	p.once.Do(func() {
		set, t := a.calibration, a.calibrated(which.side)
		if which.judging {
			set, t = a.judging, a.judged(which.side)
		}
		p.decoded, p.err = a.decode(ctx, set, t)
	})
	if p.err == nil {
		return p.decoded, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pages[which] == p { // another call may have more luck: the context may have ended
		delete(a.pages, which)
	}
	return nil, fmt.Errorf("images of %d pixels: %w", which.side, p.err)
}

// shown is what images of a side are in evaluation: resized to side/0.875, rounded up, and cut to their middle.
func (a *album) shown(side int) *zoo.Images {
	i := a.images
	i.Side = side
	return &i
}

func (a *album) judged(side int) data.Transform {
	return trainer.EvalTransform(a.data, a.shown(side), side)
}

func (a *album) calibrated(side int) data.Transform {
	t := a.data.TrainTransform(side)
	t.Mean, t.Std, t.Jitter = a.images.Mean, a.images.Std, colours
	return t
}

// decode brings a set's images in as bytes.
func (a *album) decode(ctx context.Context, set *data.Set, t data.Transform) (*decoded, error) {
	t.Mean, t.Std = [3]float32{}, [3]float32{1, 1, 1} // 0..1
	const batch = 64
	l, err := data.NewLoader(set, data.Config{Batch: batch, Transform: t, Seed: a.seed, Epochs: 1})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	size := 3 * t.Size * t.Size
	d := &decoded{side: t.Size, pix: make([]byte, set.Len()*size), labels: make([]int32, set.Len())}
	for k := range l.Batches() {
		b, err := l.Next(ctx)
		if err != nil {
			return nil, err
		}
		copy(d.labels[k*batch:], b.Labels[:b.N])
		for i, v := range b.Images[:b.N*size] {
			d.pix[k*batch*size+i] = byte(math.Round(255 * math.Min(1, math.Max(0, float64(v)))))
		}
	}
	return d, nil
}

// values are what bytes of each channel are to a network.
func (a *album) values() (table [3][256]float32) {
	for c := range table {
		for v := range table[c] {
			table[c][v] = float32((float64(v)/255 - float64(a.images.Mean[c])) / float64(a.images.Std[c]))
		}
	}
	return table
}

// batches are how many there are of a size.
func (d *decoded) batches(size int) int { return (len(d.labels) + size - 1) / size }

// fill makes the k-th batch, of as many images as labels has places: images [size, side, side, 3]. Labels behind the
// last image are -1.
func (d *decoded) fill(k int, table *[3][256]float32, images []float32, labels []int32) (n int) {
	size, one := len(labels), 3*d.side*d.side
	from := k * size
	n = copy(labels, d.labels[from:])
	for i := n; i < size; i++ {
		labels[i] = -1
	}
	pix := d.pix[from*one : (from+n)*one]
	red, green, blue := &table[0], &table[1], &table[2]
	for i := 0; i+3 <= len(pix); i += 3 {
		images[i], images[i+1], images[i+2] = red[pix[i]], green[pix[i+1]], blue[pix[i+2]]
	}
	clear(images[n*one:])
	return n
}
