package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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

// searched is the pick of a search, where a text names its folder, with how its labels were made, or what the mixture
// of a supernet stands for, where it names the folder of that; empty where it names something else.
func searched(text string) (pick, labels string, err error) {
	if is, err := report.IsSupernet(text); is || err != nil {
		if err == nil {
			pick, err = report.Derived(text)
		}
		return pick, "", err
	}
	if _, err := os.Stat(filepath.Join(text, report.LedgerName)); err != nil {
		return "", "", nil // no folder, or that of a training
	}
	page, err := report.Load(text)
	if err != nil {
		return "", "", err
	}
	c, err := search.LoadConfig(text)
	if errors.Is(err, fs.ErrNotExist) {
		return page.Result.Pick, "", nil
	}
	return page.Result.Pick, c.Labels, err
}

// ofSearch replaces the folder of a search by its pick, and that of a supernet by what its mixture stands for, and
// takes the weights of the supernet, or of the one that the search's labels are of, where none are given.
func (e *exporting) ofSearch() error {
	pick, labels, err := searched(e.arch)
	if err != nil || pick == "" {
		return err
	}
	if is, err := report.IsSupernet(e.arch); is && err == nil {
		e.weights.path = cmp.Or(e.weights.path, e.arch)
	}
	e.arch = pick
	if !strings.HasPrefix(labels, supernet.Prefix) {
		return nil
	}
	spec, err := supernet.Parse(labels)
	if err != nil {
		return err
	}
	if e.weights.path == "" {
		e.weights.path, e.super.Calibrate, e.super.Seed = spec.Path, spec.Calibrate, spec.Seed
	}
	if e.super.Data == "" {
		e.super.Data = spec.Data
	}
	return nil
}
