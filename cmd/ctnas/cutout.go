package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/supernet"
	"github.com/ctnas/ctnas/trainer"
)

// calibrateSetting adds how many images the statistics of a sub-network are of.
func calibrateSetting(l *setting.List, p *int) {
	l.Int(p, "calibrate-images", "images", "with the weights of a supernet, training images that a sub-network's "+
		"batch norms get their statistics from, in equal batches of 50 to 200", 1, 1<<20)
}

// isSupernet tells whether a path of weights is that of a supernet: the folder of its training or a file.
func isSupernet(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	for _, dir := range []string{path, filepath.Join(path, report.SupernetName)} {
		if file := filepath.Join(dir, trainer.WeightsName); isFile(file) {
			path = file
			break
		}
	}
	w, err := trainer.OpenWeights(path)
	if err != nil {
		return false, err
	}
	return w.Supernet(), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// cutOut cuts the weights of an architecture in words out of a supernet. resolution is what the user says; 0: nothing.
func (a *app) cutOut(ctx context.Context, arch string, resolution int, spec supernet.Spec) (w *owned,
	values [][]float32, cut *supernet.CutOut, err error) {
	picked, err := space.Find(arch)
	if err != nil {
		return nil, nil, nil, usageError{fmt.Errorf("%s holds a supernet's weights: %w", spec.Path, err)}
	}
	if sized, ok := picked.(interface{ Resolution() int }); ok && resolution != 0 && resolution != sized.Resolution() {
		return nil, nil, nil, usagef("--resolution %d: the architecture says %d", resolution, sized.Resolution())
	}
	said, err := supernet.OpenWeights(spec.Path)
	if err != nil {
		return nil, nil, nil, err
	}
	spec.Split = supernet.SplitNone
	e, err := a.openSupernet(ctx, spec, cmp.Or(said.Space, space.Narrow(picked)), search.DefaultMaking())
	if errors.Is(err, supernet.ErrNoImages) {
		return nil, nil, nil, usagef("%w: a supernet's statistics are of no one network, and --data names images to "+
			"compute the network's own on", err)
	} else if err != nil {
		return nil, nil, nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if side := e.NetworkSize().Side; side != 0 && resolution != 0 && side != resolution {
		return nil, nil, nil, usagef("--resolution %d: the supernet %s was trained on images of %d pixels", resolution,
			spec.Path, side)
	}
	picked = asDerived(picked, arch, spec.Path)
	if cut, err = e.CutOut(ctx, picked); err != nil {
		return nil, nil, nil, err
	}
	a.log.Info("weights", "file", e.Weights.Path, "from", cut.Origin.Name(), "known", cut.Origin.Because,
		"sub-network", picked.String(), "statistics", cut.Note)
	return &owned{Weights: e.Weights.Weights, Provenance: cut.Origin, Net: cut.Origin.Adopt(cut.Network),
		cutFrom: cut.Note, classes: cut.Classes}, cut.Values, cut, nil
}

// asDerived is an architecture in words of a supernet, in the places of the mixture where it is what that of the
// supernet's folder stands for.
func asDerived(picked space.Arch, arch, folder string) space.Arch {
	if derived, err := report.Derived(folder); err != nil || derived != arch || arch == picked.String() {
		return picked
	}
	return space.AsWritten{Arch: picked, Text: arch}
}
