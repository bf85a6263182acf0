package data

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	kernel "github.com/ctnas/ctnas/kernels/image"
)

// developed are the images of raw batches, each [Batch, Side, Side, 3].
func developed(t *testing.T, l *Loader, batches []Batch) [][]float32 {
	d, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	defer d.Close()
	a := d.NewArena()
	defer a.Free()
	r := l.Regions()
	r.Section = a.I32(kernel.SectionBytes(r.Images, r.Size) / 4)
	r.Out = a.F32(r.Images * r.Size * r.Size * 3)
	p := a.NewProgram("regions")
	r.Record(p)
	var all [][]float32
	for _, b := range batches {
		require.Nil(t, b.Images)
		require.Len(t, b.Raw, l.shards())
		var images []float32
		for _, part := range b.Raw {
			r.Section.WriteBytes(part)
			p.Run(1)
			images = append(images, r.Out.Values()[:r.Images*b.Side*b.Side*3]...)
		}
		all = append(all, images)
	}
	return all
}

// A raw loader's batches are another one's but for rounding: labels, partners, sides, images, with every step of a
// transform, any number of workers, and from any position on.
func TestRawBatches(t *testing.T) {
	files, _ := photos(t, 11)
	padded := everything(12)
	padded.Crop, padded.Pad = CropPadded, 3
	var large memory // that JPEG's decoder reduces, and PNG's does not
	for i := range 7 {
		large = append(large, smooth(t, 150+60*i, 400-20*i))
	}
	large = append(large, noisy(t, 90, 110), noisy(t, 30, 41))
	plain := func(t Transform) Transform {
		t.Jitter = Jitter{}
		return t
	}
	album := album(t)
	pack := func(raw bool) *Set { return openAlbum(t, packOf(t, album, PackConfig{Raw: raw})).Train }
	eval := func(size, resize int) Transform {
		return Transform{Size: size, Resize: resize, Mean: imageNetMean, Std: imageNetStd}
	}
	cubic := eval(24, 26)
	cubic.Filter = kernel.Bicubic
	const exact, coloured, whole = 2e-4, 2e-3, 0.3 // levels of 255
	for name, c := range map[string]struct {
		set *Set
		c   Config
		tol float64
	}{
		"files":         {files, Config{Batch: 3, Transform: plain(everything(24)), Train: true}, exact},
		"files colours": {files, Config{Batch: 3, Transform: everything(24), Train: true}, coloured},
		"files mixup":   {files, Config{Batch: 5, Transform: everything(24), Train: true, Mixup: 0.2}, coloured},
		"shards mixup": {files, Config{Batch: 6, Transform: everything(24), Train: true, Mixup: 1, Shards: 2},
			coloured},
		"pixels":           {few(90, 12), Config{Batch: 40, Transform: padded, Train: true}, coloured},
		"pixels mixup":     {few(90, 12), Config{Batch: 41, Transform: plain(padded), Train: true, Mixup: 1}, exact},
		"pixels in middle": {few(9, 12), Config{Batch: 4, Transform: eval(8, 0)}, exact},
		"pixels smaller":   {few(9, 40), Config{Batch: 4, Transform: plain(everything(7)), Train: true}, exact},
		"sides": {files, Config{Batch: 4, Transform: everything(24), Sides: []int{12, 17, 24}, Train: true, Shards: 2},
			coloured},
		"evaluation":   {files, Config{Batch: 4, Transform: eval(24, 28)}, exact},
		"cubic":        {files, Config{Batch: 4, Transform: cubic}, exact},
		"large":        {&Set{store: large}, Config{Batch: 4, Transform: plain(everything(16)), Train: true}, exact},
		"much smaller": {&Set{store: large}, Config{Batch: 4, Transform: eval(8, 9)}, exact},
		"packed":       {pack(false), Config{Batch: 4, Transform: plain(everything(24)), Train: true}, whole},
		"packed raw":   {pack(true), Config{Batch: 4, Transform: plain(everything(24)), Train: true}, whole},
	} {
		c.c.Seed = 5
		const n = 5
		var want []Batch
		var images [][]float32
		for _, workers := range []int{0, 1, 4} {
			c.c.Workers, c.c.Raw = workers, workers > 0
			l, err := NewLoader(c.set, c.c)
			require.NoError(t, err)
			got := take(t, l, n)
			position := l.Position()
			if !c.c.Raw {
				want = got
				l.Close()
				continue
			}
			made := developed(t, l, got)
			l.Close()
			if images == nil {
				images = made
			}
			require.Equal(t, images, made, "%s with %d workers", name, workers)
			for k := range got {
				bytes := 0
				for _, part := range got[k].Raw {
					bytes += len(part)
				}
				require.LessOrEqual(t, bytes, c.c.RawBytes(), name)
				require.Len(t, made[k], len(want[k].Images))
				for i, v := range want[k].Images {
					off := math.Abs(float64(v-made[k][i])) * 255 * float64(c.c.Transform.Std[i%3])
					if !(off <= c.tol) {
						t.Fatalf("%s, batch %d, number %d: %g, want %g, off by %g levels", name, k, i, made[k][i], v,
							off)
					}
				}
				one := want[k]
				got[k].Raw, one.Images = nil, nil
				require.Equal(t, one, got[k], name)
			}
			c.c.Start = want[n-2].Position
			if l, err = NewLoader(c.set, c.c); err == nil {
				require.Equal(t, images[n-2:], developed(t, l, take(t, l, 2)), "%s from the end", name)
				require.Equal(t, position, l.Position())
				l.Close()
			}
			require.NoError(t, err)
			c.c.Start = Position{}
		}
	}
}

