package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	kernel "github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
)

// few is a small set of pixels.
func few(n, side int) *Set {
	s := philox.New(8, philox.PurposeTest, 0)
	p := &pixels{"few", side, side, make([]byte, n*side*side*3), make([]int32, n)}
	for i := range p.pix {
		p.pix[i] = byte(s.Uint32())
	}
	for i := range p.labels {
		p.labels[i] = int32(i)
	}
	return &Set{store: p}
}

// photos is a folder of JPEG files of several sizes, labels 0..n-1.
func photos(t testing.TB, n int) (*Set, string) {
	dir := t.TempDir()
	var list bytes.Buffer
	list.WriteString("file,class_index\n")
	for i := range n {
		name := fmt.Sprintf("p%02d.jpg", i)
		write(t, filepath.Join(dir, name), smooth(t, 40+7*i, 90-3*i))
		fmt.Fprintf(&list, "%s,%d\n", name, i)
	}
	write(t, filepath.Join(dir, "labels.csv"), list.Bytes())
	d, err := Open("imagenet:"+dir, Options{})
	require.NoError(t, err)
	return d.Train, dir
}

var unit = [3]float32{1, 1, 1}

func everything(size int) Transform {
	return Transform{Size: size, Crop: CropRandomResized, Flip: true, Jitter: Jitter{0.4, 0.4, 0.4}, Cutout: size / 4,
		Mean: imageNetMean, Std: imageNetStd}
}

// take copies the next n batches.
func take(t testing.TB, l *Loader, n int) []Batch {
	t.Helper()
	var out []Batch
	for range n {
		at := l.Position()
		b, err := l.Next(context.Background())
		require.NoError(t, err)
		require.Equal(t, at, b.Position)
		out = append(out, *b.Clone())
	}
	return out
}

// The same batches to the bit with any number of workers, and from any position on.
func TestBatchesAreAFunctionOfPosition(t *testing.T) {
	files, _ := photos(t, 11)
	padded := everything(12)
	padded.Crop, padded.Pad = CropPadded, 3
	for name, c := range map[string]struct {
		set *Set
		c   Config
	}{
		"files":        {files, Config{Batch: 3, Transform: everything(24), Seed: 5, Train: true}},
		"files mixup":  {files, Config{Batch: 5, Transform: everything(24), Seed: 5, Train: true, Mixup: 0.2}},
		"pixels":       {few(90, 12), Config{Batch: 40, Transform: padded, Seed: 6, Train: true}},
		"pixels mixup": {few(90, 12), Config{Batch: 41, Transform: padded, Seed: 6, Train: true, Mixup: 1}},
		"sides": {files, Config{Batch: 3, Transform: everything(24), Sides: []int{12, 16, 20, 24}, Seed: 5,
			Train: true}},
		"sides mixup": {files, Config{Batch: 4, Transform: everything(24), Sides: []int{12, 24}, Seed: 5,
			Train: true, Mixup: 0.2}},
		"evaluation": {files, Config{Batch: 4, Transform: Transform{Size: 24, Resize: 28, Std: unit}}},
	} {
		const n = 7
		var want []Batch
		for _, workers := range []int{1, 4} {
			c.c.Workers = workers
			l, err := NewLoader(c.set, c.c)
			require.NoError(t, err)
			got := take(t, l, n)
			position := l.Position()
			l.Close()
			if want == nil {
				want = got
			}
			require.Equal(t, want, got, "%s with %d workers", name, workers)
			require.Equal(t, Position{n / l.Batches(), n % l.Batches()}, position)
		}
		for k := range want {
			c.c.Start = want[k].Position
			l, err := NewLoader(c.set, c.c)
			require.NoError(t, err)
			require.Equal(t, want[k:], take(t, l, n-k), "%s from batch %d", name, k)
			l.Close()
		}
		c.c.Start = Position{}
		if c.c.Train {
			c.c.Seed++
			l, err := NewLoader(c.set, c.c)
			require.NoError(t, err)
			require.NotEqual(t, want[0].Images, take(t, l, 1)[0].Images)
			l.Close()
		}
	}
}

