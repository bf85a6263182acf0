package data

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// loaded are the images that a loader gives for a set.
func loaded(t *testing.T, set *Set, tr Transform, seed uint64) []float32 {
	t.Helper()
	l, err := NewLoader(set, Config{Batch: set.Len(), Transform: tr, Seed: seed, Epochs: 1})
	require.NoError(t, err)
	defer l.Close()
	return take(t, l, 1)[0].Images
}

// fed are all images of d, which must be those of one batch.
func fed(t *testing.T, d *Decoded) []float32 {
	t.Helper()
	images, labels := make([]float32, d.Len()*3*d.Side*d.Side), make([]int32, d.Len())
	require.Equal(t, d.Len(), d.Batch(0, images, labels))
	for i, label := range labels {
		require.EqualValues(t, d.Label(i), label)
	}
	return images
}

// Where nothing is resized a network gets the floats of a loader, to the bit; otherwise those of values that are
// rounded to whole levels. Neither depends on the number of workers.
func TestDecodedAsLoaded(t *testing.T) {
	ctx := context.Background()
	files, _ := photos(t, 9)
	mean, std := imageNetMean, imageNetStd
	random := Transform{Size: 20, Crop: CropRandomResized, Flip: true, Mean: mean, Std: std}
	padded := Transform{Size: 12, Crop: CropPadded, Pad: 2, Flip: true, Mean: mean, Std: std}
	jittered := random
	jittered.Jitter = SupernetJitter
	for name, c := range map[string]struct {
		set   *Set
		t     Transform
		exact bool
	}{
		"pixels":       {few(33, 12), Transform{Size: 12, Mean: mean, Std: std}, true},
		"padded":       {few(33, 12), padded, true},
		"middles":      {files, Transform{Size: 20, Resize: 23, Mean: mean, Std: std}, false},
		"small pixels": {few(7, 12), Transform{Size: 20, Resize: 23, Mean: mean, Std: std}, false},
		"calibration":  {files, random, false},
		"colours":      {files, jittered, false},
	} {
		want := loaded(t, c.set, c.t, 5)
		var first *Decoded
		for _, workers := range []int{1, 3} {
			total := 0
			d, err := Decode(ctx, c.set, DecodeConfig{Transform: c.t, Seed: 5, Workers: workers,
				Progress: func(done, of int) {
					require.Equal(t, c.set.Len(), of)
					require.Greater(t, done, total)
					total = done
				}})
			require.NoError(t, err)
			require.Equal(t, c.set.Len(), total)
			require.Empty(t, d.Corrupt)
			require.EqualValues(t, c.set.Len()*(3*c.t.Size*c.t.Size+4), d.Bytes())
			if first == nil {
				first = d
			}
			require.Equal(t, first, d)
		}
		got := fed(t, first)
		if c.exact {
			require.Equal(t, want, got, name)
			continue
		}
		off := 0.0
		for i, v := range want {
			off = max(off, 255*math.Abs(float64(got[i]-v))*float64(std[i%3]))
		}
		require.InDelta(t, 0.5, off, 0.05, "%s: levels are rounded to the nearest", name)
	}
}

// What is random of an image depends on the seed and the image, not on what else the set holds.
func TestDecodedIsSeeded(t *testing.T) {
	files, _ := photos(t, 6)
	c := DecodeConfig{Transform: Transform{Size: 10, Crop: CropRandomResized, Jitter: SupernetJitter, Std: unit},
		Seed: 1}
	all, err := Decode(context.Background(), files, c)
	require.NoError(t, err)
	part, err := Decode(context.Background(), files.subset([]int{4, 1}), c)
	require.NoError(t, err)
	const n = 3 * 10 * 10
	require.Equal(t, all.pix[4*n:5*n], part.pix[:n])
	require.Equal(t, all.pix[n:2*n], part.pix[n:])
	c.Seed = 2
	other, err := Decode(context.Background(), files, c)
	require.NoError(t, err)
	require.NotEqual(t, all.pix[:n], other.pix[:n])
}

func TestDecodedBatches(t *testing.T) {
	d, err := Decode(context.Background(), few(5, 2), DecodeConfig{Transform: Transform{Size: 2, Std: unit}})
	require.NoError(t, err)
	all := fed(t, d)
	require.Equal(t, 3, d.Batches(2))
	images, labels := make([]float32, 2*12), []int32{7, 7}
	for k, want := range [][]int32{{0, 1}, {2, 3}, {4, -1}} {
		for i := range images {
			images[i] = 9
		}
		n := d.Batch(k, images, labels)
		require.Equal(t, want, labels)
		require.Equal(t, all[k*24:k*24+12*n], images[:12*n])
		require.Equal(t, make([]float32, 24-12*n), images[12*n:])
	}
	require.Panics(t, func() { d.Batch(3, images, labels) })
	require.Panics(t, func() { d.Batch(0, images[:12], labels) })
}

