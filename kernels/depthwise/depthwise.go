// Package depthwise holds depthwise convolutions, NHWC: each channel has a filter of its own. They read and write
// tensors as package tensor describes.
package depthwise

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "depthwise.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

// Conv is the geometry of a depthwise convolution with [K, K] taps, K at most 7. The weight is [K, K, channels]. Stride
// and Dilation of 0 are 1; padding and the output's size as in conv.Conv.
type Conv struct {
	In         tensor.Shape
	K, Stride  int
	PadH, PadW int
	Dilation   int
	OutH, OutW int
}

// Shape is that of the output.
func (c Conv) Shape() tensor.Shape {
	c = c.defaults()
	return tensor.Shape{N: c.In.N, H: c.OutH, W: c.OutW, C: c.In.C}
}

// WeightLen is the number of the weight's elements.
func (c Conv) WeightLen() int { return c.K * c.K * c.In.C }

// MAdds is the number of multiply-adds of one direction.
func (c Conv) MAdds() int { return c.Shape().Len() * c.K * c.K }

func (c Conv) defaults() Conv {
	c.Stride, c.Dilation = max(1, c.Stride), max(1, c.Dilation)
	if c.OutH == 0 && c.OutW == 0 {
		c.OutH = (c.In.H+2*c.PadH-c.Dilation*(c.K-1)-1)/c.Stride + 1
		c.OutW = (c.In.W+2*c.PadW-c.Dilation*(c.K-1)-1)/c.Stride + 1
	}
	if c.In.Len() <= 0 || c.K < 1 || c.K > C.CTN_DEPTHWISE_SIZE || c.PadH < 0 || c.PadW < 0 ||
		c.OutH <= 0 || c.OutW <= 0 {
		panic(fmt.Sprintf("depthwise: %+v", c))
	}
	return c
}

func (c Conv) args() C.ctn_depthwise_args {
	return C.ctn_depthwise_args{n: C.int64_t(c.In.N), h: C.int64_t(c.In.H), w: C.int64_t(c.In.W), c: C.int64_t(c.In.C),
		ho: C.int64_t(c.OutH), wo: C.int64_t(c.OutW), k: C.int64_t(c.K), stride: C.int64_t(c.Stride),
		pad_h: C.int64_t(c.PadH), pad_w: C.int64_t(c.PadW), dilation: C.int64_t(c.Dilation),
		// Strips may run a little past the last column, over zeros.
		in_ld: C.int64_t((c.OutW+C.CTN_DEPTHWISE_STRIP)*c.Stride + (c.K-1)*c.Dilation)}
}

// scratchFloats is about what a task may keep near: half of a second-level cache of 512 KiB.
const scratchFloats = 64 << 10

// split chooses the channels a task and the rows a band, when a row of all planes takes perRow floats a channel, and
// `fixed` more rows are needed whatever the band.
func split(args *C.ctn_depthwise_args, height, perRow, fixed int) {
	channels := 64
	rows := func() int { return (scratchFloats/channels - fixed) / perRow }
	if rows() < 8 {
		channels = 32
	}
	band := min(height, max(2, rows()))
	bands := (height + band - 1) / band
	args.channels, args.bands, args.band = C.int64_t(channels), C.int64_t(bands), C.int64_t((height+bands-1)/bands)
	args.bands = C.int64_t((height + int(args.band) - 1) / int(args.band))
}

// parts are the numbers of pixels of each image's bands.
func parts(args *C.ctn_depthwise_args, height, width int) []int32 {
	var out []int32
	for range int(args.n) {
		out = append(out, tensor.Parts(height*width, int(args.band)*width)...)
	}
	return out
}

// Forward is z, the convolution of In.
type Forward struct {
	Conv
	In      tensor.Input
	Weight  *exec.Buffer // [K, K, C]
	Z       *exec.Buffer // [N, OutH, OutW, C], pixels ZStride elements apart
	ZStride int
	Sums    bool // leave sums of Z for norm.Forward
}