// A batch's side is that of its number, which counts on through the epochs; the largest one's images are those of a
// loader without sides, and every side comes up as often as others.
func TestSidesOfBatches(t *testing.T) {
	set, _ := photos(t, 11)
	sides := []int{8, 12, 16, 20, 24}
	c := Config{Batch: 3, Transform: everything(24), Seed: 5, Train: true}
	plain, err := NewLoader(set, c)
	require.NoError(t, err)
	defer plain.Close()
	c.Sides = sides
	l, err := NewLoader(set, c)
	require.NoError(t, err)
	defer l.Close()
	met := map[int]bool{}
	for k, want := range take(t, plain, 12) {
		got := take(t, l, 1)[0]
		require.Equal(t, SideOf(5, uint64(k), sides), got.Side)
		require.Len(t, got.Images, 3*got.Side*got.Side*3)
		require.Equal(t, want.Labels, got.Labels, "the order of images does not depend on sides")
		require.Equal(t, 24, want.Side)
		require.Equal(t, got.Side == 24, slices.Equal(want.Images, got.Images))
		met[got.Side] = true
	}
	require.Len(t, met, 5)
	counts := map[int]int{}
	for k := range uint64(5000) {
		counts[SideOf(7, k, sides)]++
	}
	for _, side := range sides {
		require.InDelta(t, 1000, counts[side], 4*math.Sqrt(1000))
	}
}

// Every image once an epoch, in another order each time; evaluation in the set's order with a short last batch.
func TestEpochs(t *testing.T) {
	set := few(23, 4)
	plain := Transform{Size: 4, Std: unit}
	l, err := NewLoader(set, Config{Batch: 5, Transform: plain, Train: true, Epochs: 3})
	require.NoError(t, err)
	defer l.Close()
	require.Equal(t, 4, l.Batches())
	var orders [3][]int32
	for _, b := range take(t, l, 12) {
		require.Equal(t, 5, b.N)
		require.Equal(t, float32(1), b.Weight)
		orders[b.Epoch] = append(orders[b.Epoch], b.Labels...)
	}
	for e, o := range orders {
		require.NotEqual(t, orders[(e+1)%3], o)
		sorted := slices.Clone(o)
		slices.Sort(sorted)
		require.Len(t, slices.Compact(sorted), 20)
	}
	_, err = l.Next(context.Background())
	require.ErrorIs(t, err, io.EOF)

	l, err = NewLoader(set.subset([]int{20, 3, 7, 9}), Config{Batch: 3, Transform: plain, Epochs: 1})
	require.NoError(t, err)
	defer l.Close()
	got := take(t, l, 2)
	require.Equal(t, []int32{20, 3, 7}, got[0].Labels)
	require.Equal(t, []int32{9, -1, -1}, got[1].Labels)
	require.Equal(t, 1, got[1].N)
	require.Equal(t, make([]float32, 2*4*4*3), got[1].Images[4*4*3:], "places without an image are zero")
	_, err = l.Next(context.Background())
	require.ErrorIs(t, err, io.EOF)
}

