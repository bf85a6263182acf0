package data

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ctnas/ctnas/internal/testdata"
)

// memory is a store of encoded files in memory.
type memory [][]byte

func (m memory) count() int                             { return len(m) }
func (m memory) label(int) int32                        { return 0 }
func (m memory) name(int) string                        { return "memory" }
func (m memory) stamp(int) stamp                        { return stamp{unavailable: true} }
func (m memory) read(i int, buf []byte) ([]byte, error) { return append(buf, m[i]...), nil }

func benchmark(b *testing.B, set *Set, c Config) {
	c.Train, c.Workers = true, 2
	l, err := NewLoader(set, c)
	require.NoError(b, err)
	defer l.Close()
	before := processorTime(b)
	for b.Loop() {
		_, err := l.Next(context.Background())
		require.NoError(b, err)
	}
	images := float64(b.N * c.Batch)
	b.ReportMetric(images/b.Elapsed().Seconds(), "images/s")
	b.ReportMetric((processorTime(b)-before).Seconds()*1e6/images, "cpu-µs/image")
}

// processorTime is what this process has taken of all processors: what other programs do changes it little.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// packedPhotographs are the same in a packed set.
func packedPhotographs(b *testing.B, raw bool) *Set {
	source, err := Open("imagenet:"+testdata.Path(b, "imagenet_sample"), Options{})
	require.NoError(b, err)
	defer source.Close()
	path := filepath.Join(b.TempDir(), "x.pack")
	_, err = source.Pack(b.Context(), path, PackConfig{Side: 256, Quality: 90, Raw: raw})
	require.NoError(b, err)
	d, err := Open("imagenet:"+path, Options{})
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })
	return d.Train
}

// photographs are ImageNet's, in memory.
func photographs(b *testing.B) *Set {
	paths, err := filepath.Glob(filepath.Join(testdata.Path(b, "imagenet_sample"), "*.JPEG"))
	require.NoError(b, err)
	var files memory
	for _, p := range paths {
		f, err := os.ReadFile(p)
		require.NoError(b, err)
		files = append(files, f)
	}
	return &Set{store: files}
}

// of224 measures random crops of photographs: the originals in memory, and packed sets.
func of224(b *testing.B, raw bool) {
	d := &Dataset{Mean: imageNetMean, Std: imageNetStd}
	for _, c := range []struct {
		name string
		set  func() *Set
	}{
		{"originals", func() *Set { return photographs(b) }},
		{"packed", func() *Set { return packedPhotographs(b, false) }},
		{"packed-raw", func() *Set { return packedPhotographs(b, true) }},
	} {
		set := c.set()
		b.Run(c.name, func(b *testing.B) {
			benchmark(b, set, Config{Batch: 32, Transform: d.TrainTransform(224), Raw: raw})
		})
	}
}

// Photographs to random crops of 224x224, mirrored and normalised, with two workers.
func BenchmarkPhotographs224(b *testing.B) { of224(b, false) }

// What such crops show, as bytes with what was drawn: what the processor does where a GPU does the rest.
func BenchmarkRegions224(b *testing.B) { of224(b, true) }

// The middles of photographs at 224x224: decoded to bytes with two workers, and made floats by one.
func BenchmarkDecoded224(b *testing.B) {
	set := photographs(b)
	d := &Dataset{Mean: imageNetMean, Std: imageNetStd}
	var decoded *Decoded
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			var err error
			decoded, err = Decode(context.Background(), set, DecodeConfig{Transform: d.EvalTransform(224), Workers: 2})
			require.NoError(b, err)
		}
		b.ReportMetric(float64(b.N*set.Len())/b.Elapsed().Seconds(), "images/s")
	})
	b.Run("batch", func(b *testing.B) {
		const batch = 32
		images, labels := make([]float32, batch*224*224*3), make([]int32, batch)
		for b.Loop() {
			decoded.Batch(0, images, labels)
		}
		b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "images/s")
	})
}

func BenchmarkSmall(b *testing.B) {
	d := &Dataset{Width: 32, Height: 32, Mean: imageNetMean, Std: imageNetStd}
	benchmark(b, few(5000, 32), Config{Batch: 256, Transform: d.TrainTransform(32)})
}

// The checksum of 20,000 files of 16 KB in 100 folders that the system holds in memory: read for the first time, and
// with a manifest.
func BenchmarkChecksum(b *testing.B) {
	dir, kept := b.TempDir(), b.TempDir()
	text := make([]byte, 16<<10)
	for c := range 100 {
		folder := filepath.Join(dir, "train", fmt.Sprintf("class%02d", c))
		require.NoError(b, os.MkdirAll(folder, 0o755))
		for i := range 200 {
			_, _ = rand.Read(text) // never fails
			require.NoError(b, os.WriteFile(filepath.Join(folder, fmt.Sprintf("%03d.jpg", i)), text, 0o644))
		}
	}
	checksum := func(b *testing.B, manifests string) {
		d, err := Open("imagenet:"+dir, Options{Manifests: manifests})
		require.NoError(b, err)
		d.identity.now = func() time.Time { return time.Now().Add(time.Hour) }
		_, err = d.Checksum(b.Context())
		require.NoError(b, err)
	}
	images := func(b *testing.B) { b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "images/s") }
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			_, err := Open("imagenet:"+dir, Options{})
			require.NoError(b, err)
		}
		images(b)
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			checksum(b, "")
		}
		images(b)
	})
	checksum(b, kept)
	b.Run("manifest", func(b *testing.B) {
		for b.Loop() {
			checksum(b, kept)
		}
		images(b)
	})
}
