// Package conv holds dense convolutions, NHWC: forward, the gradient in the input and the gradient in the weight. They
// read and write tensors as package tensor describes: batch norm and activation of the producer are applied on load,
// sums for batch norm leave with the result.
package conv

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "conv.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Conv is the geometry of a convolution. The weight is [KH, KW, In.C/Groups, Out], so Out varies fastest. Stride,
// Dilation and Groups of 0 are 1; a StrideW of 0 is Stride, which otherwise is the one down the rows.
//
// Padding is with zeros, PadH rows above and PadW columns to the left. The output has floor((H + 2 PadH - Dilation
// (KH-1) - 1)/Stride) + 1 rows, and columns likewise, unless OutH and OutW say otherwise: what lies below and to the
// right of the image is zero too. A negative padding leaves out rows or columns of the image.
type Conv struct {
	In               tensor.Shape
	Out              int
	KH, KW           int
	Stride, StrideW  int
	PadH, PadW       int
	Dilation, Groups int
	OutH, OutW       int
	Direct           bool // never by Winograd\'s algorithm, which sums in another order
}

// Shape is that of the output.
func (c Conv) Shape() tensor.Shape {
	c = c.defaults()
	return tensor.Shape{N: c.In.N, H: c.OutH, W: c.OutW, C: c.Out}
}

// WeightLen is the number of the weight's elements.
func (c Conv) WeightLen() int { return c.KH * c.KW * c.In.C / max(1, c.Groups) * c.Out }

// view is how a weight lies in memory: elements from a row, that is a channel of the input, to the next, and from a tap
// to the next.
type view struct{ ld, tap int }

// view completes the distances of a weight, 0 for dense, and checks that it lies in its buffer.
func (c Conv) view(op, name string, b *exec.Buffer, ld, tap int) view {
	depth := c.In.C / c.Groups
	if ld == 0 {
		ld = c.Out
	}
	if tap == 0 {
		tap = depth * ld
	}
	row := (depth-1)*ld + c.Out // of a tap
	if ld < c.Out || tap < row || c.KH*c.KW*tap > math.MaxInt32 {
		panic(fmt.Sprintf("%s: %s of %d taps of %d x %d, rows %d and taps %d apart", op, name, c.KH*c.KW, depth, c.Out,
			ld, tap))
	}
	exec.Need(op, name, b, (c.KH*c.KW-1)*tap+row)
	return view{ld, tap}
}

// MAdds is the number of multiply-adds of one direction.
func (c Conv) MAdds() int { return c.Shape().Pixels() * c.WeightLen() }

// PlainInput tells whether it pays on tensor cores to store the input as it is multiplied, before Forward and
// WeightGradient read it. That takes a read and a write of the input; otherwise each of the two takes every element
// through norm and activation once for every tap that reads it and every 128 channels of the output. From four such
// reads on, of channels that fill a step of the products, the arithmetic takes longer than the pass: in 3x3 from 64
// channels on, in 1x1 with 512 or more channels of output.
func (c Conv) PlainInput() bool {
	c = c.defaults()
	return c.In.C/c.Groups >= 64 && c.KH*c.KW*c.Out/c.Groups >= 512*c.Stride*c.StrideW
}

// PlainGradient tells the same of the gradient in the output, which InputGradient and WeightGradient read through the
// norm behind the convolution, p·g + q·z + r, once for every tap and every 128 channels of the input.
func (c Conv) PlainGradient() bool {
	c = c.defaults()
	return c.Out/c.Groups >= 64 && c.KH*c.KW*c.In.C/c.Groups >= 512
}

func (c Conv) defaults() Conv {
	c.Stride, c.Dilation, c.Groups = max(1, c.Stride), max(1, c.Dilation), max(1, c.Groups)
	if c.StrideW == 0 {
		c.StrideW = c.Stride
	}
	if c.OutH == 0 && c.OutW == 0 {
		c.OutH = (c.In.H+2*c.PadH-c.Dilation*(c.KH-1)-1)/c.Stride + 1
		c.OutW = (c.In.W+2*c.PadW-c.Dilation*(c.KW-1)-1)/c.StrideW + 1
	}
	if c.In.Len() <= 0 || c.Out <= 0 || c.KH <= 0 || c.KW <= 0 || c.KH*c.KW > 64 || c.StrideW < 1 ||
		c.OutH <= 0 || c.OutW <= 0 || c.In.C%c.Groups != 0 || c.Out%c.Groups != 0 {
		panic(fmt.Sprintf("conv: %+v", c))
	}
	return c
}