func TestCorruptImages(t *testing.T) {
	set, dir := photos(t, 8)
	good, err := os.ReadFile(filepath.Join(dir, "p03.jpg"))
	require.NoError(t, err)
	write(t, filepath.Join(dir, "p03.jpg"), good[:len(good)/3])
	require.NoError(t, os.Remove(filepath.Join(dir, "p05.jpg")))
	c := Config{Batch: 4, Transform: Transform{Size: 16, Resize: 16, Std: unit}, Epochs: 1, Workers: 3}
	l, err := NewLoader(set, c)
	require.NoError(t, err)
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "p03.jpg: damaged or unusual JPEG")
	_, again := l.Next(context.Background())
	require.Equal(t, err, again)
	require.Equal(t, Position{}, l.Position())
	l.Close()

	// Evaluated without them: their places do not count.
	c.OnCorrupt = OnCorrupt{Skip: true}
	for _, workers := range []int{1, 3} {
		c.Workers = workers
		l, err := NewLoader(set, c)
		require.NoError(t, err)
		got := take(t, l, 2)
		require.Equal(t, []int32{0, 1, 2, -1}, got[0].Labels)
		require.Equal(t, []int32{4, -1, 6, 7}, got[1].Labels)
		require.Equal(t, make([]float32, 16*16*3), got[0].Images[3*16*16*3:])
		require.NotEqual(t, make([]float32, 16*16*3), got[0].Images[2*16*16*3:][:16*16*3])
		require.Equal(t, "p05.jpg: no such file or directory", got[1].Corrupt[0].Why)
		l.Close()
	}

	c.Train, c.Epochs = true, 0
	var want []Batch
	for _, workers := range []int{1, 3} {
		c.Workers = workers
		l, err = NewLoader(set, c)
		require.NoError(t, err)
		got := take(t, l, 6)
		for epoch := range 3 {
			met := map[int]bool{}
			for _, b := range got[2*epoch:][:2] {
				require.NotContains(t, b.Labels, int32(3))
				require.NotContains(t, b.Labels, int32(5))
				require.NotContains(t, b.Labels, int32(-1))
				for _, x := range b.Corrupt {
					met[x.Image] = true
				}
			}
			require.Equal(t, map[int]bool{3: true, 5: true}, met, "every epoch meets them")
		}
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "%d workers", workers)
		l.Close()
	}
	mixed := c
	mixed.Mixup = 0.3
	var first []Batch
	for _, workers := range []int{1, 4} {
		mixed.Workers = workers
		l, err = NewLoader(set, mixed)
		require.NoError(t, err)
		got := take(t, l, 4)
		if first == nil {
			first = got
		}
		require.Equal(t, first, got)
		require.NotContains(t, append(got[0].Partners, got[1].Partners...), int32(3), "nor is one mixed in")
		l.Close()
	}
	for k := range want { // what replaces them does not depend on where a run goes on
		c.Start = want[k].Position
		l, err = NewLoader(set, c)
		require.NoError(t, err)
		require.Equal(t, want[k:], take(t, l, len(want)-k))
		l.Close()
	}
	c.Start = Position{}
	for i := range 8 {
		write(t, filepath.Join(dir, fmt.Sprintf("p%02d.jpg", i)), []byte("text"))
	}
	l, err = NewLoader(set, c)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "none of the 8 images can be read")
	require.ErrorContains(t, err, "p00.jpg: neither JPEG nor PNG nor WebP")
	c.OnCorrupt.Most = 3
	l, err = NewLoader(set, c)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "4 images cannot be read, on-corrupt skip=3 allows 3: p0")
}

// What may pass again is no damage of an image: a run that left it out could not be repeated.
func TestPassingErrorsAreNoDamage(t *testing.T) {
	set, dir := photos(t, 4)
	c := Config{Batch: 4, Transform: Transform{Size: 16, Resize: 16, Std: unit}, OnCorrupt: OnCorrupt{Skip: true}}
	path := filepath.Join(dir, "p02.jpg")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("p02.jpg", path)) // a loop: neither missing nor damaged
	l, err := NewLoader(set, c)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "p02.jpg: too many levels of symbolic links")
	var broken *UnreadableError
	require.False(t, errors.As(err, &broken))

	l, err = NewLoader(few(8, 7), Config{Batch: 4, Transform: Transform{Size: 8, Std: unit},
		OnCorrupt: OnCorrupt{Skip: true}})
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "smaller than the crop", "settings that do not fit the set are no damage either")
}

