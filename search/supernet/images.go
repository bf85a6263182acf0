package supernet

import (
	"context"
	"fmt"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// What the images may take that are kept for the next sub-networks, in bytes. All sides of once-for-all fit: 25 GB of
// 10,000 images and 5 GB of 2,000.
const (
	judgingMemory     = 32 << 30
	calibrationMemory = 8 << 30
)

// album holds the images that sub-networks see, by their sides, with the network's labels.
type album struct {
	data        *data.Dataset
	images      zoo.Images
	count       int         // of images that judge
	judging     *data.Sides // nil: none judge
	calibration *data.Sides // nil: statistics are those of each batch
	// augmented is what is done to images of calibration of a side.
	augmented func(d *data.Dataset, side int) data.Transform
}

// newAlbum decodes nothing yet; one of the sets may be nil.
func newAlbum(d *data.Dataset, judging, calibration *data.Set, images zoo.Images,
	augmented func(d *data.Dataset, side int) data.Transform, seed uint64) *album {
	a := &album{data: d, images: images, augmented: augmented}
	if judging != nil {
		a.count = judging.Len()
		a.judging = data.NewSides(judging, a.judged, data.DecodeConfig{Seed: seed, Memory: judgingMemory})
	}
	if calibration != nil {
		a.calibration = data.NewSides(calibration, a.calibrated, data.DecodeConfig{Seed: seed,
			Memory: calibrationMemory})
	}
	return a
}

// decoded returns the images of some at a side. Whoever is first to ask decodes them.
func decoded(ctx context.Context, some *data.Sides, side int) (*data.Decoded, error) {
	d, err := some.At(ctx, side)
	if err != nil {
		return nil, fmt.Errorf("images of %d pixels: %w", side, err)
	}
	return d, nil
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
	t := a.augmented(a.data, side)
	t.Mean, t.Std, t.Cutout = a.images.Mean, a.images.Std, 0
	return t
}

// onceForAll is what once-for-all does to images of calibration.
func onceForAll(d *data.Dataset, side int) data.Transform {
	t := d.TrainTransform(side)
	t.Jitter = data.SupernetJitter
	return t
}
