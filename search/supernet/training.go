package supernet

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// HoldOut is a set whose first n training images in the order of labels (Spec.Images) judge, and no others train: the
// supernet that is trained on the rest has not seen what its labels are measured on. 0 leaves the set as it is.
func HoldOut(d *data.Dataset, n int) (*data.Dataset, error) {
	if n == 0 {
		return d, nil
	}
	out, err := d.HeldOut(n)
	if err != nil {
		return nil, fmt.Errorf("held-out %d: %w", n, err)
	}
	return out, nil
}

// Training is a space's supernet as trainer.TrainSupernet trains it.
func Training(sp space.Elastic) trainer.Elastic { return training{sp} }

// SinglePaths are a space's networks, of a size, as paths that a sampler draws, with their mixture where the space has
// one.
func SinglePaths(sp space.Sharing, size space.NetworkSize) trainer.Paths {
	p := singlePaths{sp, size}
	if mixed, ok := sp.(space.Mixed); ok {
		return mixedPaths{p, mixed}
	}
	return p
}

type singlePaths struct {
	sp   space.Sharing
	size space.NetworkSize
}

func (p singlePaths) of(classes int) space.NetworkSize {
	size := p.size
	size.Classes = classes
	return size
}

func (p singlePaths) Supernet(classes int) (nn.Shared, error) { return p.sp.Supernet(p.of(classes)) }

// Path is that of a text as it is written.
func (p singlePaths) Path(path string, classes int) (nn.Path, error) {
	if written, ok := p.sp.(space.Written); ok {
		return written.WrittenPath(path, p.of(classes))
	}
	a, err := p.sp.Parse(path)
	if err != nil {
		return nn.Path{}, err
	}
	return p.sp.Path(a, p.of(classes))
}

// Decisions are none where the space does not say what a path chooses.
func (p singlePaths) Decisions() []nn.Row {
	if deciding, ok := p.sp.(space.Deciding); ok {
		return deciding.Decisions()
	}
	return nil
}

func (p singlePaths) Chosen(path string) ([]nn.Choice, error) {
	if deciding, ok := p.sp.(space.Deciding); ok {
		return deciding.Chosen(path)
	}
	return nil, nil
}

var _ trainer.Mixed = mixedPaths{}

type mixedPaths struct {
	singlePaths
	mixed space.Mixed
}

func (p mixedPaths) Mixture(classes int) (nn.Path, error) { return p.mixed.Mixture(p.of(classes)) }

func (p mixedPaths) Derive(weights [][]float32) (string, error) { return p.mixed.Derive(weights) }

type training struct{ sp space.Elastic }

func (t training) Supernet(classes int) (nn.Shared, error) {
	return t.sp.Supernet(space.NetworkSize{Classes: classes})
}

// Sides are the space's; one whose architectures do not say them has no supernet here.
func (t training) Sides() (least, most int) {
	all := t.sp.(space.Resizing).Resolutions()
	return all[0], all[len(all)-1]
}

func (t training) Largest(side int) string  { return t.sp.Largest(side).String() }
func (t training) Smallest(side int) string { return t.sp.Smallest(side).String() }

func (t training) Sample(s *philox.Stream, c zoo.Choices, side int) (string, error) {
	a, err := t.sp.SamplePath(s, c, side)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

func (t training) Path(path string, classes int) (nn.Path, error) {
	a, err := t.sp.Parse(path)
	if err != nil {
		return nn.Path{}, err
	}
	return t.sp.Path(a, space.NetworkSize{Classes: classes})
}

func (t training) Sort(s nn.Shared, values [][]float32, trained []int) (func([][]float32) ([][]float32, error), error) {
	sp, ok := t.sp.(space.Shrinking)
	if !ok {
		return nil, fmt.Errorf("the channels of %s have no order", t.sp.Name())
	}
	order, err := sp.SortChannels(s, values, trained...)
	if err != nil {
		return nil, err
	}
	return func(values [][]float32) ([][]float32, error) { return order.Apply(s, values) }, nil
}
