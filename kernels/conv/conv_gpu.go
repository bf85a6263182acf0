package conv

/*
#include "conv_gpu.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"math"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/conv/internal/split"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.cuh *.h
var Sources embed.FS

var floats, flag = exec.Ptr[C.float], exec.Flag[C.int32_t]

func (c Conv) geometry(v view) C.ctn_conv_geometry {
	i := func(n int) C.int32_t { return C.int32_t(n) }
	return C.ctn_conv_geometry{n: i(c.In.N), h: i(c.In.H), w: i(c.In.W), ho: i(c.OutH), wo: i(c.OutW), kh: i(c.KH),
		kw: i(c.KW), stride_h: i(c.Stride), stride_w: i(c.StrideW), pad_h: i(c.PadH), pad_w: i(c.PadW),
		dilation: i(c.Dilation), weight_ld: i(v.ld), tap_ld: i(v.tap)}
}

// accelerated records the convolution as launches.
func (f Forward) accelerated(p *exec.Program, c Conv, v view) tensor.Stats {
	half := tensor.Half("conv", f.In.Z, f.Z)
	if stats, ok := f.hopper(p, c, v, half); ok {
		return stats
	}
	args := C.ctn_conv_gpu_args{at: c.geometry(v), bias: floats(f.Bias), z: f.Z.Pointer(), ld: C.int64_t(f.ZStride)}
	f.In.Put(unsafe.Pointer(&args.in))
	w, form := packed{groups: c.Groups, depth: c.In.C / c.Groups, cols: c.Out / c.Groups}, formGeneral
	if half && inputVectors(f.In, c.Groups) && vectors(f.Z, f.ZStride, c.Shape(), c.Groups) {
		form = c.form(w.depth, w.cols, plain(f.In), f.In.Act <= tensor.HSigmoid)
	}
	work := c.work(f.In.Bytes() + f.Z.Bytes(c.Shape().Len()))
	return recordTiles(p, "conv", &args, half, form, w, work, f.Weight, f.Packing, c.Shape(),
		func(count []int32, chunks int) (stats tensor.Stats) {
			if f.Sums {
				stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.Out, count, chunks)
				args.stats, args.stats_ld, args.norm = floats(stats.Rows), C.int64_t(c.Out), (*C.ctn_norm)(stats.Norm())
			}
			return stats
		})
}

func (b InputGradient) accelerated(p *exec.Program, c Conv, v view) tensor.Stats {
	half := tensor.Half("conv_input_gradient", append(b.Grad.Tensors(), b.Sink.Tensors()...)...)
	if stats, ok := b.hopper(p, c, v, half); ok {
		return stats
	}
	args := C.ctn_conv_gpu_args{at: c.geometry(v)}
	b.Grad.Put(unsafe.Pointer(&args.grad), c.Out)
	w, form := packed{transposed: true, groups: c.Groups, depth: c.Out / c.Groups, cols: c.In.C / c.Groups}, formGeneral
	if half && vectors(b.Grad.G, b.Grad.Stride, c.Shape(), c.Groups) &&
		(b.Grad.P == nil || vectors(b.Grad.Z, b.Grad.ZStride, c.Shape(), c.Groups)) &&
		vectors(b.Sink.D, b.Sink.Stride, c.In, c.Groups) &&
		(b.Sink.Of == nil || vectors(b.Sink.Of.Z, b.Sink.Of.Stride, c.In, c.Groups)) && c.Stride*c.StrideW == 1 {
		form = c.form(w.depth, w.cols, b.Grad.P == nil, true)
	}
	work := c.work(b.Grad.Bytes(c.Shape()) + b.Sink.Bytes(c.In))
	return recordTiles(p, "conv_input", &args, half, form, w, work, b.Weight, b.Packing, c.In,
		func(count []int32, chunks int) (stats tensor.Stats) {
			if b.Sink.Sums() {
				stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C, count, chunks)
			}
			b.Sink.Put(unsafe.Pointer(&args.sink), c.In.C, stats)
			return stats
		})
}

// form says which kernels run a direction of a convolution.
type form int

const (
	formGeneral form = iota // conv.cu
	formPlain               // conv_plain.cu: what is read lies as it is multiplied
	formPoint               // conv_point.cu: 1x1 with few channels on one of the sides
	formOneTap              // conv.cu: 1x1 of more channels
)

// form chooses the kernels of a direction that reads and writes whole vectors: depth channels, as they are multiplied
// or behind an activation that is cheap or not, for cols. The kernels of conv_plain.cu count their way through the
// taps: a tap fills at least a step, and rows and columns of taps have a bit each.
func (c Conv) form(depth, cols int, asTheyAre, cheap bool) form {
	wide := asTheyAre && depth >= C.CTN_CONV_GPU_PLAIN_STEP && max(c.KH, c.KW) < 16
	switch {
	case c.pointwise() && cheap && depth <= C.CTN_CONV_GPU_POINT_STEPS*C.CTN_CONV_GPU_PLAIN_STEP &&
		(!wide || cols <= C.CTN_CONV_GPU_POINT_COLS):
		return formPoint
	case wide:
		return formPlain
	case c.pointwise() && cheap:
		return formOneTap
	}
	return formGeneral
}

// pointwise tells whether each pixel of the output is made of that one of the input, of all its channels.
func (c Conv) pointwise() bool {
	return c.KH*c.KW == 1 && c.Stride*c.StrideW == 1 && c.PadH == 0 && c.PadW == 0 && c.OutH == c.In.H &&
		c.OutW == c.In.W && c.Groups == 1
}

// vectors tells whether a tensor of bfloat16 consists of whole vectors of channels, in every group, at multiples of 16
// bytes, and its elements, and those of 256 more images, can be counted in 32 bits: what the kernels of conv_plain.cu
// read and write, who look that far ahead.
func vectors(b *exec.Buffer, stride int, s tensor.Shape, groups int) bool {
	const lanes = C.CTN_CONV_GPU_LANES_BF16
	if stride == 0 {
		stride = s.C
	}
	return s.C/groups%lanes == 0 && stride%lanes == 0 && uintptr(b.Pointer())%16 == 0 &&
		(s.N+256)*s.H*s.W*stride < math.MaxInt32
}

// inputVectors tells the same of an input, the last of whose vectors may be filled up with zeros.
func inputVectors(in tensor.Input, groups int) bool {
	s := in.Shape
	if in.Padded {
		s.C = exec.Blocks(s.C, C.CTN_CONV_GPU_LANES_BF16) * C.CTN_CONV_GPU_LANES_BF16
	}
	return vectors(in.Z, in.Stride, s, groups)
}

// work is what a direction has to do that moves so many bytes of tensors.
func (c Conv) work(bytes float64) exec.Work {
	return exec.Work{Bytes: bytes + 4*float64(c.WeightLen()), FLOPs: 2 * float64(c.MAdds())}
}

// recordTiles plans how the pixels and channels that are written are split into tiles and parts, and records the
// launch. The weight is packed with the others of packing, if that is given, otherwise by a launch of its own; the
// kernels of conv_point.cu read it as it lies.
func recordTiles(p *exec.Program, name string, args *C.ctn_conv_gpu_args, half bool, form form, w packed,
	work exec.Work, weight *exec.Buffer, packing *Packing, written tensor.Shape,
	sums func(count []int32, chunks int) tensor.Stats) tensor.Stats {
	const rows = C.CTN_CONV_GPU_ROWS
	tiles := exec.Blocks(written.Pixels(), rows)
	step, lanes, entry := C.CTN_CONV_GPU_STEP_F32, C.CTN_CONV_GPU_LANES_F32, "cu_"+name
	w.layout, w.tile = packedF32, C.CTN_CONV_GPU_COLS_F32
	if half {
		step, lanes = C.CTN_CONV_GPU_STEP_BF16, C.CTN_CONV_GPU_LANES_BF16
		w.layout, w.tile = packedBF16, halfTile(tiles*w.groups, w.cols)
		entry = fmt.Sprintf("%s_%d", tensor.Entry(entry, half), w.tile)
	}
	file, shared := "conv", sharedGeneral(half, w.tile)
	switch form {
	case formPlain:
		w.tile = max(w.tile, 64)
		file, entry, shared = "conv_plain", fmt.Sprintf("cu_%s_plain_%d", name, w.tile), sharedPlain(w.tile)
	case formOneTap:
		w.tile = max(w.tile, 64)
		entry, shared = fmt.Sprintf("cu_%s_1x1_%d", name, w.tile), sharedGeneral(half, w.tile)
	case formPoint: // tiles of about one size
		w.tile = exec.Blocks(exec.Blocks(w.cols, exec.Blocks(w.cols, C.CTN_CONV_GPU_POINT_COLS)), lanes) * lanes
		file, entry, shared = "conv_point", fmt.Sprintf("cu_%s_point", name), sharedPoint(w.depth, w.transposed)
	}
	w.tiles, w.taps = exec.Blocks(w.cols, w.tile), int(args.at.kh*args.at.kw)
	w.pad, w.step = exec.Blocks(w.depth, lanes)*lanes, step
	w.steps, w.weightLD, w.weightTap = exec.Blocks(w.pad*w.taps, step), int(args.at.weight_ld), int(args.at.tap_ld)
	if form == formPlain { // it takes two of the packed steps at a time
		w.steps = exec.Blocks(w.steps, 2) * 2
	}
	args.rows = C.int32_t(written.Pixels())
	args.at.depth, args.at.cols = C.int32_t(w.depth), C.int32_t(w.cols)
	args.tiles = C.int32_t(min(max(tiles*w.tiles*w.groups/split.Target.Enough, 1), split.Target.Tiles))
	block := rows * int(args.tiles)
	stats := sums(tensor.Parts(written.Pixels(), block), w.tiles*w.groups)
	work.Issued = 2 * float64(tiles*rows) * float64(w.groups*w.tiles*w.tile) * float64(w.steps*step)
	if w.transposed { // each pixel has the taps of its phase
		work.Issued /= float64(args.at.stride_h * args.at.stride_w)
	}
	launch := exec.Launch{File: file, Entry: entry, Block: C.CTN_CONV_GPU_BLOCK, Shared: shared, Work: work,
		Grid: [3]int{exec.Blocks(written.Pixels(), block) * w.tiles, w.groups}}
	if form == formPoint {
		args.weight, args.tile_cols = floats(weight), C.int32_t(w.tile)
		exec.Call(p, name, nil, args, 0, launch)
		return stats
	}
	args.packed = packing.pack(p, weight, w)
	exec.Call(p, name, nil, args, 0, launch)
	return stats
}

// halfTile is the number of columns of a tile of tensor cores: as many as there are, since the left side is read once
// for every tile of columns, but narrower where that leaves most of a large GPU idle.
func halfTile(tiles, cols int) int {
	for _, tile := range []int{128, 64} {
		if cols > tile/2 && tiles*exec.Blocks(cols, tile) >= split.Target.Resident/2 {
			return tile
		}
	}
	return 32
}

// sharedGeneral is the dynamic shared memory of a tile of conv.cu: two steps of both sides, the results, or the sums of
// its threads, whatever is largest.
func sharedGeneral(half bool, tile int) int {
	const rows, block = C.CTN_CONV_GPU_ROWS, C.CTN_CONV_GPU_BLOCK
	steps := 2 * 4 * C.CTN_CONV_GPU_STEP_F32 * (rows + tile + 8)
	if half {
		steps = 2 * 2 * (C.CTN_CONV_GPU_STEP_BF16 + 8) * (rows + tile)
	}
	const sums = 4 * block * (4*tensor.ForwardRows + 1)
	return max(steps, 4*rows*(tile+4), sums)
}

// sharedPlain is that of a tile of conv_plain.cu: its stages of both sides, which are more than results or sums take.
func sharedPlain(tile int) int {
	return 2 * C.CTN_CONV_GPU_PLAIN_STAGES * C.CTN_CONV_GPU_PLAIN_STEP * (C.CTN_CONV_GPU_ROWS + tile)
}

// sharedPoint is that of a tile of conv_point.cu: two steps of the left side or the results, and the whole weight.
func sharedPoint(depth int, transposed bool) int {
	left := C.CTN_CONV_GPU_POINT_LEFT
	if transposed {
		left = C.CTN_CONV_GPU_POINT_RESULTS
	}
	const step = C.CTN_CONV_GPU_PLAIN_STEP
	return left + 2*exec.Blocks(depth, step)*step*C.CTN_CONV_GPU_POINT_COLS
}

func (w WeightGradient) accelerated(p *exec.Program, c Conv, v view) {
	const op = "conv_weight_gradient"
	half := tensor.Half(op, append(w.Grad.Tensors(), w.In.Z)...)
	if w.hopper(p, c, v, half) {
		return
	}
	rows, cols, lanes, step := 128, C.CTN_CONV_GPU_COLS_F32, C.CTN_CONV_GPU_LANES_F32, C.CTN_CONV_GPU_STEP_F32
	depth, taps, pixels := c.In.C/c.Groups, c.KH*c.KW, c.Shape().Pixels()
	entry, file, shared := "cu_conv_weight", "conv_weight", 0
	resident := split.Target.Resident
	switch form := w.form(c, half); {
	case form == formPlain:
		rows, cols, step, lanes = C.CTN_CONV_GPU_ROWS, 128, C.CTN_CONV_GPU_PLAIN_STEP, C.CTN_CONV_GPU_LANES_BF16
		if c.Out/c.Groups <= 64 {
			cols = 64
		}
		entry, file, shared = fmt.Sprintf("cu_conv_weight_plain_%d", cols), "conv_plain", sharedPlain(cols)
	case form == formPoint:
		rows, cols, step, lanes = C.CTN_CONV_GPU_PLAIN_STEP, C.CTN_CONV_GPU_POINT_COLS, C.CTN_CONV_GPU_PLAIN_STEP,
			C.CTN_CONV_GPU_LANES_BF16
		entry, file = "cu_conv_weight_point", "conv_point"
	case half:
		rows, lanes, step = 128, C.CTN_CONV_GPU_LANES_BF16, C.CTN_CONV_GPU_STEP_BF16
		if depth*taps <= 64 || c.Out/c.Groups <= 64 {
			rows, resident = 64, 2*resident
		}
		cols = rows
		entry = fmt.Sprintf("%s_%d", tensor.Entry(entry, half), rows)
	}
	down, across := exec.Blocks(exec.Blocks(depth, lanes)*lanes*taps, rows), exec.Blocks(c.Out/c.Groups, cols)
	splits := splits(down*across*c.Groups, resident, pixels/(8*step)) // some steps for each
	each := exec.Blocks(exec.Blocks(pixels, splits), step) * step
	splits = exec.Blocks(pixels, each)
	args := C.ctn_conv_weight_gpu{at: c.geometry(v), pixels: C.int32_t(pixels), split: C.int32_t(each),
		splits: C.int32_t(splits), tiles: C.int32_t(across), len: C.int64_t(c.WeightLen()), dweight: floats(w.DWeight),
		out: C.int32_t(c.Out)}
	args.at.depth, args.at.cols = C.int32_t(depth), C.int32_t(c.Out/c.Groups)
	apart := C.CTN_CONV_GPU_BLOCK * lanes / rows // pixels
	args.apart = [3]C.int32_t{C.int32_t(apart / (c.OutH * c.OutW)), C.int32_t(apart / c.OutW % c.OutH),
		C.int32_t(apart % c.OutW)}
	args.accumulate = flag(w.Accumulate)
	w.In.Put(unsafe.Pointer(&args.in))
	w.Grad.Put(unsafe.Pointer(&args.grad), c.Out)
	if splits > 1 {
		if w.Partial == nil || w.Partial.Len() < splits*c.WeightLen() {
			w.Partial = p.Arena().F32(splits * c.WeightLen())
		}
		args.partial = floats(w.Partial)
	}
	work := c.work(w.In.Bytes() + w.Grad.Bytes(c.Shape()))
	work.Issued = 2 * float64(down*rows) * float64(across*cols*c.Groups) * float64(splits*each)
	job := weightJob{general: &args, tiles: down * across, groups: c.Groups, splits: splits,
		launch: exec.Launch{File: file, Entry: entry, Block: C.CTN_CONV_GPU_BLOCK, Shared: shared, Work: work}}
	w.record(p, c, v, job)
}

// form chooses the kernels of the gradient in the weight.
func (w WeightGradient) form(c Conv, half bool) form {
	if !half || !inputVectors(w.In, c.Groups) ||
		!vectors(w.Grad.G, w.Grad.Stride, c.Shape(), c.Groups) ||
		w.Grad.P != nil && !vectors(w.Grad.Z, w.Grad.ZStride, c.Shape(), c.Groups) {
		return formGeneral
	}
	asTheyAre := plain(w.In) && w.Grad.P == nil
	switch {
	case asTheyAre && c.In.C/c.Groups*c.KH*c.KW > C.CTN_CONV_GPU_PLAIN_STEP:
		return formPlain
	case c.pointwise() && w.In.Act <= tensor.HSigmoid:
		return formPoint
	}
	return formGeneral
}

// splits is into how many parts, at most `most`, the pixels of a weight's gradient are split where each part is `tiles`
// blocks and `resident` of them run at the same time. The blocks take equally long: what counts is how full the last of
// their waves is. The first number that fills nine tenths of the waves will do, since each split is written and read
// once more.
func splits(tiles, resident, most int) int {
	best, fullest := 1, 0.0
	for n := range min(most, exec.Blocks(4*resident, tiles)) {
		blocks := (n + 1) * tiles
		full := float64(blocks) / float64(exec.Blocks(blocks, resident)*resident)
		if full > fullest {
			best, fullest = n+1, full
		}
		if full >= 0.9 {
			break
		}
	}
	return best
}
