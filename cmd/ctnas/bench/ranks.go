package bench

import (
	"context"
	"errors"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// ranks are updates on two executors of the processor, which have half of its threads each, beside those on one that
// has all.
func ranks() []Case {
	const what = "MobileNetV3-Large, 224x224, batch 32 in 2 shards on 2 executors with half of the threads each; " +
		"ratio: "
	one := func(shards int) func(ctx context.Context, e *Env) (func() error, error) {
		return func(ctx context.Context, e *Env) (func() error, error) {
			two, err := rankedStep(ctx, e, 2, 2)
			if err == nil {
				e.beside, err = rankedStep(ctx, e, shards, 1)
			}
			return two, err
		}
	}
	return []Case{
		{Name: "ranks_2", Shape: what + "one executor, a batch that is one shard", Long: true, Setup: one(1)},
		{Name: "ranks_2_shards", Shape: what + "one executor, the same shards", Long: true, Setup: one(2)},
	}
}

// rankedStep is an update in so many shards on so many ranks, over a batch that is held in memory.
func rankedStep(ctx context.Context, e *Env, shards, ranks int) (func() error, error) {
	d, err := e.device()
	if err != nil {
		return nil, err
	}
	if d.Accelerated() {
		return nil, errors.New("divides the processor's threads: want --device cpu")
	}
	net, err := zoo.MobileNetV3Large(224, 10)
	if err != nil {
		return nil, err
	}
	images, err := data.Open("shapes", data.Options{})
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { _ = images.Close() })
	r := trainer.RecipeDefaults()
	r.Batch, r.Shards, r.LR, r.Resolution = e.batch(32, 32), shards, 1e-4, 224
	s, err := trainer.NewRankedStep(ctx, trainer.Job{Net: net, Data: images, Recipe: r, OnNaN: trainer.OnNaNStop},
		trainer.Deps{Ranks: ranks, Device: exec.Config{Threads: e.Device.Threads, Level: e.Device.Level}})
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { exec.Fail(s.Close()) })
	return func() error { return s.Run(ctx) }, nil
}
