package data

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/trainer/data/pack"
)

// album is a folder of images larger and smaller than 32 pixels, of all parts and of several formats.
func album(t testing.TB) string {
	dir := t.TempDir()
	for i := range 30 {
		class := filepath.Join("train", []string{"ant", "bee"}[i%2])
		write(t, filepath.Join(dir, class, fmt.Sprintf("%02d.jpg", i)), smooth(t, 20+7*i, 120-3*i))
	}
	write(t, filepath.Join(dir, "train", "bee", "tiny.png"), tiny(t, 9))
	write(t, filepath.Join(dir, "val", "bee", "large.png"), noisy(t, 70, 50))
	write(t, filepath.Join(dir, "test", "ant", "other.jpg"), smooth(t, 64, 200))
	return dir
}

func openAlbum(t testing.TB, spec string) *Dataset {
	t.Helper()
	d, err := Open("imagenet:"+spec, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// packOf packs a folder, as pixels where the program cannot encode.
func packOf(t testing.TB, dir string, c PackConfig) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pack")
	c.Side, c.Quality = 32, 90
	c.Raw = c.Raw || !encodes()
	p, err := openAlbum(t, dir).Pack(context.Background(), path, c)
	require.NoError(t, err)
	require.False(t, p.Was)
	return path
}

func encodes() bool {
	_, _, err := newEncoder(90)
	return err == nil
}

func contentOf(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// A packed set has the parts, classes and labels of its source, is one file for any number of workers, and another set.
func TestPack(t *testing.T) {
	dir := album(t)
	source := openAlbum(t, dir)
	for _, raw := range []bool{false, true} {
		path := packOf(t, dir, PackConfig{Raw: raw, Workers: 1})
		require.True(t, bytes.Equal(contentOf(t, path), contentOf(t, packOf(t, dir, PackConfig{Raw: raw, Workers: 5}))))
		d := openAlbum(t, path)
		require.Equal(t, "imagenet", d.Name)
		require.Equal(t, "imagenet, 32-pixel store", d.Source())
		require.Equal(t, source.Classes, d.Classes)
		require.Equal(t, source.Indexed, d.Indexed)
		for _, part := range splits {
			from, to := source.Part(part), d.Part(part)
			require.Equal(t, from.Len(), to.Len())
			for i := range from.Len() {
				require.Equal(t, from.Label(i), to.Label(i))
				pix, w, h, err := from.Image(i)
				require.NoError(t, err)
				small, sw, sh, err := to.Image(i)
				require.NoError(t, err)
				require.Len(t, small, 3*sw*sh)
				if min(w, h) <= 32 {
					require.Equal(t, []int{w, h}, []int{sw, sh})
					require.True(t, bytes.Equal(pix, small), "it stays as it is")
					continue
				}
				view, err := (&Transform{Size: 32, Resize: 32}).view(image.Pt(w, h), draws{})
				require.NoError(t, err)
				require.Equal(t, view.full, image.Pt(sw, sh), "the size that an evaluation resizes to")
			}
		}
		sum, err := d.Checksum(context.Background())
		require.NoError(t, err)
		other, err := source.Checksum(context.Background())
		require.NoError(t, err)
		require.NotEqual(t, other, sum)
		f, err := pack.Open(path)
		require.NoError(t, err)
		require.Equal(t, f.Checksum(), sum)
		require.Equal(t, other, f.Facts.Sum)
		require.NoError(t, f.Close())
		again, err := source.Pack(context.Background(), path, PackConfig{Side: 32, Quality: 90, Raw: raw || !encodes()})
		require.NoError(t, err)
		require.True(t, again.Was)
		require.Equal(t, sum, again.Checksum)
		_, err = source.Pack(context.Background(), path, PackConfig{Side: 31, Quality: 90, Raw: raw || !encodes()})
		require.ErrorContains(t, err, "with other settings")
		_, err = d.Pack(context.Background(), path+"2", PackConfig{Side: 32, Raw: true})
		require.ErrorContains(t, err, "holds no files of images")
	}
}

// The pixels of a raw store are those of the definition, rounded; an encoded one's are near.
func TestPackedPixels(t *testing.T) {
	dir := album(t)
	raw, other := openAlbum(t, packOf(t, dir, PackConfig{Raw: true})), openAlbum(t, packOf(t, dir, PackConfig{}))
	source := openAlbum(t, dir)
	for i := rand.IntN(4); i < source.Train.Len(); i += 4 {
		pix, w, h, err := source.Train.Image(i)
		require.NoError(t, err)
		small, sw, sh, err := raw.Train.Image(i)
		require.NoError(t, err)
		want := kernel.ResampleReference(kernel.Bilinear, pix, 3*w, 0, 0, w, h, sw, sh)
		for j, v := range want {
			require.LessOrEqual(t, math.Abs(v-float64(small[j])), 0.6, "image %d", i)
		}
		encoded, _, _, err := other.Train.Image(i)
		require.NoError(t, err)
		var sum float64
		for j := range small {
			sum += math.Abs(float64(small[j]) - float64(encoded[j]))
		}
		require.Less(t, sum/float64(len(small)), 4., "image %d", i)
	}
}

// A loader shows packed images in the order and with the random numbers of their source: of images that stayed as they
// are the same floats but for the resampling's error, and with any number of workers and from any position the same.
func TestPackedBatches(t *testing.T) {
	dir := t.TempDir()
	for i := range 13 {
		write(t, filepath.Join(dir, "train", "a", fmt.Sprintf("%02d.jpg", i)), smooth(t, 32+3*i, 32))
	}
	for _, raw := range []bool{false, true} {
		path := packOf(t, dir, PackConfig{Raw: raw})
		c := Config{Batch: 4, Transform: everything(24), Seed: rand.Uint64(), Train: true, Workers: 1}
		batches := func(spec string, at Position, n, workers int) []Batch {
			c.Start, c.Workers = at, workers
			l, err := NewLoader(openAlbum(t, spec).Train, c)
			require.NoError(t, err)
			defer l.Close()
			return take(t, l, n)
		}
		want := batches(dir, Position{}, 7, 1)
		got := batches(path, Position{}, 7, 1)
		for k := range want {
			require.Equal(t, want[k].Labels, got[k].Labels)
			for i, v := range want[k].Images {
				require.InDelta(t, v, got[k].Images[i], 0.005)
			}
		}
		require.Equal(t, got, batches(path, Position{}, 7, 4))
		require.Equal(t, got[4:], batches(path, got[4].Position, 3, 2))
	}
	source, packed := openAlbum(t, dir), openAlbum(t, packOf(t, dir, PackConfig{}))
	a, err := source.HeldOut(3)
	require.NoError(t, err)
	b, err := packed.HeldOut(3)
	require.NoError(t, err)
	require.Equal(t, a.Validation.index, b.Validation.index)
	require.Equal(t, a.Train.index, b.Train.index)
}

// What cannot be read ends the packing, or has a place of its own in the file, where it cannot be read either.
func TestPackCorruptImages(t *testing.T) {
	dir := album(t)
	bad := filepath.Join(dir, "train", "ant", "04.jpg")
	write(t, bad, contentOf(t, bad)[:200])
	path := filepath.Join(t.TempDir(), "x.pack")
	d := openAlbum(t, dir)
	c := PackConfig{Side: 32, Raw: true, Workers: 3}
	_, err := d.Pack(context.Background(), path, c)
	require.ErrorContains(t, err, filepath.Join("train", "ant", "04.jpg"))
	require.True(t, IsCorrupt(err))
	require.NoFileExists(t, path)
	var told []Corrupt
	c.OnCorrupt, c.Corrupt = OnCorrupt{Skip: true}, func(c Corrupt) { told = append(told, c) }
	p, err := d.Pack(context.Background(), path, c)
	require.NoError(t, err)
	require.Equal(t, 1, p.Corrupt)
	require.Len(t, told, 1)
	require.Equal(t, SplitTrain, told[0].Split)
	got := openAlbum(t, path)
	require.Equal(t, d.Train.Len(), got.Train.Len())
	_, _, _, err = got.Train.Image(told[0].Image)
	require.ErrorContains(t, err, fmt.Sprintf("x.pack train image %d at offset ", told[0].Image))
	require.ErrorContains(t, err, pack.Left)
	require.True(t, IsCorrupt(err))
	l, err := NewLoader(got.Train, Config{Batch: 31, Transform: Transform{Size: 8, Resize: 8, Std: unit}, Epochs: 1,
		OnCorrupt: OnCorrupt{Skip: true}})
	require.NoError(t, err)
	defer l.Close()
	b, err := l.Next(context.Background())
	require.NoError(t, err)
	require.Len(t, b.Corrupt, 1)
	require.EqualValues(t, -1, b.Labels[told[0].Image])
	c.OnCorrupt.Most = 1
	bad = filepath.Join(dir, "val", "bee", "large.png")
	write(t, bad, nil)
	_, err = openAlbum(t, dir).Pack(context.Background(), path+"2", c)
	require.ErrorContains(t, err, "2 images cannot be read, on-corrupt skip=1 allows 1")

	// A byte that changed later.
	text := contentOf(t, path)
	f, err := pack.Open(path)
	require.NoError(t, err)
	text[f.Entry(7).Offset+5]++
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(path, text, 0o644))
	_, _, _, err = openAlbum(t, path).Train.Image(7)
	require.ErrorContains(t, err, "damaged: the sum of its")
	require.True(t, IsCorrupt(err))
}

// What is stopped goes on, and ends in the same bytes.
func TestPackGoesOn(t *testing.T) {
	dir := album(t)
	want := contentOf(t, packOf(t, dir, PackConfig{}))
	path := filepath.Join(t.TempDir(), "x.pack")
	c := PackConfig{Side: 32, Quality: 90, Raw: !encodes(), Workers: 3}
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		steps := rand.IntN(12)
		first := -1
		c.Progress = func(done, _ int) {
			if first < 0 {
				first = done
			}
			if done >= first+steps {
				cancel()
			}
		}
		_, err := openAlbum(t, dir).Pack(ctx, path, c)
		require.ErrorIs(t, err, context.Canceled)
		require.NoFileExists(t, path)
		cancel()
	}
	c.Progress = func(done, _ int) { require.Greater(t, done, 3, "it goes on from where it was") }
	_, err := openAlbum(t, dir).Pack(context.Background(), path, c)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, contentOf(t, path)))
}