// A full batch has the first images of the set behind the last one, without labels.
func TestFullBatches(t *testing.T) {
	d, err := Open("shapes", Options{})
	require.NoError(t, err)
	const size, one = 4, 3 * 8 * 8
	for _, c := range []struct {
		images, batch, n int
		from             []int // of the set's images
	}{{5, 1, 1, []int{4, 0, 1, 2}}, {4, 0, 4, []int{0, 1, 2, 3}}, {2, 0, 2, []int{0, 1, 0, 1}}} {
		set, err := d.Train.Drawn(c.images, 1)
		require.NoError(t, err)
		decoded, err := Decode(t.Context(), set, DecodeConfig{Transform: d.EvalTransform(8)})
		require.NoError(t, err)
		all, images, labels := fed(t, decoded), make([]float32, size*one), make([]int32, size)
		for i := range images {
			images[i] = float32(math.NaN())
		}
		require.Equal(t, c.n, decoded.Full(c.batch, images, labels))
		for i, from := range c.from {
			require.Equal(t, all[from*one:][:one], images[i*one:][:one], "image %d", i)
			require.Equal(t, i >= c.n, labels[i] < 0, "label %d", i)
		}
	}
}

func TestDecodeCorruptImages(t *testing.T) {
	set, dir := photos(t, 8)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p03.jpg"), []byte("no image"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "p05.jpg")))
	c := DecodeConfig{Transform: Transform{Size: 16, Resize: 16, Std: unit}}
	_, err := Decode(context.Background(), set, c)
	require.ErrorContains(t, err, "p03.jpg")
	require.True(t, IsCorrupt(err))
	c.OnCorrupt = OnCorrupt{Skip: true, Most: 1}
	_, err = Decode(context.Background(), set, c)
	require.ErrorContains(t, err, "2 images cannot be read, on-corrupt skip=1 allows 1: p03.jpg")
	c.OnCorrupt.Most = 2
	d, err := Decode(context.Background(), set, c)
	require.NoError(t, err)
	require.Equal(t, []int32{0, 1, 2, 4, 6, 7}, d.labels)
	require.Equal(t, []int{3, 5}, []int{d.Corrupt[0].Image, d.Corrupt[1].Image})
	good, err := Decode(context.Background(), set.subset([]int{0, 1, 2, 4, 6, 7}), c)
	require.NoError(t, err)
	require.Equal(t, good.pix, d.pix)
	_, err = Decode(context.Background(), set.subset([]int{3, 5}), DecodeConfig{Transform: c.Transform,
		OnCorrupt: OnCorrupt{Skip: true}})
	require.ErrorContains(t, err, "none of the 2 images can be read")
}

func TestDecodeRefuses(t *testing.T) {
	ctx := context.Background()
	tr := Transform{Size: 4, Std: unit}
	_, err := Decode(ctx, few(10, 4), DecodeConfig{Transform: tr, Memory: 519})
	require.EqualError(t, err, "10 images of 4 pixels take 520 bytes of memory, 519 are allowed")
	d, err := Decode(ctx, few(10, 4), DecodeConfig{Transform: tr, Memory: 520})
	require.NoError(t, err)
	require.EqualValues(t, 520, d.Bytes())
	_, err = Decode(ctx, &Set{}, DecodeConfig{Transform: tr})
	require.ErrorContains(t, err, "empty")
	tr.Cutout = 2
	_, err = Decode(ctx, few(10, 4), DecodeConfig{Transform: tr})
	require.ErrorContains(t, err, "cutout")
	tr.Cutout = 0
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Decode(ended, few(10, 4), DecodeConfig{Transform: tr})
	require.ErrorIs(t, err, context.Canceled)
}

// Sides decodes a side once, whoever asks for it, and keeps as many as fit.
func TestSides(t *testing.T) {
	ctx := context.Background()
	var mu sync.Mutex
	var made []int
	transform := func(side int) Transform {
		mu.Lock()
		defer mu.Unlock()
		made = append(made, side)
		return Transform{Size: side, Resize: side + 1, Std: unit}
	}
	s := NewSides(few(10, 8), transform, DecodeConfig{Memory: 10 * (3*(36+25) + 8)}) // of 6 and 5 pixels
	at := func(side int) {
		t.Helper()
		d, err := s.At(ctx, side)
		require.NoError(t, err)
		require.Equal(t, side, d.Side)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if d, err := s.At(ctx, 6); err != nil || d.Side != 6 {
				t.Error(d, err)
			}
		})
	}
	wait.Wait()
	at(5)
	at(6)
	require.Equal(t, []int{6, 5}, made)
	require.EqualValues(t, 10*(3*(36+25)+8), s.Bytes())
	at(4) // 5 was used longest ago
	at(6)
	at(5) // in place of 4
	require.Equal(t, []int{6, 5, 4, 5}, made)

	// Whoever gives up leaves the work to others.
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.At(ended, 3)
	require.ErrorIs(t, err, context.Canceled)
	at(3)
	// An error is told again to whoever asks again, and nothing is kept.
	for range 2 {
		_, err = s.At(ctx, 8)
		require.ErrorContains(t, err, "10 images of 8 pixels take")
	}
	require.False(t, slices.ContainsFunc(s.kept, func(p *sided) bool { return p.side == 8 }))
}