func (c Conv) window() C.ctn_window {
	return C.ctn_window{n: C.int64_t(c.In.N), h: C.int64_t(c.In.H), w: C.int64_t(c.In.W), ho: C.int64_t(c.OutH),
		wo: C.int64_t(c.OutW), kh: C.int64_t(c.KH), kw: C.int64_t(c.KW), stride_h: C.int64_t(c.Stride),
		stride_w: C.int64_t(c.StrideW), pad_h: C.int64_t(c.PadH), pad_w: C.int64_t(c.PadW),
		dilation: C.int64_t(c.Dilation)}
}

const (
	panel     = 32  // columns of a panel of the widest instruction set
	rowsATask = 192 // a multiple of every tile's rows
	fewTasks  = 8
)

// Forward is z = conv(In, Weight) + Bias. Out (pixels x OutStride, 0 for its channels) must not overlap In.
type Forward struct {
	Conv
	In     tensor.Input
	Weight *exec.Buffer // [KH, KW, In.C/Groups, Out]
	// Elements from a row of Weight to the next, and from a tap to the next: a part of a larger one. 0: dense.
	WeightLD, TapLD int
	Packing         *Packing     // packs the weight on an accelerator; nil: a launch of its own does
	Bias            *exec.Buffer // [Conv.Out], or nil
	Z               *exec.Buffer // [N, OutH, OutW, Out], pixels ZStride elements apart
	ZStride         int
	Sums            bool // leave sums of Z for norm.Forward
}

// Record appends the operation to a program and returns the sums, if there are any.
func (f Forward) Record(p *exec.Program) tensor.Stats {
	c := f.Conv.defaults()
	shape := c.Shape()
	f.In.Check("conv")
	if f.In.Shape != c.In {
		panic(fmt.Sprintf("conv: input %+v for %+v", f.In.Shape, c))
	}
	view := c.view("conv", "Weight", f.Weight, f.WeightLD, f.TapLD)
	tensor.Span("conv", "Z", f.Z, shape, f.ZStride)
	if f.Bias != nil {
		exec.Need("conv", "Bias", f.Bias, c.Out)
	}
	if f.ZStride == 0 {
		f.ZStride = c.Out
	}
	if p.Arena().Device().Accelerated() {
		return f.accelerated(p, c, view)
	}
	var stats tensor.Stats
	depth, cols := c.In.C/c.Groups, c.Out/c.Groups
	for g := range c.Groups {
		args := C.ctn_conv_args{at: c.window(), depth: C.int64_t(depth), cols: C.int64_t(cols),
			weight: floats(f.Weight.Slice(g*cols, f.Weight.Len()-g*cols)), weight_ld: C.int64_t(view.ld),
			tap_ld: C.int64_t(view.tap),
			out:    floats(f.Z.Slice(g*cols, f.Z.Len()-g*cols)), out_ld: C.int64_t(f.ZStride)}
		f.In.Channels(g*depth, depth).Put(unsafe.Pointer(&args.in))
		if f.Bias != nil {
			args.bias = floats(f.Bias.Slice(g*cols, cols))
		}
		if c.Winograd() {
			count := planWinograd(&args, shape)
			if f.Sums {
				stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.Out, count, 1)
				args.stats, args.stats_ld = floats(stats.Rows), C.int64_t(c.Out)
			}
			recordWinograd(p, &args, shape)
			return stats
		}
		plain := f.In.Scale == nil && f.In.Act == tensor.None && f.In.Gate == nil
		scratch := plan(&args, shape.Pixels(), plain && c.KH*c.KW == 1 && c.Stride == 1 && c.StrideW == 1 &&
			c.PadH == 0 && c.PadW == 0)
		if f.Sums {
			if g == 0 {
				stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.Out,
					tensor.Parts(shape.Pixels(), int(args.block)), 1)
			}
			args.stats, args.stats_ld = floats(stats.Rows.Slice(g*cols, stats.Rows.Len()-g*cols)), C.int64_t(c.Out)
		}
		pack(p, &args)
		exec.Call(p, "conv", unsafe.Pointer(&C.ctn_conv), &args, scratch)
	}
	return stats
}

// InputGradient is the gradient in a convolution's input. Sink must not overlap Grad.
type InputGradient struct {
	Conv
	Grad            tensor.Gradient
	Weight          *exec.Buffer // [KH, KW, In.C/Groups, Out]
	WeightLD, TapLD int          // as Forward's
	Packing         *Packing     // likewise
	Sink            tensor.Sink
}