func TestOnCorrupt(t *testing.T) {
	for text, want := range map[string]OnCorrupt{"stop": {}, "skip": {Skip: true}, "skip=12": {Skip: true, Most: 12}} {
		var o OnCorrupt
		require.NoError(t, o.Set(text))
		require.Equal(t, want, o)
		require.Equal(t, text, o.String())
	}
	for _, text := range []string{"", "skip=", "skip=0", "skip=-1", "skip=x", "stop=3", "skipped"} {
		require.ErrorContains(t, new(OnCorrupt).Set(text), "want stop, skip, or skip=N", text)
	}
	list := []Corrupt{{SplitTest, 1, "b.jpg: cut"}, {SplitTrain, 7, "a.jpg: cut"}}
	tally := NewTally(OnCorrupt{Skip: true, Most: 2})
	require.Nil(t, tally.Summary())
	require.NoError(t, tally.Add(list))
	require.NoError(t, tally.Add(list), "each counts once")
	require.Equal(t, &CorruptImages{2, []string{"train: a.jpg: cut", "test: b.jpg: cut"}}, tally.Summary())
	require.EqualError(t, tally.Add([]Corrupt{{SplitValidation, 1, "c.jpg: cut"}}),
		"3 images cannot be read, on-corrupt skip=2 allows 2: train: a.jpg: cut; validation: c.jpg: cut; "+
			"test: b.jpg: cut")
	require.ErrorContains(t, (*Tally)(nil).Add(list), "on-corrupt stop does not allow to go on without 2 images")
	many := NewTally(OnCorrupt{Skip: true})
	for i := range 25 {
		require.NoError(t, many.Add([]Corrupt{{SplitTrain, i, fmt.Sprint("i", i)}}))
	}
	require.Contains(t, many.Summary().String(), "train: i19; and 5 more")
}

// Close and a caller's context end things at once, and leave no goroutines.
func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	set, _ := photos(t, 8)
	l, err := NewLoader(set, Config{Batch: 8, Transform: everything(512), Train: true, Workers: 2})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 5 { // however ready a batch is
		at := l.Position()
		_, err = l.Next(ctx)
		require.ErrorIs(t, err, context.Canceled)
		b, err := l.Next(context.Background())
		require.NoError(t, err)
		require.Equal(t, at, b.Position, "nothing is lost")
	}
	l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "closed")
	for runtime.NumGoroutine() > before { // for ever where one is left, until the test's own limit shows which
		runtime.Gosched()
	}
}

func TestConfigIsChecked(t *testing.T) {
	ok := Config{Batch: 4, Transform: Transform{Size: 8, Std: unit}}
	for want, change := range map[string]func(*Config){
		"batches of 0 images":         func(c *Config) { c.Batch = 0 },
		"batches of 9 images":         func(c *Config) { c.Batch, c.Train = 9, true },
		"7 shards":                    func(c *Config) { c.Shards = 7 },
		"is for training":             func(c *Config) { c.Mixup = 1 },
		"mixup NaN":                   func(c *Config) { c.Train, c.Mixup = true, math.NaN() },
		"workers":                     func(c *Config) { c.Workers = -1 },
		"no such batch":               func(c *Config) { c.Start.Batch = 2 },
		"image size 0":                func(c *Config) { c.Transform.Size = 0 },
		"crop areas":                  func(c *Config) { c.Transform.AreaMin = 0.5 },
		"normalisation":               func(c *Config) { c.Transform.Std[1] = 0 },
		"resizing to 7 before a crop": func(c *Config) { c.Transform.Resize = 7 },
		"cutout":                      func(c *Config) { c.Transform.Cutout = 9 },
		"colour jitter":               func(c *Config) { c.Transform.Jitter.Contrast = -1 },
		"side 9 of":                   func(c *Config) { c.Sides = []int{8, 9} },
		"side 0 of":                   func(c *Config) { c.Sides = []int{0} },
		"only random resized crops":   func(c *Config) { c.Sides = []int{4, 8} },
		"cutout 6 of images of 4": func(c *Config) {
			c.Transform.Crop, c.Transform.Cutout, c.Sides = CropRandomResized, 6, []int{8, 4}
		},
	} {
		c := ok
		change(&c)
		_, err := NewLoader(few(8, 8), c)
		require.ErrorContains(t, err, want)
	}
	_, err := NewLoader(&Set{}, ok)
	require.ErrorContains(t, err, "empty")
	l, err := NewLoader(few(8, 7), ok)
	require.NoError(t, err)
	defer l.Close()
	_, err = l.Next(context.Background())
	require.ErrorContains(t, err, "few image 0: image of 7x7 pixels is smaller than the crop of 8")
}

