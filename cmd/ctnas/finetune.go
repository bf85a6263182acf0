package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/search/trained"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// fineTuning says what networks begin with that are trained anew.
type fineTuning struct {
	fromSupernet bool
	weights      string
	data         string
	calibrate    int
}

func (f *fineTuning) addTo(l *setting.List) {
	f.calibrate = supernet.CalibrateImages
	l.Bool(&f.fromSupernet, "from-supernet", "begin with the weights of the supernet that the search's labels are of")
	l.Text(&f.weights, "weights", "begin with the weights of this supernet, the `folder` of ctnas supernet train or a "+
		"file")
	l.Text(&f.data, "data", "with --weights, the images that batch norms get their first statistics from (empty = "+
		"those that the supernet was trained on): "+imageSets).Path(data.Absolute).Check(func() error {
		if f.data == "" {
			return nil
		}
		return data.CheckSpec(f.data)
	})
	calibrateSetting(l, &f.calibrate)
}

// supernetStart is a supernet whose sub-networks trainings begin with.
type supernetStart struct{ *supernet.Evaluator }

// startFrom opens the supernet that trainings begin with, for a search with some labels; nil: they begin with random
// values.
func (a *app) startFrom(ctx context.Context, f fineTuning, labels string, sp space.Space, making search.Making) (
	*supernetStart, error) {
	spec := supernet.Spec{Path: f.weights, Data: f.data, Calibrate: f.calibrate}
	switch {
	case f.weights != "":
	case !f.fromSupernet:
		return nil, nil
	case !strings.HasPrefix(labels, supernet.Prefix):
		return nil, usagef("--from-supernet: the search's labels are no supernet's; --weights names one")
	default:
		of, err := supernet.Parse(labels)
		if err != nil {
			return nil, err
		}
		spec.Path, spec.Data, spec.Calibrate, spec.Seed = of.Path, of.Data, of.Calibrate, of.Seed
	}
	spec.Split = supernet.SplitNone
	e, err := a.openSupernet(ctx, spec, sp.Name(), making)
	if err != nil {
		return nil, err
	}
	return &supernetStart{e}, nil
}

// start is what trainings begin with.
func (s *supernetStart) start() *trained.Start {
	return &trained.Start{
		Checksum: s.Checksum(),
		Text: fmt.Sprintf("with their part of the weights of the supernet %s, statistics of %d training images",
			s.Weights.Checksum[:12], s.Calibrate),
		Of: func(ctx context.Context, a space.Arch) (*trainer.Start, error) {
			cut, err := s.CutOut(ctx, a)
			if err != nil {
				return nil, err
			}
			return &trainer.Start{Values: cut.Values, Checksum: cut.Checksum}, nil
		},
	}
}

// sameClasses refuses images whose classes are not the supernet's logits.
func (s *supernetStart) sameClasses(classes []string) error {
	if slices.Equal(classes, s.Classes()) {
		return nil
	}
	return fmt.Errorf("the supernet %s has logits of %d classes, and the images are of %d, or in another order: "+
		"networks of one cannot begin as the other's", s.Path, len(s.Classes()), len(classes))
}