// Record appends the operation to a program and returns the sums that the sink's last consumer leaves.
func (b InputGradient) Record(p *exec.Program) tensor.Stats {
	c := b.Conv.defaults()
	b.Grad.Check("conv_input_gradient", c.Shape())
	b.Sink.Check("conv_input_gradient", c.In)
	view := c.view("conv_input_gradient", "Weight", b.Weight, b.WeightLD, b.TapLD)
	if p.Arena().Device().Accelerated() {
		return b.accelerated(p, c, view)
	}
	var stats tensor.Stats
	depth, cols := c.Out/c.Groups, c.In.C/c.Groups
	for g := range c.Groups {
		args := C.ctn_conv_args{at: c.window(), transposed: 1, depth: C.int64_t(depth), cols: C.int64_t(cols),
			weight: floats(b.Weight.Slice(g*depth, b.Weight.Len()-g*depth)), weight_ld: C.int64_t(view.ld),
			tap_ld: C.int64_t(view.tap)}
		b.Grad.Channels(g*depth, c.Out).Put(unsafe.Pointer(&args.grad), depth)
		if c.Winograd() {
			count := planWinograd(&args, c.In)
			if b.Sink.Sums() {
				stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C, count, 1)
			}
			b.Sink.Put(unsafe.Pointer(&args.sink), cols, stats)
			recordWinograd(p, &args, c.In)
			return stats
		}
		scratch := plan(&args, c.In.Pixels(), false)
		if b.Sink.Sums() && g == 0 {
			stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C,
				tensor.Parts(c.In.Pixels(), int(args.block)), 1)
		}
		part := stats
		if b.Sink.Sums() {
			part.Rows = stats.Rows.Slice(g*cols, stats.Rows.Len()-g*cols)
		}
		b.Sink.Channels(g*cols, cols, c.In.C).Put(unsafe.Pointer(&args.sink), cols, part)
		pack(p, &args)
		exec.Call(p, "conv_input_gradient", unsafe.Pointer(&C.ctn_conv), &args, scratch)
	}
	return stats
}

// plan chooses how a convolution is split and how its tasks bring near what they read. It returns the floats of scratch
// that a task needs.
func plan(args *C.ctn_conv_args, pixels int, place bool) int {
	taps := int(args.at.kh * args.at.kw)
	depth := int(args.depth)
	parts := (pixels + rowsATask - 1) / rowsATask
	args.block = C.int64_t(((pixels+parts-1)/parts + 11) / 12 * 12)
	// With few rows the columns are split too: rather that than smaller blocks of rows, which would read the weight
	// more often.
	slices := 1
	if parts < fewTasks {
		slices = min((fewTasks+parts-1)/parts, max(1, int(args.cols)/64))
	}
	args.slice = C.int64_t(((int(args.cols)+slices-1)/slices + panel - 1) / panel * panel)
	block := int(args.block)
	args.chunk = C.int64_t(min(depth, 256))
	near := 0
	switch {
	case place:
		args.mode = C.CTN_CONV_PLACE
	case taps == 1 && args.transposed == 0 && (args.at.stride_h > 1 || args.at.stride_w > 1):
		// Much of the band would not be read.
		args.mode = C.CTN_CONV_GATHER
		near = block * int(args.chunk)
	case taps == 1:
		args.mode = C.CTN_CONV_BAND
		near = int(C.ctn_conv_band(&args.at, args.transposed, args.block)) * int(args.chunk)
	case taps*depth <= C.CTN_CONV_GATHERED:
		args.mode = C.CTN_CONV_GATHER
		near = (block*taps+int(C.ctn_conv_band(&args.at, args.transposed, args.block)))*depth + 32
	default:
		args.mode = C.CTN_CONV_BAND
		args.chunk = C.int64_t(min(depth, max(16, 288/taps/16*16))) // a panel of a chunk stays in the first-level cache
		near = int(C.ctn_conv_band(&args.at, args.transposed, args.block)) * int(args.chunk)
	}
	args.near = C.int64_t((near + 15) / 16 * 16)
	return C.CTN_CONV_TILE + int(args.near) + (2+taps)*block
}

// Winograd reports whether the convolution and the gradient in its input go by Winograd's algorithm, and the one in its
// weight.
func (c Conv) Winograd() bool {
	c = c.defaults()
	return !c.Direct && c.KH == 3 && c.KW == 3 && c.Stride == 1 && c.StrideW == 1 && c.Dilation == 1 && c.Groups == 1 &&
		min(c.PadH, c.PadW) >= 0 && max(c.PadH, c.PadW) <= 2 && min(c.OutH, c.OutW, c.In.H, c.In.W) >= 4 &&
		c.OutH == c.In.H+2*c.PadH-2 && c.OutW == c.In.W+2*c.PadW-2 && min(c.In.C, c.Out) >= 32
}