// Padded crops against their definition, at every offset that occurs.
func TestPaddedCrop(t *testing.T) {
	set := few(1, 6)
	pix := set.store.(*pixels).pix
	tr := Transform{Size: 6, Crop: CropPadded, Pad: 2, Flip: true, Mean: [3]float32{0.1, 0.2, 0.3},
		Std: [3]float32{0.5, 0.6, 0.7}}
	l, err := NewLoader(set, Config{Batch: 1, Transform: tr, Train: true})
	require.NoError(t, err)
	defer l.Close()
	seen := map[[3]int]int{}
	for range 2000 {
		b, err := l.Next(context.Background())
		require.NoError(t, err)
		found := false
		for dx := -2; dx <= 2 && !found; dx++ {
			for dy := -2; dy <= 2 && !found; dy++ {
				for flip := range 2 {
					equal := true
					for k := 0; k < len(b.Images) && equal; k++ {
						x, y, c := k/3%6, k/18, k%3
						if flip == 1 {
							x = 5 - x
						}
						v := 0.0
						if sx, sy := x+dx, y+dy; sx >= 0 && sx < 6 && sy >= 0 && sy < 6 {
							v = float64(pix[3*(6*sy+sx)+c]) / 255
						}
						equal = math.Abs((v-float64(tr.Mean[c]))/float64(tr.Std[c])-float64(b.Images[k])) < 1e-5
					}
					if equal {
						seen[[3]int{dx, dy, flip}]++
						found = true
						break
					}
				}
			}
		}
		require.True(t, found)
	}
	require.Len(t, seen, 50)
	for k, n := range seen {
		require.InDelta(t, 40, n, 32, "%v", k)
	}
}

// Random resized crops: the share of the area and the ratio are distributed as torchvision's definition says.
func TestRandomResizedCropStatistics(t *testing.T) {
	const n = 40_000
	s := philox.New(4, philox.PurposeTest, 0)
	size := image.Pt(4000, 4000)
	var areas, ratios []float64
	for range n {
		r := randomResizedCrop(size, 0.08, 0.3, s) // never rejected: the sides stay below the image's
		require.True(t, r.In(image.Rectangle{Max: size}) && !r.Empty())
		areas = append(areas, float64(r.Dx()*r.Dy())/16e6)
		ratios = append(ratios, math.Log(float64(r.Dx())/float64(r.Dy())))
	}
	uniform := func(v []float64, lo, hi float64) {
		slices.Sort(v)
		worst := 0.0 // Kolmogorov and Smirnov
		for i, x := range v {
			worst = math.Max(worst, math.Abs((x-lo)/(hi-lo)-(float64(i)+0.5)/n))
		}
		require.Less(t, worst, 1.95/math.Sqrt(n))
	}
	uniform(areas, 0.08, 0.3)
	uniform(ratios, math.Log(0.75), math.Log(4./3))

	// With the usual areas the large ones are rejected more often; the mean is known from the definition by
	// integration.
	var sum, want, weight float64
	for range n {
		r := randomResizedCrop(size, 0.08, 1, s)
		sum += float64(r.Dx()*r.Dy()) / 16e6
	}
	const grid = 1000
	for i := range grid {
		a := 0.08 + 0.92*(float64(i)+0.5)/grid
		for j := range grid {
			r := math.Exp(math.Log(0.75) + (math.Log(4./3)-math.Log(0.75))*(float64(j)+0.5)/grid)
			if math.Sqrt(a*r) <= 1 && math.Sqrt(a/r) <= 1 {
				want += a
				weight++
			}
		}
	}
	require.InDelta(t, want/weight, sum/n, 0.005)

	for _, c := range []struct{ w, h int }{{1, 1}, {1, 900}, {900, 1}, {3, 2}} {
		for range 200 {
			r := randomResizedCrop(image.Pt(c.w, c.h), 0.08, 1, s)
			require.True(t, r.In(image.Rect(0, 0, c.w, c.h)) && !r.Empty(), "%v of %v", r, c)
		}
	}
	require.Equal(t, image.Rect(0, 449, 1, 450), randomResizedCrop(image.Pt(1, 900), 0.9, 1, s),
		"the fallback: the middle")
}