// Record appends the operation to a program and returns the sums, if there are any.
func (f Forward) Record(p *exec.Program) tensor.Stats {
	c := f.Conv.defaults()
	f.In.Check("depthwise")
	if f.In.Shape != c.In {
		panic(fmt.Sprintf("depthwise: input %+v for %+v", f.In.Shape, c))
	}
	exec.Need("depthwise", "Weight", f.Weight, c.WeightLen())
	tensor.Span("depthwise", "Z", f.Z, c.Shape(), f.ZStride)
	args := c.args()
	reach := (c.K-1)*c.Dilation + 1
	split(&args, c.OutH, int(args.in_ld)*c.Stride, int(args.in_ld)*reach)
	f.In.Put(unsafe.Pointer(&args.in))
	args.weight, args.out, args.out_ld = floats(f.Weight), floats(f.Z), C.int64_t(c.In.C)
	if f.ZStride != 0 {
		args.out_ld = C.int64_t(f.ZStride)
	}
	if p.Arena().Device().Accelerated() {
		return f.recordGPU(p, c, &args)
	}
	var stats tensor.Stats
	if f.Sums {
		stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.In.C, parts(&args, c.OutH, c.OutW), 1)
		args.stats = floats(stats.Rows)
	}
	rows := (int(args.band)-1)*c.Stride + reach
	scratch := (c.OutW+C.CTN_DEPTHWISE_STRIP+c.K*c.K)*lanes + rows*int(args.in_ld)*int(args.channels)
	exec.Call(p, "depthwise", unsafe.Pointer(&C.ctn_depthwise), &args, scratch)
	return stats
}

// lanes is the width of the widest vector.
const lanes = 16

// Backward are both gradients, from one pass over Grad and In. A sink without D is left out. Neither the sink nor
// DWeight overlaps what is read.
type Backward struct {
	Conv
	In         tensor.Input
	Grad       tensor.Gradient
	Weight     *exec.Buffer // [K, K, C]
	Sink       tensor.Sink
	DWeight    *exec.Buffer  // [K, K, C]
	Accumulate bool          // add to DWeight
	Later      *partial.Sums // of an accelerator: makes the sum over the parts; nil: a launch of its own does
}

// Record appends the operation to a program and returns the sums that the sink's last consumer leaves.
func (b Backward) Record(p *exec.Program) tensor.Stats {
	c := b.Conv.defaults()
	b.In.Check("depthwise_backward")
	if b.In.Shape != c.In {
		panic(fmt.Sprintf("depthwise_backward: input %+v for %+v", b.In.Shape, c))
	}
	b.Grad.Check("depthwise_backward", c.Shape())
	exec.Need("depthwise_backward", "Weight", b.Weight, c.WeightLen())
	exec.Need("depthwise_backward", "DWeight", b.DWeight, c.WeightLen())
	args := c.args()
	reach := (c.K - 1) * c.Dilation
	// Columns from the first that a tap reaches to the last, and what strips read beyond.
	args.out_left = C.int64_t(max(0, reach-c.PadW))
	args.out_cols = args.out_left + C.int64_t(max(c.OutW+1, c.In.W+c.PadW+C.CTN_DEPTHWISE_STRIP*c.Stride))
	split(&args, c.In.H, int(args.in_ld)+int(args.out_cols)/c.Stride, int(args.out_cols)*(reach/c.Stride+2))
	b.In.Put(unsafe.Pointer(&args.in))
	b.Grad.Put(unsafe.Pointer(&args.grad), c.In.C)
	args.weight, args.dweight = floats(b.Weight), floats(b.DWeight)
	args.accumulate = flag(b.Accumulate)
	if p.Arena().Device().Accelerated() {
		return b.recordGPU(p, c, &args)
	}
	pixels := parts(&args, c.In.H, c.In.W)
	var stats tensor.Stats
	if b.Sink.D != nil {
		b.Sink.Check("depthwise_backward", c.In)
		if b.Sink.Sums() {
			stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C, pixels, 1)
		}
		b.Sink.Put(unsafe.Pointer(&args.sink), c.In.C, stats)
	}
	args.partial = floats(p.Arena().F32(len(pixels) * c.WeightLen()))
	outRows := (int(args.band)+reach)/c.Stride + 2
	scratch := (c.In.W+C.CTN_DEPTHWISE_STRIP*c.Stride+2*c.K*c.K)*lanes +
		(int(args.band)*int(args.in_ld)+outRows*int(args.out_cols))*int(args.channels)
	exec.Call(p, "depthwise_backward", unsafe.Pointer(&C.ctn_depthwise_backward), &args, scratch)
	exec.Call(p, "depthwise_reduce", unsafe.Pointer(&C.ctn_depthwise_reduce), &args, 0)
	return stats
}
