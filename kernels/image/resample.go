// Package image resamples images: 8-bit RGB in, normalised float32 out. A Resampler is called by the workers of the
// data loader; Regions is recorded, for devices to which these leave it.
package image

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "resample.h"
*/
import "C"

import (
	"fmt"
	"math"
	"slices"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Axis says which source samples make which output samples along one dimension: output i is the sum over t < Taps of
// Weight[i*Taps+t] times source sample First[i]+t.
type Axis struct {
	Taps   int
	First  []int32
	Weight []float32
}

// Span is the range of source samples that the axis reads.
func (a *Axis) Span() (begin, end int) {
	return int(slices.Min(a.First)), int(slices.Max(a.First)) + a.Taps
}

// Filter is how an output sample weighs the source samples around it.
type Filter uint8

// Filters.
const (
	Bilinear Filter = iota // a triangle, of samples up to 1 away
	Bicubic                // Keys's cubic with a = -1/2, of samples up to 2 away; it can leave the range of the samples
)

// Reach is how far away a sample can be that counts, in the larger of a source's and an output's sample distance.
func (f Filter) Reach() float64 { return float64(1 + f) }

// at is the filter's value at a distance.
func (f Filter) at(x float64) float64 {
	x = math.Abs(x)
	switch {
	case f == Bilinear:
		return max(0, 1-x)
	case x < 1:
		return (1.5*x-2.5)*x*x + 1
	case x < 2:
		return ((2.5-0.5*x)*x-4)*x + 2
	}
	return 0
}

// Antialias makes a a filter that widens with the reduction, as Pillow's BILINEAR and BICUBIC and torchvision's
// antialias=True define it (Pillow, src/libImaging/Resample.c, precompute_coeffs): samples lo..hi of the source, of
// which only [begin, end) are used even where a pixel's filter would reach further, are resized to full samples, of
// which outputs [at, at+n) are wanted. flip reverses their order. The slices of a are used again where they are large
// enough.
func (a *Axis) Antialias(f Filter, lo, hi float64, begin, end, full, at, n int, flip bool) {
	if !(hi > lo) || end <= begin || full < 1 || n < 1 {
		panic(fmt.Sprintf("image: axis from %g..%g in %d..%d to %d of %d", lo, hi, begin, end, n, full))
	}
	step := (hi - lo) / float64(full)
	scale := max(step, 1)
	reach := f.Reach() * scale
	a.Taps = min(int(2*reach)+1, end-begin)
	a.First = slices.Grow(a.First[:0], n)[:n]
	a.Weight = slices.Grow(a.Weight[:0], n*a.Taps)[:n*a.Taps]
	for i := range n {
		centre := lo + (float64(at+i)+0.5)*step
		first := max(int(centre-reach+0.5), begin)
		last := min(int(centre+reach+0.5), end)
		first = max(min(first, end-1), begin)
		o := i
		if flip {
			o = n - 1 - i
		}
		start := max(min(first, end-a.Taps), begin) // a window of Taps samples inside the source
		w := a.Weight[o*a.Taps : (o+1)*a.Taps]
		var sum float64
		for t := range w {
			s := start + t
			v := 0.0
			if s >= first && s < last {
				v = f.at((float64(s) - centre + 0.5) / scale)
			}
			w[t] = float32(v)
			sum += v
		}
		if sum == 0 { // rounding at an edge: the nearest sample
			w[first-start], sum = 1, 1
		}
		for t := range w {
			w[t] = float32(float64(w[t]) / sum)
		}
		a.First[o] = int32(start)
	}
}

// Source is a rectangle of an image: Width by Height pixels of RGB, Stride bytes a row.
type Source struct {
	Pix                   []byte
	Stride, Width, Height int
}

// Resampler holds the scratch of one worker; not for use by several goroutines at once.
type Resampler struct {
	level C.int
	row   []float32
	fixed fixedScratch
}

// levels is the order of the instruction sets in kernels' tables.
var levels = []string{"portable", "avx2", "avx2x16", "avx512"}

// NewResampler returns a Resampler for an instruction set, named as in exec.Config.
func NewResampler(level string) (*Resampler, error) {
	d, err := exec.Open(exec.Config{Level: level, Threads: 1})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return &Resampler{level: C.int(slices.Index(levels, d.Level()))}, nil
}

// Resample writes len(y.First) x len(x.First) pixels of three floats to dst: Scale[c] * value + bias[c], where values
// are 0..255. The axes count from the source's first pixel.
func (r *Resampler) Resample(dst []float32, src Source, y, x *Axis, scale, bias [3]float32) {
	h, w := len(y.First), len(x.First)
	y0, y1 := y.Span()
	x0, x1 := x.Span()
	if len(dst) != h*w*3 || y0 < 0 || y1 > src.Height || x0 < 0 || x1 > src.Width || src.Stride < 3*src.Width ||
		len(src.Pix) < (src.Height-1)*src.Stride+3*src.Width {
		panic(fmt.Sprintf("image: %d floats for %dx%d pixels, rows %d..%d and columns %d..%d of %dx%d", len(dst), w,
			h, y0, y1, x0, x1,
			src.Width, src.Height))
	}
	n := x1 - x0 // only the columns that are read
	if need := 3*n + C.CTN_RESAMPLE_PAD; len(r.row) < need {
		r.row = make([]float32, need)
	}
	args := C.ctn_resample_args{src: (*C.uint8_t)(&src.Pix[3*x0]), src_stride: C.int64_t(src.Stride),
		begin: C.int64_t(x0), width: C.int64_t(n),
		y: axis(y), x: axis(x), dst: (*C.float)(&dst[0]), row: (*C.float)(&r.row[0])}
	for c := range 3 {
		args.scale[c], args.bias[c] = C.float(scale[c]), C.float(bias[c])
	}
	C.ctn_resample(r.level, args)
}

func axis(a *Axis) C.ctn_axis {
	return C.ctn_axis{n: C.int64_t(len(a.First)), taps: C.int64_t(a.Taps), first: (*C.int32_t)(&a.First[0]),
		weight: (*C.float)(&a.Weight[0])}
}