func TestFlipAndCutoutStatistics(t *testing.T) {
	flips, blank := 0, 0
	tr := Transform{Size: 16, Flip: true, Cutout: 8, Std: unit, Mean: [3]float32{-1, -1, -1}}
	a, err := newArtist(tr, look{})
	require.NoError(t, err)
	defer a.close()
	p := few(1, 16).store.(*pixels)
	dst := make([]float32, 16*16*3)
	const n = 4000
	for i := range n {
		d := draws{philox.Key{Seed: 1, Purpose: philox.PurposeAugment}, 3, i}
		if tr.flip(d) {
			flips++
		}
		require.NoError(t, a.decoded(place{floats: dst}, p.raster(0), d))
		for _, v := range dst {
			if v == 0 { // never an image's value, which is 1..2 here
				blank++
			}
		}
	}
	require.InDelta(t, n/2, flips, 3*math.Sqrt(n/4))
	// A side of 8 around a centre 0..15: 4..8 of it lie inside, 7.375 on the average.
	var side float64
	for c := range 16 {
		side += float64(min(16, c+4)-max(0, c-4)) / 16
	}
	require.InEpsilon(t, side*side, float64(blank)/3/n, 0.02)
}

func TestJitter(t *testing.T) {
	grid := func() []float32 { return []float32{0.2, 0.4, 0.6, 0.9, 0.1, 0.5} }
	s := philox.New(2, philox.PurposeTest, 0)
	var lowest, highest float32 = 9, 0
	for range 2000 {
		v := grid()
		Jitter{Brightness: 0.5}.draw(s).apply(v)
		factor := v[1] / 0.4
		require.InDelta(t, min(1, 0.9*factor), v[3], 1e-5)
		require.InDelta(t, 0.2*factor, v[0], 1e-5)
		lowest, highest = min(lowest, factor), max(highest, factor)

		v = grid()
		Jitter{Contrast: 0.3}.draw(s).apply(v)
		mean := (grey(grid()[:3]) + grey(grid()[3:])) / 2
		factor = (v[1] - mean) / (0.4 - mean)
		require.True(t, factor > 0.699 && factor < 1.301)
		require.InDelta(t, mean+factor*(0.5-mean), v[5], 1e-4)

		v = grid()
		Jitter{Saturation: 1}.draw(s).apply(v)
		g := grey(grid()[:3])
		factor = (v[0] - g) / (0.2 - g)
		require.True(t, factor > -1e-3 && factor < 2.01)
		require.InDelta(t, g, grey(v[:3]), 1e-5, "brightness stays")
	}
	require.InDelta(t, 0.5, lowest, 0.01)
	require.InDelta(t, 1.5, highest, 0.01)
}

func TestMixup(t *testing.T) {
	set := few(6, 4)
	c := Config{Batch: 5, Transform: Transform{Size: 4, Std: unit}, Train: true, Seed: 3}
	plain, err := NewLoader(set, c)
	require.NoError(t, err)
	defer plain.Close()
	c.Mixup = 0.4
	mixed, err := NewLoader(set, c)
	require.NoError(t, err)
	defer mixed.Close()
	for range 20 {
		a, b := take(t, plain, 1)[0], take(t, mixed, 1)[0]
		require.Equal(t, a.Labels, b.Labels)
		require.True(t, b.Weight >= 0 && b.Weight <= 1)
		for i := range 5 {
			require.Equal(t, a.Labels[4-i], b.Partners[i])
			for k := range 48 {
				require.InDelta(t, b.Weight*a.Images[i*48+k]+(1-b.Weight)*a.Images[(4-i)*48+k], b.Images[i*48+k], 1e-6)
			}
		}
	}
	// Of shards each is mixed within itself; an odd one's middle image stays.
	c.Batch, c.Shards = 6, 2
	sharded, err := NewLoader(set, c)
	require.NoError(t, err)
	defer sharded.Close()
	c.Mixup, c.Workers = 0, 3
	unmixed, err := NewLoader(set, c)
	require.NoError(t, err)
	defer unmixed.Close()
	for range 5 {
		a, b := take(t, unmixed, 1)[0], take(t, sharded, 1)[0]
		for i, j := range []int{2, 1, 0, 5, 4, 3} {
			require.Equal(t, a.Labels[j], b.Partners[i])
			for k := range 48 {
				require.InDelta(t, b.Weight*a.Images[i*48+k]+(1-b.Weight)*a.Images[j*48+k], b.Images[i*48+k], 1e-6)
			}
		}
	}
	// Beta(a, a) has mean 1/2 and variance 1/(4(2a+1)).
	s := philox.New(6, philox.PurposeTest, 0)
	for _, alpha := range []float64{0.2, 1, 3} {
		var sum, square float64
		const n = 20_000
		for range n {
			v := betaOne(alpha, s)
			sum += v
			square += (v - 0.5) * (v - 0.5)
		}
		require.InDelta(t, 0.5, sum/n, 0.01)
		require.InEpsilon(t, 1/(4*(2*alpha+1)), square/n, 0.03)
	}
	require.False(t, math.IsNaN(betaOne(1e-300, s)))
}

