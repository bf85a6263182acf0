package data

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// memory is a store of encoded files in memory.
type memory [][]byte

func (m memory) count() int                             { return len(m) }
func (m memory) label(int) int32                        { return 0 }
func (m memory) name(int) string                        { return "memory" }
func (m memory) read(i int, buf []byte) ([]byte, error) { return append(buf, m[i]...), nil }

func benchmark(b *testing.B, set *Set, c Config) {
	c.Train, c.Workers = true, 2
	l, err := NewLoader(set, c)
	require.NoError(b, err)
	defer l.Close()
	for b.Loop() {
		_, err := l.Next(context.Background())
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N*c.Batch)/b.Elapsed().Seconds(), "images/s")
}

// Photographs in memory to random crops of 224x224, mirrored and normalised, with two workers.
func BenchmarkPhotographs224(b *testing.B) {
	paths, err := filepath.Glob(filepath.Join(testdata.Path(b, "imagenet_sample"), "*.JPEG"))
	require.NoError(b, err)
	var files memory
	for _, p := range paths {
		f, err := os.ReadFile(p)
		require.NoError(b, err)
		files = append(files, f)
	}
	d := &Dataset{Mean: imageNetMean, Std: imageNetStd}
	b.Run(Decoder, func(b *testing.B) {
		benchmark(b, &Set{store: files}, Config{Batch: 32, Transform: d.TrainTransform(224)})
	})
}

func BenchmarkSmall(b *testing.B) {
	d := &Dataset{Width: 32, Height: 32, Mean: imageNetMean, Std: imageNetStd}
	benchmark(b, few(5000, 32), Config{Batch: 256, Transform: d.TrainTransform(32)})
}
