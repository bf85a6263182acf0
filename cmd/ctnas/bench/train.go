package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
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
	for _, c := range []struct {
		name, what string
		pack       *data.PackConfig // nil: the files as they are
	}{
		{"", "JPEG", nil},
		{"_packed", "a packed set of JPEG with 256 pixels", &data.PackConfig{Side: 256, Quality: 90}},
		{"_packed_raw", "a packed set of pixels, 256 of them", &data.PackConfig{Side: 256, Raw: true}},
	} {
		for _, raw := range []bool{false, true} {
			name, becomes := "jpeg_rrc224", "random crops of 224x224, mirrored, normalised"
			if raw {
				name, becomes = "jpeg_regions224", "bytes of what these crops show, as for a GPU"
			}
			cases = append(cases, Case{
				Name: name + c.name, Shape: fmt.Sprintf("%d photographs: %s to %s", jpegImages, c.what, becomes),
				Long: true, Setup: func(ctx context.Context, e *Env) (func() error, error) {
					return photographs(ctx, e, c.pack, raw)
				},
			})
		}
	}
	return append(cases, regions())
}

// regions is what a device does for a training's images: crops of 100 to 256 pixels, as the loader leaves them, to
// 224x224.
func regions() Case {
	const side, least, most = 224, 100, 256
	return Case{
		Name: "regions224", Shape: fmt.Sprintf("a batch of crops of %d to %d pixels a side, bytes, to %dx%d, "+
			"mirrored, normalised", least, most, side, side),
		Setup: layered(func(l *layer, p *exec.Program) {
			s, r := image.NewSection(make([]byte, image.SectionBytes(l.batch, side)), image.Bilinear),
				philox.New(1, philox.PurposeTest, 6)
			s.Begin(l.batch, side, 1)
			for i := range l.batch {
				d := image.Draw{Height: least + r.Intn(most-least+1), Width: least + r.Intn(most-least+1), Shrink: 1,
					Flip: r.Intn(2) == 1}
				d.Y = image.Span{Length: d.Height, Full: side, End: d.Height}
				d.X = image.Span{Length: d.Width, Full: side, End: d.Width}
				var room []byte
				d.At, room = s.Room(3 * d.Height * d.Width)
				for k := range room {
					room[k] = byte(r.Uint32())
				}
				s.Put(i, d)
			}
			op := image.Regions{Images: l.batch, Size: side, Scale: [3]float32{1, 1, 1},
				Section: l.ar.I32(image.SectionBytes(l.batch, side) / 4), Out: l.ar.F32(l.batch * side * side * 3)}
			op.Section.WriteBytes(s.Bytes())
			op.Record(p)
			l.moved = float64(len(s.Bytes())) + op.Out.Bytes(op.Out.Len())
		}),
	}
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

// photographs reads a folder of JPEG files, as it is or packed, from the start with a new loader, as many workers as
// threads.
// raw leaves their crops as bytes.
func photographs(ctx context.Context, e *Env, pack *data.PackConfig, raw bool) (func() error, error) {
	dir := os.Getenv(imagesVariable)
	if dir == "" {
		return nil, errors.New("needs a folder of photographs: " + imagesVariable)
	}
	set, err := data.Open("imagenet:"+dir, data.Options{})
	if err != nil {
		return nil, err
	}
	e.close = append(e.close, func() { _ = set.Close() })
	if pack != nil {
		temporary, err := os.MkdirTemp("", "ctnas-bench")
		if err != nil {
			return nil, err
		}
		e.close = append(e.close, func() { _ = os.RemoveAll(temporary) })
		path := filepath.Join(temporary, "photographs.pack")
		if _, err := set.Pack(ctx, path, *pack); err != nil {
			return nil, err
		}
		if set, err = data.Open("imagenet:"+path, data.Options{}); err != nil {
			return nil, err
		}
		e.close = append(e.close, func() { _ = set.Close() })
	}
	return func() error {
		l, err := data.NewLoader(set.Train, data.Config{Batch: 32, Transform: set.TrainTransform(224), Train: true,
			Workers: max(1, e.Device.Threads), Raw: raw})
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