// What cannot be read is left out of raw batches as of others.
func TestRawCorruptImages(t *testing.T) {
	set, dir := photos(t, 9)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p04.jpg"), []byte("nothing"), 0o644))
	skip := OnCorrupt{Skip: true}
	tr := Transform{Size: 20, Resize: 24, Mean: imageNetMean, Std: imageNetStd}
	for _, train := range []bool{false, true} {
		var want []Batch
		for _, raw := range []bool{false, true} {
			l, err := NewLoader(set, Config{Batch: 4, Transform: tr, Train: train, OnCorrupt: skip, Raw: raw,
				Workers: 2})
			require.NoError(t, err)
			got := take(t, l, 2)
			if !raw {
				want = got
				l.Close()
				continue
			}
			images := developed(t, l, got)
			l.Close()
			for k := range got {
				require.Equal(t, want[k].Labels, got[k].Labels)
				require.Equal(t, want[k].Corrupt, got[k].Corrupt)
				require.InDeltaSlice(t, want[k].Images, images[k], 1e-5)
				for i, label := range got[k].Labels {
					if label < 0 {
						require.Equal(t, make([]float32, 20*20*3), images[k][i*1200:(i+1)*1200])
					}
				}
			}
		}
		require.Equal(t, !train, slices.Contains(append(want[0].Labels, want[1].Labels...), -1))
	}
	l, err := NewLoader(set, Config{Batch: 9, Transform: tr, Raw: true})
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(t.Context())
	require.ErrorContains(t, err, "p04.jpg")
}

// Raw batches lie in the caller's memory, and the place of one is not written while the caller holds it.
func TestRawMemory(t *testing.T) {
	c := Config{Batch: 4, Transform: Transform{Size: 4, Std: unit}, Train: true, Raw: true, Shards: 2}
	c.Memory = [][]byte{make([]byte, c.RawBytes()), make([]byte, c.RawBytes())}
	l, err := NewLoader(few(23, 4), c)
	require.NoError(t, err)
	defer l.Close()
	for k := range 9 {
		b, err := l.Next(context.Background())
		require.NoError(t, err)
		require.Same(t, &c.Memory[k%2][0], &b.Raw[0][0])
		require.Same(t, &c.Memory[k%2][c.RawBytes()/2], &b.Raw[1][0])
		before := slices.Concat(b.Raw...)
		next := <-l.ready // what is prepared meanwhile goes to the other place
		<-next.done
		require.Equal(t, before, slices.Concat(b.Raw...))
		next.done <- struct{}{}
		l.ready <- next
	}
	c.Memory = [][]byte{make([]byte, 64)}
	_, err = NewLoader(few(23, 4), c)
	require.ErrorContains(t, err, fmt.Sprintf("memory of 64 bytes for a raw batch, want %d", c.RawBytes()))
	c.Raw = false
	_, err = NewLoader(few(23, 4), c)
	require.ErrorContains(t, err, "memory of raw batches for others")
}