// An image that changes between the checksum and its packing is noticed.
func TestPackedSourceChanges(t *testing.T) {
	dir := album(t)
	for _, change := range []func(path string){
		func(path string) { write(t, path, smooth(t, 33, 34)) },
		func(path string) { require.NoError(t, os.Remove(path)) },
	} {
		d := openAlbum(t, dir)
		c := PackConfig{Side: 32, Raw: true, OnCorrupt: OnCorrupt{Skip: true}, Workers: 1}
		c.Progress = func(done, _ int) {
			if done == 1 {
				change(filepath.Join(dir, "train", "bee", "29.jpg"))
			}
		}
		_, err := d.Pack(context.Background(), filepath.Join(t.TempDir(), "x.pack"), c)
		require.ErrorContains(t, err, filepath.Join("train", "bee", "29.jpg"))
		require.False(t, IsCorrupt(err), err)
	}
}

// What is no pack is told by name.
func TestOpenPackedRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	write(t, path, tiny(t, 3))
	_, err := Open("imagenet:"+path, Options{})
	require.ErrorContains(t, err, path+": not a file of `ctnas data pack`: it starts with ")
}

// How far what an evaluation at 224 pixels shows of packed photographs is from what it shows of the originals, before
// normalisation, in levels of 255.
func TestPackedPhotographs(t *testing.T) {
	source := openAlbum(t, testdata.Path(t, "imagenet_sample"))
	every := 5
	if testdata.All() {
		every = 1
	}
	show := func(d *Dataset) []float32 {
		var some []int
		for i := 0; i < d.Train.Len(); i += every {
			some = append(some, i)
		}
		tr := d.EvalTransform(224)
		tr.Mean, tr.Std = [3]float32{}, [3]float32{1. / 255, 1. / 255, 1. / 255}
		l, err := NewLoader(d.Train.subset(some), Config{Batch: len(some), Transform: tr, Epochs: 1})
		require.NoError(t, err)
		defer l.Close()
		b, err := l.Next(context.Background())
		require.NoError(t, err)
		return b.Images
	}
	want := show(source)
	for _, c := range []struct {
		raw  bool
		psnr float64 // of the median image, at least
	}{{true, 55}, {false, 36}} {
		if !c.raw && !encodes() {
			continue
		}
		path := filepath.Join(t.TempDir(), "x.pack")
		_, err := source.Pack(context.Background(), path, PackConfig{Side: 256, Quality: 90, Raw: c.raw})
		require.NoError(t, err)
		got := show(openAlbum(t, path))
		var each []float64
		for i := 0; i < len(want); i += 224 * 224 * 3 {
			var sum float64
			for j := range 224 * 224 * 3 {
				off := float64(want[i+j] - got[i+j])
				sum += off * off
			}
			each = append(each, 10*math.Log10(255*255/(sum/(224*224*3)+1e-9)))
		}
		slices.Sort(each)
		median := each[len(each)/2]
		t.Logf("raw %v: PSNR %.1f dB of the median image, %.1f of the worst, %.1f of a tenth", c.raw, median, each[0],
			each[len(each)/10])
		require.Greater(t, median, c.psnr)
		require.Greater(t, each[0], c.psnr-15)
	}
}