// planWinograd chooses how the tiles of the tensor that is written are split, and returns how many of its pixels each
// part has.
func planWinograd(args *C.ctn_conv_args, written tensor.Shape) []int32 {
	down, across := (written.H+1)/2, (written.W+1)/2
	tiles := written.N * down * across
	parts := (tiles + C.CTN_WINOGRAD_TILES - 1) / C.CTN_WINOGRAD_TILES
	block := ((tiles+parts-1)/parts + 11) / 12 * 12
	args.block, args.chunk = C.int64_t(block), min(args.depth, C.CTN_WINOGRAD_CHUNK)
	args.slice = (min(args.cols, C.CTN_WINOGRAD_COLS) + panel - 1) / panel * panel
	var count []int32
	for t := range tiles {
		if t%block == 0 {
			count = append(count, 0)
		}
		y, x := t/across%down*2, t%across*2
		count[len(count)-1] += int32(min(2, written.H-y) * min(2, written.W-x))
	}
	return count
}

// winogradBand is at most how many pixels a block of tiles reads, from the first to the last: it begins in some row of
// tiles and ends in another, maybe of a later image.
func winogradBand(block int, read, written tensor.Shape) int {
	down, across := (written.H+1)/2, (written.W+1)/2
	rows := (block+across-2)/across + 1
	return min(2*rows+2+(rows+down-2)/down*4, read.N*read.H) * read.W
}

func (c Conv) winogradSplits() int {
	up := func(a, b int) int { return (a + b - 1) / b }
	tiles := c.In.N * up(c.OutH, 2) * up(c.OutW, 2)
	return min(up(fewTasks, up(c.In.C, C.CTN_CONV_DEPTH)*up(c.Out, C.CTN_CONV_COLS)), up(tiles, C.CTN_WINOGRAD_TILES))
}

func recordWinograd(p *exec.Program, args *C.ctn_conv_args, written tensor.Shape) {
	block := int(args.block)
	read := tensor.Shape{N: written.N, H: int(args.at.h), W: int(args.at.w)}
	if args.transposed != 0 {
		read.H, read.W = int(args.at.ho), int(args.at.wo)
	}
	band := winogradBand(block, read, written)
	ld := (int(args.chunk) + 15) / 16 * 16
	args.near = C.int64_t(band * ld)
	args.packed = floats(p.Arena().F32((int(args.cols) + panel - 1) / panel * panel * 16 * int(args.depth)))
	exec.Call(p, "winograd_pack", unsafe.Pointer(&C.ctn_winograd_pack), args, 9*C.CTN_WINOGRAD_PACK*panel)
	scratch := 16*block*int(args.slice) + 16*block*ld + int(args.near) + 4*block*panel + 11*block
	exec.Call(p, "winograd", unsafe.Pointer(&C.ctn_winograd), args, scratch)
}

func pack(p *exec.Program, args *C.ctn_conv_args) {
	args.packed =
		floats(p.Arena().F32((int(args.cols) + panel - 1) / panel * panel * int(args.at.kh*args.at.kw*args.depth)))
	exec.Call(p, "conv_pack", unsafe.Pointer(&C.ctn_conv_pack), args, 0)
}

// WeightGradient is the gradient in a convolution's weight. The gradient in a bias is the sum of the rows of Grad:
// dense.ColumnSum.
type WeightGradient struct {
	Conv
	In      tensor.Input
	Grad    tensor.Gradient
	DWeight *exec.Buffer // [KH, KW, In.C/Groups, Out]
	// As Forward's, of DWeight: what lies between is left alone.
	WeightLD, TapLD int
	Accumulate      bool
	// PartialLen floats, overwritten; may be shared between operations; nil: its own. An accelerator takes it where it
	// is large enough.
	Partial *exec.Buffer
	// Of an accelerator: Later makes the sum over the parts, Together the parts, with those of others. It is to be
	// recorded before what Later does, and needs it. nil: launches of its own.
	Later    *partial.Sums
	Together *Weights
}

// PartialLen is how many floats the sums over parts of the rows take.
func (c Conv) PartialLen() int {
	c = c.defaults()
	if c.Winograd() {
		return c.winogradSplits() * 16 * c.In.C * c.Out
	}
	if s := c.splits(); s > 1 {
		return s * c.WeightLen() / c.Groups
	}
	return 0
}

