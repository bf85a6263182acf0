package image

/*
#include "fixed.h"
*/
import "C"

import (
	"fmt"
	"math"
	"slices"
)

// fixed is an Axis with whole weights, which sum to exactly 1 << CTN_FIXED_WEIGHT.
type fixed struct {
	pairs  int // half as many weights a sample, the last of which may be 0 because there is no sample for it
	first  []int32
	weight []int16
	whole  []int16 // the weights of the axis, rounded
}

const weightOne = 1 << C.CTN_FIXED_WEIGHT

// round sets f to the nearest whole weights: what rounding leaves goes to the largest. Samples at the ends whose
// weights become 0 are not read.
func (f *fixed) round(a *Axis) {
	n := len(a.First)
	f.first = slices.Grow(f.first[:0], n)[:n]
	f.whole = slices.Grow(f.whole[:0], n*a.Taps)[:n*a.Taps]
	most := 1
	for i := range n {
		w, left, top := f.whole[i*a.Taps:(i+1)*a.Taps], weightOne, 0
		begin, end := a.Taps, 0
		for t := range w {
			v := int(math.Round(weightOne * float64(a.Weight[i*a.Taps+t])))
			w[t] = int16(min(max(v, math.MinInt16), math.MaxInt16))
			left -= int(w[t])
			if w[t] > w[top] {
				top = t
			}
		}
		w[top] += int16(left)
		for t, v := range w {
			if v != 0 {
				begin, end = min(begin, t), t+1
			}
		}
		f.first[i] = a.First[i] + int32(begin)
		most = max(most, end-begin)
	}
	f.pairs = (most + 1) / 2
	f.weight = slices.Grow(f.weight[:0], n*2*f.pairs)[:n*2*f.pairs]
	clear(f.weight)
	for i := range n {
		// A window that lies within the axis's own, but for one sample where that has an odd number of them.
		begin := min(int(f.first[i]-a.First[i]), max(0, a.Taps-2*f.pairs))
		f.first[i] = a.First[i] + int32(begin)
		copy(f.weight[i*2*f.pairs:(i+1)*2*f.pairs], f.whole[i*a.Taps+begin:(i+1)*a.Taps])
	}
}

func (f *fixed) c() C.ctn_fixed_axis {
	return C.ctn_fixed_axis{n: C.int64_t(len(f.first)), pairs: C.int64_t(f.pairs), first: (*C.int32_t)(&f.first[0]),
		weight: (*C.int16_t)(&f.weight[0])}
}

// fixedScratch is what ResampleFixed keeps for its next call.
type fixedScratch struct {
	y, x   fixed
	ring   []int16
	held   []int32
	zeros  []int32
	scales []float32
	wide   []int16
	row    []uint8
}

// ResampleFixed is Resample with weights of 16 bits and rows of 16 bits between the two passes, 14 and 6 of them behind
// the point. It is faster, its results are the same bits in every instruction set, and they are off by some hundredths
// of a level of 255: at most 1/64 + Taps/64 of each axis, if all roundings fall together. The result is
// Scale[c] * (value - zero[c]): what of Resample is -bias/scale.
func (r *Resampler) ResampleFixed(dst []float32, src Source, y, x *Axis, scale, zero [3]float32) {
	h, w := len(y.First), len(x.First)
	y0, y1 := y.Span()
	x0, x1 := x.Span()
	if len(dst) != h*w*3 || y0 < 0 || y1 > src.Height || x0 < 0 || x1 > src.Width || src.Stride < 3*src.Width ||
		len(src.Pix) < (src.Height-1)*src.Stride+3*src.Width {
		panic(fmt.Sprintf("image: %d floats for %dx%d pixels, rows %d..%d and columns %d..%d of %dx%d", len(dst), w,
			h, y0, y1, x0, x1, src.Width, src.Height))
	}
	s := &r.fixed
	s.y.round(y)
	s.x.round(x)
	kept, n := 2*s.y.pairs, 3*w
	s.ring = slices.Grow(s.ring[:0], kept*(n+C.CTN_FIXED_PAD))
	s.held = slices.Grow(s.held[:0], kept)
	s.zeros = slices.Grow(s.zeros[:0], n)
	s.scales = slices.Grow(s.scales[:0], n)
	s.wide = slices.Grow(s.wide[:0], 16*w)
	if need := 3*(x1-x0) + C.CTN_FIXED_PAD; len(s.row) < need {
		s.row = make([]uint8, need)
	}
	args := C.ctn_fixed_args{src: (*C.uint8_t)(&src.Pix[3*x0]), src_stride: C.int64_t(src.Stride),
		bytes: C.int64_t(len(src.Pix) - 3*x0), begin: C.int64_t(x0), width: C.int64_t(x1 - x0),
		y: s.y.c(), x: s.x.c(), kept: C.int64_t(kept), dst: (*C.float)(&dst[0]), ring: (*C.int16_t)(&s.ring[:1][0]),
		held: (*C.int32_t)(&s.held[:1][0]), zeros: (*C.int32_t)(&s.zeros[:1][0]), scales: (*C.float)(&s.scales[:1][0]),
		wide: (*C.int16_t)(&s.wide[:1][0]), row: (*C.uint8_t)(&s.row[0])}
	const one = 1 << (C.CTN_FIXED_ROW + C.CTN_FIXED_WEIGHT)
	for c := range 3 {
		v := math.Round(float64(zero[c]) * one)
		if !(math.Abs(v) <= 1<<30) {
			panic(fmt.Sprintf("image: %g levels become 0: want at most 1024", zero))
		}
		args.zero[c], args.scale[c] = C.int32_t(v), C.float(scale[c]/one)
	}
	C.ctn_fixed(r.level, args)
}
