package image_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/image"
)

// Random shapes, parts and filters: in every instruction set the bits of the definition in whole numbers, and near
// Pillow's filters without rounding. Nothing is written outside of the output, nor read outside of the pixels that are
// said to be there.
func TestFixedMatchesReference(t *testing.T) {
	var resamplers []*image.Resampler
	for _, level := range exec.Levels() {
		r, err := image.NewResampler(level)
		require.NoError(t, err)
		resamplers = append(resamplers, r)
	}
	var worst float64
	for range 150 {
		side := func(most int) int { return 1 + int(math.Exp(rand.Float64()*math.Log(float64(most)))) }
		width, height, w, h := side(150), side(150), side(90), side(40)
		x0, y0 := rand.IntN(width), rand.IntN(height)
		x1, y1 := x0+1+rand.IntN(width-x0), y0+1+rand.IntN(height-y0)
		pix := make([]byte, width*height*3)
		for i := range pix {
			pix[i] = byte(255 * rand.IntN(2)) // the largest errors and, of the cubic filter, the farthest values
			if height%2 == 0 {
				pix[i] = byte(rand.Uint32())
			}
		}
		f, flip := image.Filter(rand.IntN(2)), rand.IntN(2) == 1
		name := fmt.Sprintf("%d..%d of %d to %d, %d..%d of %d to %d, filter %d, flip %v", x0, x1, width, w, y0, y1,
			height, h, f, flip)
		var x, y image.Axis
		x.Antialias(f, float64(x0), float64(x1), x0, x1, w, 0, w, flip)
		y.Antialias(f, float64(y0), float64(y1), y0, y1, h, 0, h, false)
		src := image.Source{Pix: pix, Stride: 3 * width, Width: width, Height: height}
		scale, zero := [3]float32{1, 0.5, 0.017}, [3]float32{0, -3, 123.675}
		want := image.FixedReference(src, &y, &x, scale, zero)
		for _, r := range resamplers {
			out := make([]float32, len(want)+32)
			for j := range out {
				out[j] = -777
			}
			r.ResampleFixed(out[16:16+len(want)], src, &y, &x, scale, zero)
			for j, v := range want {
				require.Equal(t, math.Float32bits(v), math.Float32bits(out[16+j]), "%s, number %d", name, j)
			}
			for j := range 16 {
				require.Equal(t, []float32{-777, -777}, []float32{out[j], out[16+len(want)+j]}, name)
			}
		}
		exact := image.ResampleReference(f, pix, 3*width, x0, y0, x1, y1, w, h)
		for j, v := range exact {
			o, c := j, j%3
			if flip {
				o = j + 3*(w-1-2*(j/3%w))
			}
			off := math.Abs(float64(want[o])/float64(scale[c]) + float64(zero[c]) - v)
			require.LessOrEqual(t, off, 0.02+float64(x.Taps+y.Taps)/64, name)
			worst = math.Max(worst, off)
		}
	}
	require.Less(t, worst, 0.3)
	t.Logf("the largest difference from what is exact: %.3f of 255 levels", worst)
}

// One colour stays that colour, to the bit.
func TestFixedKeepsPlainColours(t *testing.T) {
	r, err := image.NewResampler("")
	require.NoError(t, err)
	pix := make([]byte, 3*40*30)
	colour := [3]byte{byte(rand.Uint32()), 255, 0}
	for i := range pix {
		pix[i] = colour[i%3]
	}
	src := image.Source{Pix: pix, Stride: 120, Width: 40, Height: 30}
	for _, f := range []image.Filter{image.Bilinear, image.Bicubic} {
		for _, n := range []int{1, 7, 33, 100} {
			var x, y image.Axis
			x.Antialias(f, 0.3, 39.1, 0, 40, n, 0, n, false)
			y.Antialias(f, 1.5, 30, 1, 30, n, 0, n, false)
			out := make([]float32, 3*n*n)
			r.ResampleFixed(out, src, &y, &x, [3]float32{1, 1, 1}, [3]float32{})
			for j, v := range out {
				require.EqualValues(t, colour[j%3], v)
			}
		}
	}
}

func TestFixedPanicsOnWrongSizes(t *testing.T) {
	r, err := image.NewResampler("")
	require.NoError(t, err)
	var a image.Axis
	a.Antialias(image.Bilinear, 0, 4, 0, 4, 2, 0, 2, false)
	src := image.Source{Pix: make([]byte, 48), Stride: 12, Width: 4, Height: 4}
	one := [3]float32{1, 1, 1}
	require.Panics(t, func() { r.ResampleFixed(make([]float32, 11), src, &a, &a, one, [3]float32{}) })
	require.Panics(t, func() { r.ResampleFixed(make([]float32, 12), src, &a, &a, one, [3]float32{2000, 0, 0}) })
	src.Pix = src.Pix[:40]
	require.Panics(t, func() { r.ResampleFixed(make([]float32, 12), src, &a, &a, one, [3]float32{}) })
}