// Evaluation against resizing the whole image and cutting out the middle, by the definition: of a smooth picture, and
// of noise, where the cubic filter leaves what eight bits hold.
func TestCentreCrop(t *testing.T) {
	for name, file := range map[string][]byte{"smooth": smooth(t, 61, 43), "noise": noisy(t, 61, 43)} {
		for _, f := range []kernel.Filter{kernel.Bilinear, kernel.Bicubic} {
			for _, side := range []int{20, 90} {
				tr := Transform{Size: 16, Resize: side, Filter: f, Mean: [3]float32{0.5, 0, 0.25},
					Std: [3]float32{0.5, 1, 2}}
				a, err := newArtist(tr, look{})
				require.NoError(t, err)
				defer a.close()
				got := make([]float32, 16*16*3)
				require.NoError(t, a.file(place{floats: got}, file, draws{}))
				pix, w, h, err := DecodeRGB(file)
				require.NoError(t, err)
				wide := side * 61 / 43
				full := kernel.ResampleReference(f, pix, 3*w, 0, 0, w, h, wide, side)
				want := make([]float64, len(got))
				left, top := int(math.RoundToEven(float64(wide-16)/2)), (side-16)/2
				for i := range want {
					x, y, c := left+i/3%16, top+i/48, i%3
					v := min(max(full[3*(wide*y+x)+c]/255, 0), 1)
					want[i] = (v - float64(tr.Mean[c])) / float64(tr.Std[c])
				}
				kerneltest.Close(t, want, got, 1e-5, fmt.Sprintf("middle of %s, filter %d, from %d", name, f, side))
			}
		}
	}
}

// noisy is a picture in which each pixel is black or white.
func noisy(t testing.TB, w, h int) []byte {
	s := philox.New(5, philox.PurposeTest, 0)
	img := image.NewGray(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(255 * s.Intn(2))
	}
	var out bytes.Buffer
	require.NoError(t, png.Encode(&out, img))
	return out.Bytes()
}

// Real photographs through both transforms.
func TestPhotographs(t *testing.T) {
	d, err := Open("imagenet:"+testdata.Path(t, "imagenet_sample"), Options{Seed: 1, ValSplit: 0.1})
	require.NoError(t, err)
	require.Equal(t, []int{198, 22}, []int{d.Train.Len(), d.Validation.Len()})
	for _, c := range []struct {
		set *Set
		c   Config
	}{
		{d.Train, Config{Batch: 32, Transform: d.TrainTransform(96), Train: true, Epochs: 1}},
		{d.Validation, Config{Batch: 22, Transform: d.EvalTransform(96), Epochs: 1}},
	} {
		l, err := NewLoader(c.set, c.c)
		require.NoError(t, err)
		var sum, square float64
		count := 0
		for {
			b, err := l.Next(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			for _, v := range b.Images {
				sum += float64(v)
				square += float64(v) * float64(v)
				count++
			}
		}
		l.Close()
		require.NotZero(t, count)
		mean := sum / float64(count)
		require.InDelta(t, 0, mean, 0.3, "normalised")
		require.InDelta(t, 1, math.Sqrt(square/float64(count)-mean*mean), 0.3)
	}
}
