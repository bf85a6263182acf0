package bench

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/nn"
)

// supernetPaths are the largest, the smallest and two random architectures of once-for-all's space, a line each.
// scripts/peers/elastic.py reads them too.
//
//go:embed supernet_paths.txt
var supernetPaths string

// Images of a label, which are measured and those that statistics are made of, and how many are a batch.
const labelImages, labelBatch = 500, 100

// supernet lists what an elastic network takes, with scripts/peers/elastic.py as its peer. The random paths, and all
// that are labelled, are recorded anew in every run, as in a training or a search, which seldom sees them again.
func supernet() []Case {
	return []Case{
		{Name: "supernet_ofa_step", Shape: "an update of MobileNetV3's supernet of width 1.0 by 4 paths, the " +
			"largest, the smallest, 2 random; batch 8, 128x128", Long: true, Setup: supernetStep},
		{Name: "supernet_ofa_label", Shape: fmt.Sprintf("labels of these 4 paths: statistics of %d images, %d others "+
			"classified; 32x32, 10 classes", labelImages, labelImages), Long: true, Setup: supernetLabel},
		{Name: "supernet_darts_step", Shape: "an update of DARTS's search network in first order, of α and of the " +
			"weights: 8 cells, 16 channels; batch 16, 32x32, 10 classes", Long: true, Setup: dartsStep},
	}
}

// dartsStep is an update of α and one of the weights of DARTS's search network, each on images of its own, with
// scripts/peers/darts.py as its peer.
func dartsStep(_ context.Context, e *Env) (func() error, error) {
	const batch, outputs = 16, 10
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	sp, err := space.Open("darts@cifar10")
	if err != nil {
		return nil, err
	}
	mixed, size := sp.(space.Mixed), space.NetworkSize{Classes: outputs}
	shared, err := mixed.Supernet(size)
	if err != nil {
		return nil, err
	}
	p, err := mixed.Mixture(size)
	if err != nil {
		return nil, err
	}
	r := trainer.RecipeDefaults()
	r.Optimizer, r.LR, r.Momentum, r.WeightDecay, r.DecayAll = "sgd", 0.025, 0.9, 3e-4, true
	s, err := trainer.NewSupernetStep(d, shared, trainer.SupernetOptions{Batch: batch, Image: p.Input(),
		Classes: outputs, Clip: 5, Rows: p.Network.Mixture}, r)
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	s.SetValues(shared.Initialize(nn.TorchDefault, 1))
	s.Mixture.Initialize(1e-3, 1)
	s.Images.WriteF32(0, random(s.Images.Len(), 1))
	s.Labels.WriteI32(0, classes(batch, outputs))
	s.Second.Images.WriteF32(0, random(s.Images.Len(), 2))
	s.Second.Labels.WriteI32(0, classes(batch, outputs))
	return func() error {
		_, _, err := s.RunMixture(trainer.StepPath{Key: "mixture", Build: func() (nn.Path, error) { return p, nil }})
		return err
	}, nil
}

// elastic opens the space of the paths for images of a side, and their architectures.
func elastic(side int) (space.Elastic, []space.Arch, error) {
	sp, err := space.Open(fmt.Sprintf("mobilenetv3@w1.0,r%d", side))
	if err != nil {
		return nil, nil, err
	}
	var archs []space.Arch
	for _, text := range strings.Fields(supernetPaths) {
		a, err := sp.Parse(text)
		if err != nil {
			return nil, nil, err
		}
		archs = append(archs, a)
	}
	return sp.(space.Elastic), archs, nil
}

// supernetStep is an update of the supernet on random images with random labels.
func supernetStep(_ context.Context, e *Env) (func() error, error) {
	const batch, side, outputs = 8, 128, 1000
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	sp, archs, err := elastic(side)
	if err != nil {
		return nil, err
	}
	size := space.NetworkSize{Side: side, Classes: outputs}
	shared, err := sp.Supernet(size)
	if err != nil {
		return nil, err
	}
	r := trainer.RecipeDefaults()
	r.LR, r.WeightDecay, r.LabelSmoothing, r.Nesterov = 1e-4, 3e-5, 0.1, true
	s, err := trainer.NewSupernetStep(d, shared, trainer.SupernetOptions{Batch: batch, Image: rgb(side),
		Classes: outputs}, r)
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	s.SetValues(shared.Initialize(nn.HeFanOut, 1))
	s.Images.WriteF32(0, random(s.Images.Len(), 1))
	s.Labels.WriteI32(0, classes(batch, outputs))
	updates := 0
	return func() error {
		updates++
		paths := make([]trainer.StepPath, len(archs))
		for i, a := range archs {
			paths[i] = trainer.StepPath{Key: a.String(), Build: func() (nn.Path, error) { return sp.Path(a, size) }}
			if i > 1 {
				paths[i].Key += fmt.Sprintf(", update %d", updates)
			}
		}
		_, err := s.Run(paths...)
		return err
	}, nil
}

// supernetLabel measures sub-networks with statistics of their own.
func supernetLabel(_ context.Context, e *Env) (func() error, error) {
	const side, outputs = 32, 10
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	sp, archs, err := elastic(side)
	if err != nil {
		return nil, err
	}
	size := space.NetworkSize{Side: side, Classes: outputs}
	shared, err := sp.Supernet(size)
	if err != nil {
		return nil, err
	}
	s, err := trainer.NewSupernet(d, shared, trainer.SupernetOptions{Batch: labelBatch, Image: rgb(side),
		Classes: outputs})
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	s.SetValues(shared.Initialize(nn.HeFanOut, 1))
	calibration, judging := random(labelImages*rgb(side).Len(), 1), random(labelImages*rgb(side).Len(), 2)
	class, labelled := classes(labelImages, outputs), 0
	each := func(images []float32, run func()) {
		for at := 0; at < labelImages; at += labelBatch {
			s.Images.WriteF32(0, images[at*rgb(side).Len():(at+labelBatch)*rgb(side).Len()])
			s.Labels.WriteI32(0, class[at:at+labelBatch])
			run()
		}
	}
	return func() error {
		for _, a := range archs {
			labelled++
			m, err := s.Path(fmt.Sprintf("%v, label %d", a, labelled), trainer.PathOptions{EvalOnly: true},
				func() (nn.Path, error) { return sp.Path(a, size) })
			if err != nil {
				return err
			}
			m.BeginRecalibration()
			each(calibration, m.Recalibrate)
			s.Count.WriteI32(0, make([]int32, 3))
			each(judging, m.Evaluate)
			s.Count.ReadI32(0, make([]int32, 3))
		}
		return nil
	}, nil
}

func rgb(side int) nn.Shape { return nn.Shape{H: side, W: side, C: 3} }
