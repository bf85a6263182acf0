package trainer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// benchmarked are the networks that are compared with PyTorch, see cmd/ctnas/bench, and one of few channels.
var benchmarked = []struct {
	name  string
	batch int
	build func() (*nn.Network, error)
}{
	{"nasbench101_best", 8, benchmarkedCell("nasbench101:best", 128, 3)},
	{"nasbench101_inception", 8, benchmarkedCell("nasbench101:inception", 128, 3)},
	{"nasbench101_small", 32, benchmarkedCell("nasbench101:best", 8, 1)},
	{"mobilenetv3_large", 16, func() (*nn.Network, error) { return zoo.MobileNetV3Large(224, 1000) }},
	{"mobilenetv2_1.4", 16, func() (*nn.Network, error) { return zoo.MobileNetV2(1.4, 224, 1000) }},
}

func benchmarkedCell(text string, channels, modules int) func() (*nn.Network, error) {
	return func() (*nn.Network, error) {
		arch, err := space.NASBench101{}.Parse(text)
		if err != nil {
			return nil, err
		}
		return zoo.CellNetwork{Cell: arch.(space.Cell), Image: nn.Shape{H: 32, W: 32, C: 3}, Channels: channels,
			Stacks: 3, Modules: modules, Classes: 10}.Build()
	}
}

// BenchmarkStep is a training step on one thread, timed by the processor's clock, which other programs on the machine
// do not disturb.
func BenchmarkStep(b *testing.B) {
	for _, c := range benchmarked {
		b.Run(c.name, func(b *testing.B) {
			net, err := c.build()
			require.NoError(b, err)
			d, err := exec.Open(exec.Config{Threads: 1})
			require.NoError(b, err)
			defer d.Close()
			m, err := NewModel(d, net, Options{Batch: c.batch})
			require.NoError(b, err)
			defer m.Close()
			m.Initialize(nn.HeFanOut, 1)
			o, err := newOptimizer(m.Parameters, RecipeDefaults().Optimization)
			require.NoError(b, err)
			images, _ := kerneltest.Random(m.Images.Len(), 1)
			m.Images.WriteF32(0, images)
			m.Labels.WriteI32(0, make([]int32, c.batch))
			m.Step(0, 0)
			begin, steps := kerneltest.CPUSeconds(), 0
			for b.Loop() {
				m.Step(0, 0)
				o.update(0.01)
				steps++
			}
			seconds := (kerneltest.CPUSeconds() - begin) / float64(steps)
			b.ReportMetric(float64(c.batch)/seconds, "img/s(cpu)")
			b.ReportMetric(6*float64(net.Cost().MAdds)*float64(c.batch)/seconds/1e9, "GFLOP/s")
			b.ReportMetric(float64(m.Bytes())/1e6, "MB")
			b.ReportMetric(float64(m.peak)*4/1e6, "MB(placed)")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkLoop compares a training that loads its images with one over a batch that is held in memory: blocks of both
// in turns, a fresh loader for each block. It reports the speed with the loader as a share of that without, by the
// clock and by the processor's time. CTNAS_DEVICE names another device than the CPU.
func BenchmarkLoop(b *testing.B) {
	for _, c := range []struct {
		name   string
		batch  int
		source func(b *testing.B) string
		build  func() (*nn.Network, error)
	}{
		{"cifar/nasbench101_3x3_16", 64, func(*testing.B) string { return "shapes" }, func() (*nn.Network, error) {
			arch, err := space.NASBench101{}.Parse("nasbench101:3:111:0")
			if err != nil {
				return nil, err
			}
			return zoo.NASBench101(arch.(space.Cell), 16, 10)
		}},
		{"shards/mobilenetv3_large", 16, imageShards, func() (*nn.Network, error) {
			return zoo.MobileNetV3Large(224, 220)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := data.Open(c.source(b), data.Options{})
			require.NoError(b, err)
			defer func() { _ = d.Close() }()
			net, err := c.build()
			require.NoError(b, err)
			recipe := RecipeDefaults()
			recipe.Epochs, recipe.Batch, recipe.LR = 1<<19, c.batch, 1e-3
			r := newRun(Job{Net: net, Data: d, Recipe: recipe, OnNaN: OnNaNStop},
				Deps{Device: exec.Config{Device: os.Getenv("CTNAS_DEVICE")}})
			defer func() { require.NoError(b, r.close(nil)) }()
			_, err = r.open(b.Context())
			require.NoError(b, err)
			const block = 12
			updates := func() (clock, cpu float64) {
				begin, used := time.Now(), kerneltest.CPUSeconds()
				for range block {
					require.NoError(b, r.update(b.Context()))
				}
				return time.Since(begin).Seconds(), kerneltest.CPUSeconds() - used
			}
			first, err := r.feed.next(b.Context())
			require.NoError(b, err)
			held := first.Clone()
			r.feed.loader.Close()
			r.feed.next = func(context.Context) (*data.Batch, error) { return held, nil }
			updates()
			var sums [2][2]float64 // loaded, held: clock, processor
			for b.Loop() {
				r.feed.loader, err = data.NewLoader(d.Train,
					data.Config{Batch: c.batch, Transform: TrainTransform(d, recipe, net), Train: true,
						Raw: r.dev.Accelerated()})
				require.NoError(b, err)
				r.feed.next = r.feed.loader.Next
				clock, cpu := updates()
				r.feed.loader.Close()
				sums[0][0], sums[0][1] = sums[0][0]+clock, sums[0][1]+cpu
				r.feed.next = func(context.Context) (*data.Batch, error) { return held, nil }
				clock, cpu = updates()
				sums[1][0], sums[1][1] = sums[1][0]+clock, sums[1][1]+cpu
			}
			b.ReportMetric(float64(block*b.N*c.batch)/sums[0][1], "img/s(cpu)")
			b.ReportMetric(100*sums[1][0]/sums[0][0], "%held(clock)")
			b.ReportMetric(100*sums[1][1]/sums[0][1], "%held(cpu)")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// imageShards packs the sample of ImageNet's photographs into a tar file, as WebDataset does.
func imageShards(b *testing.B) string {
	files, err := filepath.Glob(filepath.Join(testdata.Path(b, "imagenet_sample"), "*.JPEG"))
	require.NoError(b, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for class, path := range files {
		image, err := os.ReadFile(path)
		require.NoError(b, err)
		key := fmt.Sprintf("%04d", class)
		for ext, content := range map[string][]byte{".jpg": image, ".cls": []byte(fmt.Sprint(class))} {
			require.NoError(b, w.WriteHeader(&tar.Header{Name: key + ext, Size: int64(len(content)), Mode: 0o644}))
			_, err = w.Write(content)
			require.NoError(b, err)
		}
	}
	require.NoError(b, w.Close())
	path := filepath.Join(b.TempDir(), "sample.tar")
	require.NoError(b, os.WriteFile(path, out.Bytes(), 0o644))
	return "shards:" + path
}
