package bench

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// training lists whole training steps, with scripts/peers/train.py as their peer, and the loader.
func training() []Case {
	const gpuBatch = 256
	cell := func(name string, channels int) func() (*nn.Network, error) {
		return func() (*nn.Network, error) {
			arch, err := space.NASBench101{}.Parse(name)
			if err != nil {
				return nil, err
			}
			return zoo.NASBench101(arch.(space.Cell), channels, 10)
		}
	}
	mobile := func(name string) func() (*nn.Network, error) {
		return func() (*nn.Network, error) { return zoo.Open(name) }
	}
	var cases []Case
	for _, c := range []struct {
		name, shape string
		batch       int // on the CPU
		build       func() (*nn.Network, error)
	}{
		{"train_nb101_best", "NAS-Bench-101's best cell, 128 channels, 32x32", 8, cell("nasbench101:best", 128)},
		{"train_nb101_inception", "NAS-Bench-101's Inception-like cell, 128 channels, 32x32", 8,
			cell("nasbench101:inception", 128)},
		{"train_mobilenetv3_large", "MobileNetV3-Large, 224x224", 16, mobile("mobilenetv3_large_1.0")},
		{"train_mobilenetv2_1.4", "MobileNetV2-1.4, 224x224", 16, mobile("mobilenetv2_1.4")},
		{"train_nb101_small", "NAS-Bench-101's best cell, 16 channels, 32x32: many small operations", 32,
			cell("nasbench101:best", 16)},
	} {
		cases = append(cases, Case{
			Name: c.name, Slow: true,
			Shape: fmt.Sprintf("%s; batch %d, on a GPU %d: forward, backward, SGD with momentum", c.shape, c.batch,
				gpuBatch),
			Setup: func(_ context.Context, e *Env) (func() error, error) {
				if _, err := e.device(); err != nil {
					return nil, err
				}
				net, err := c.build()
				if err != nil {
					return nil, err
				}
				s, err := trainStep(e, net, e.batch(c.batch, gpuBatch))
				if err != nil {
					return nil, err
				}
				return func() error {
					_, err := s.Run()
					return err
				}, nil
			},
		})
	}
	return append(cases, Case{
		Name: "jpeg_rrc224", Shape: fmt.Sprintf("%d photographs: JPEG to random crops of 224x224, mirrored, normalised",
			jpegImages), Long: true, Setup: photographs,
	})
}

// trainStep is a step of a network on random images with random labels. Its rate is so low that the loss stays finite
// however often it runs.
func trainStep(e *Env, net *nn.Network, batch int) (*trainer.Step, error) {
	r := trainer.RecipeDefaults()
	r.Batch, r.LR, r.WeightDecay, r.LabelSmoothing = batch, 1e-4, 4e-5, 0.1
	s, err := trainer.NewStep(e.dev, net, r)
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, s.Close)
	e.parts = s.Programs()
	s.Initialize(nn.HeFanOut, 1)
	fill(s.Images)
	s.Labels.WriteI32(0, classes(batch, net.Nodes[net.Outputs[0].Node].Shape.C))
	return s, nil
}

// classes are random labels of n images.
func classes(n, of int) []int32 {
	stream, out := philox.New(1, philox.PurposeTest, 2), make([]int32, n)
	for i := range out {
		out[i] = int32(stream.Intn(of))
	}
	return out
}

const jpegImages = 1024

// imagesVariable names the folder of photographs, as imagenet:DIR reads it.
const imagesVariable = "CTNAS_PEER_IMAGES"

// photographs reads a folder of JPEG files from the start with a new loader, as many workers as threads.
func photographs(ctx context.Context, e *Env) (func() error, error) {
	dir := os.Getenv(imagesVariable)
	if dir == "" {
		return nil, errors.New("needs a folder of photographs: " + imagesVariable)
	}
	set, err := data.Open("imagenet:"+dir, data.Options{})
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { _ = set.Close() })
	return func() error {
		l, err := data.NewLoader(set.Train, data.Config{Batch: 32, Transform: set.TrainTransform(224), Train: true,
			Workers: max(1, e.Device.Threads)})
		if err != nil {
			return err
		}
		defer l.Close()
		for range jpegImages / 32 {
			if _, err := l.Next(ctx); err != nil {
				return err
			}
		}
		return nil
	}, nil
}