// splits is into how many parts the rows are split, so that there are a few tasks.
func (c Conv) splits() int {
	up := func(a, b int) int { return (a + b - 1) / b }
	depth, cols := c.weightBlocks()
	blocks := up(c.In.C/c.Groups, depth) * up(c.Out/c.Groups, cols)
	return min(up(fewTasks, blocks), up(c.Shape().Pixels(), C.CTN_CONV_ROWS))
}

// weightBlocks is how many channels of the input and of the output a task of the weight's gradient has: blocks of about
// one size, of whole tiles.
func (c Conv) weightBlocks() (depth, cols int) {
	up := func(a, b int) int { return (a + b - 1) / b }
	even := func(n, most, unit int) int { return up(up(n, up(n, most)), unit) * unit }
	return even(c.In.C/c.Groups, 168, 12), even(c.Out/c.Groups, 160, panel)
}

// Record appends the operation to a program.
func (w WeightGradient) Record(p *exec.Program) {
	c := w.Conv.defaults()
	w.In.Check("conv_weight_gradient")
	if w.In.Shape != c.In {
		panic(fmt.Sprintf("conv_weight_gradient: input %+v for %+v", w.In.Shape, c))
	}
	w.Grad.Check("conv_weight_gradient", c.Shape())
	view := c.view("conv_weight_gradient", "DWeight", w.DWeight, w.WeightLD, w.TapLD)
	if p.Arena().Device().Accelerated() {
		w.accelerated(p, c, view)
		return
	}
	taps, depth, cols, splits := c.KH*c.KW, c.In.C/c.Groups, c.Out/c.Groups, c.splits()
	if c.Winograd() {
		splits = c.winogradSplits()
	}
	if splits > 1 || c.Winograd() {
		if w.Partial == nil {
			w.Partial = p.Arena().F32(c.PartialLen())
		}
		exec.Need("conv_weight_gradient", "Partial", w.Partial, c.PartialLen())
	}
	for g := range c.Groups {
		args := C.ctn_conv_weight_args{at: c.window(), depth: C.int64_t(depth), cols: C.int64_t(cols),
			splits: C.int64_t(splits), partial: floats(w.Partial),
			dweight: floats(w.DWeight.Slice(g*cols, w.DWeight.Len()-g*cols)), weight_ld: C.int64_t(view.ld),
			tap_ld: C.int64_t(view.tap)}
		args.accumulate = flag(w.Accumulate)
		w.In.Channels(g*depth, depth).Put(unsafe.Pointer(&args.in))
		w.Grad.Channels(g*cols, c.Out).Put(unsafe.Pointer(&args.grad), cols)
		if c.Winograd() {
			const tiles = C.CTN_WINOGRAD_TILES
			args.near = C.int64_t(winogradBand(tiles, c.In, c.Shape()) * C.CTN_CONV_DEPTH)
			scratch := 16*tiles*(C.CTN_CONV_DEPTH+16+C.CTN_CONV_COLS) + int(args.near) + 4*panel + 9*tiles
			exec.Call(p, "winograd_weight", unsafe.Pointer(&C.ctn_winograd_weight), &args, scratch)
			exec.Call(p, "winograd_weight_reduce", unsafe.Pointer(&C.ctn_winograd_reduce), &args, 0)
			return
		}
		blockC, blockJ := c.weightBlocks()
		args.block_c, args.block_j = C.int64_t(blockC), C.int64_t(blockJ)
		wide := min(depth, blockC)
		near := int(C.ctn_conv_band(&args.at, 0, C.CTN_CONV_ROWS)) * (wide + 16)
		args.mode = C.CTN_CONV_BAND
		if taps == 1 && c.Stride > 1 {
			args.mode, near = C.CTN_CONV_GATHER, C.CTN_CONV_ROWS*(wide+16)
		} else if taps > 1 && taps*depth <= C.CTN_CONV_GATHERED && depth <= blockC {
			args.mode = C.CTN_CONV_GATHER
			near += C.CTN_CONV_ROWS * (taps*wide + 16)
		}
		args.near = C.int64_t((near + 15) / 16 * 16)
		scratch := C.CTN_CONV_ROWS*(blockJ+32) + int(args.near) + C.CTN_CONV_ROWS*(3+taps)
		exec.Call(p, "conv_weight_gradient", unsafe.Pointer(&C.ctn_conv_weight), &args, scratch)
		if splits > 1 {
			exec.Call(p, "conv_weight_reduce", unsafe.Pointer(&C.ctn_conv_reduce), &args, 0)
		}
	}
}
