package image_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
)

func noise(n int, stream uint32) []byte {
	s := philox.New(0x1316, philox.PurposeTest, stream)
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

// Every case in every instruction set, with and without flip, against the definition. The output lies between guards.
func TestResampleMatchesReference(t *testing.T) {
	cases := []struct{ width, height, x0, y0, x1, y1, w, h int }{
		{1, 1, 0, 0, 1, 1, 1, 1},
		{1, 3, 0, 0, 1, 3, 5, 2},
		{7, 5, 0, 0, 7, 5, 7, 5},
		{37, 23, 3, 2, 36, 22, 11, 13},
		{64, 48, 10, 11, 31, 21, 32, 32},
		{131, 97, 0, 0, 131, 97, 10, 9},
		{131, 97, 100, 90, 131, 97, 224, 3},
		{300, 5, 1, 1, 299, 4, 2, 1},
	}
	cases = slices.Concat(cases, cases[:1], cases) // the second time with the other filter
	for _, level := range exec.Levels() {
		r, err := image.NewResampler(level)
		require.NoError(t, err)
		for i, c := range cases {
			pix := noise(c.width*c.height*3, uint32(i))
			f := image.Filter(i % 2)
			want := image.ResampleReference(f, pix, 3*c.width, c.x0, c.y0, c.x1, c.y1, c.w, c.h)
			scale, bias := [3]float32{1, 0.5, 2}, [3]float32{0, -3, 7}
			for _, flip := range []bool{false, true} {
				var x, y image.Axis
				x.Antialias(f, float64(c.x0), float64(c.x1), c.x0, c.x1, c.w, 0, c.w, flip)
				y.Antialias(f, float64(c.y0), float64(c.y1), c.y0, c.y1, c.h, 0, c.h, false)
				nan := float32(math.NaN())
				out := make([]float32, len(want)+32)
				for j := range out {
					out[j] = nan
				}
				r.Resample(out[16:16+len(want)], image.Source{Pix: pix, Stride: 3 * c.width, Width: c.width,
					Height: c.height}, &y, &x, scale, bias)
				mapped := make([]float64, len(want))
				for j := range want {
					o, ch := j, j%3
					if flip {
						px := j / 3 % c.w
						o = j + 3*(c.w-1-2*px)
					}
					mapped[j] = want[o]*float64(scale[ch]) + float64(bias[ch])
				}
				kerneltest.Close(t, mapped, out[16:16+len(want)], 2e-6,
					fmt.Sprintf("%s case %d flip %v", level, i, flip))
				for j := range 16 {
					require.True(t, math.IsNaN(float64(out[j])) && math.IsNaN(float64(out[16+len(want)+j])),
						"written outside of the output")
				}
			}
		}
	}
}

// A window of a resized image is that part of the whole.
func TestAntialiasWindow(t *testing.T) {
	var whole, part image.Axis
	for i, full := range []int{9, 100, 341, 9, 100, 341} {
		f := image.Filter(i / 3)
		whole.Antialias(f, 2, 102, 2, 102, full, 0, full, false)
		at, n := full/3, full/2
		part.Antialias(f, 2, 102, 2, 102, full, at, n, false)
		require.Equal(t, whole.Taps, part.Taps)
		require.Equal(t, whole.First[at:at+n], part.First)
		require.Equal(t, whole.Weight[at*whole.Taps:(at+n)*whole.Taps], part.Weight)
		begin, end := part.Span()
		require.True(t, begin >= 2 && end <= 102)
	}
}

// Weights sum to one and are positive, the cubic ones no less than -1/8 of the whole, also for bounds between samples
// and outputs far apart.
func TestAntialiasWeights(t *testing.T) {
	s := philox.New(3, philox.PurposeTest, 0)
	for range 2000 {
		var a image.Axis
		size := 1 + s.Intn(400)
		lo := s.Float64() * float64(size) * 0.9
		hi := lo + (float64(size)-lo)*(0.01+0.99*s.Float64())
		begin, end := int(lo), min(size, int(math.Ceil(hi)))
		if end <= begin {
			continue
		}
		n := 1 + s.Intn(300)
		f := image.Filter(s.Intn(2))
		a.Antialias(f, lo, hi, begin, end, n, 0, n, s.Intn(2) == 1)
		from, to := a.Span()
		require.True(t, from >= begin && to <= end)
		for o := range n {
			var sum float64
			for _, w := range a.Weight[o*a.Taps : (o+1)*a.Taps] {
				require.GreaterOrEqual(t, w, -float32(f)/8)
				sum += float64(w)
			}
			require.InDelta(t, 1, sum, 1e-5)
		}
	}
}

func TestResamplePanicsOnWrongSizes(t *testing.T) {
	r, err := image.NewResampler("")
	require.NoError(t, err)
	var a image.Axis
	a.Antialias(image.Bilinear, 0, 4, 0, 4, 2, 0, 2, false)
	src := image.Source{Pix: make([]byte, 48), Stride: 12, Width: 4, Height: 4}
	require.Panics(t, func() { r.Resample(make([]float32, 11), src, &a, &a, [3]float32{}, [3]float32{}) })
	src.Pix = src.Pix[:40]
	require.Panics(t, func() { r.Resample(make([]float32, 12), src, &a, &a, [3]float32{}, [3]float32{}) })
	require.Panics(t, func() { a.Antialias(image.Bilinear, 1, 1, 0, 4, 2, 0, 2, false) })
	_, err = image.NewResampler("abacus")
	require.ErrorContains(t, err, "abacus")
}

func BenchmarkResample(b *testing.B) {
	pix := noise(370*275*3, 0)
	dst := make([]float32, 224*224*3)
	one := [3]float32{1, 1, 1}
	var x, y image.Axis
	for _, level := range exec.Levels() {
		r, err := image.NewResampler(level)
		require.NoError(b, err)
		for _, size := range [][2]int{{370, 275}, {341, 256}, {190, 180}} {
			src := image.Source{Pix: pix, Stride: 370 * 3, Width: size[0], Height: size[1]}
			for name, resample := range map[string]func(){
				"float": func() { r.Resample(dst, src, &y, &x, one, [3]float32{}) },
				"fixed": func() { r.ResampleFixed(dst, src, &y, &x, one, [3]float32{}) },
			} {
				b.Run(fmt.Sprintf("%s/%dx%d/%s", level, size[0], size[1], name), func(b *testing.B) {
					for b.Loop() {
						x.Antialias(image.Bilinear, 0, float64(size[0]), 0, size[0], 224, 0, 224, false)
						y.Antialias(image.Bilinear, 0, float64(size[1]), 0, size[1], 224, 0, 224, false)
						resample()
					}
				})
			}
		}
	}
}
