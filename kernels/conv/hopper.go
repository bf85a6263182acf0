package conv

/*
#include "hopper.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/conv/internal/split"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// The kernels of compute capability 9.0 take a convolution whose operands lie in memory as they are multiplied.

// hopper tells whether the device has those kernels and the convolution is one for them: no stride, and wide enough
// that it is products of matrices that take the time.
func (c Conv) hopper(d *exec.Device, half bool) bool {
	const wide, most = 64, 128
	inside := func(pad, k, read, written int) bool {
		return -pad > -most && pad-k+1 > -most && written-read-pad < most && read-written+pad-k+1 < most &&
			pad < most && k-1-pad < most
	}
	return half && d.Hopper() && c.Stride == 1 && c.StrideW == 1 && c.Dilation == 1 && c.Groups == 1 &&
		min(c.In.C, c.Out) >= wide && inside(c.PadH, c.KH, c.In.H, c.OutH) && inside(c.PadW, c.KW, c.In.W, c.OutW)
}

// copied tells whether a tensor can be copied by a map: pixels on multiples of 16 bytes.
func copied(b *exec.Buffer, ld, c int) bool {
	if ld == 0 {
		ld = c
	}
	return uintptr(b.Pointer())%16 == 0 && ld%8 == 0
}

// plain tells whether a tensor is multiplied as it is stored, and has nothing between its pixels that is not copied.
func plain(in tensor.Input) bool {
	return !in.Padded && in.Scale == nil && in.Act == tensor.None && in.Gate == nil && copied(in.Z, in.Stride, in.C)
}

// imageMap describes a tensor in whose box there are as many pixels as the written tensor has, from `left` and `top`
// on.
func imageMap(b *exec.Buffer, ld int, s tensor.Shape, left, top int, written tensor.Shape, pixels int) cuda.ImageMap {
	if ld == 0 {
		ld = s.C
	}
	return cuda.ImageMap{Z: b.Pointer(), N: s.N, H: s.H, W: s.W, C: s.C, LD: ld, Lower: [2]int{left, top},
		Upper: [2]int{written.W - s.W + left, written.H - s.H + top}, Pixels: pixels}
}

// hopperTiles are the kernels' tiles, pixels by channels, and how near they come to the tensor cores' rate (a guess).
var hopperTiles = []struct {
	rows, cols int
	worth      float64
}{{128, 64, 0.6}, {128, 128, 1}}

// hopperTile is the tile with which a large GPU is done first: little of the tiles outside of the product, and few
// blocks in the last wave.
func hopperTile(pixels, cols int) (rows, columns int) {
	if t := split.Target.Tile; t > 0 {
		t = (t - 1) % len(hopperTiles)
		return hopperTiles[t].rows, hopperTiles[t].cols
	}
	best, at := 0.0, 0
	for i, t := range hopperTiles {
		blocks, wave := exec.Blocks(pixels, t.rows)*exec.Blocks(cols, t.cols), split.Target.Resident/2
		inside := float64(pixels*cols) / float64(blocks*t.rows*t.cols)
		busy := float64(blocks) / float64(exec.Blocks(blocks, wave)*wave)
		if worth := t.worth * inside * busy; worth > best {
			best, at = worth, i
		}
	}
	return hopperTiles[at].rows, hopperTiles[at].cols
}

// hopper records the convolution by the kernels of compute capability 9.0; false: they do not take it.
func (f Forward) hopper(p *exec.Program, c Conv, v view, half bool) (stats tensor.Stats, ok bool) {
	if !c.hopper(p.Arena().Device(), half) || !plain(f.In) {
		return stats, false
	}
	args := C.ctn_conv_hopper_args{top: C.int32_t(-c.PadH), left: C.int32_t(-c.PadW),
		bias: (*C.float)(f.Bias.Pointer()), z: f.Z.Pointer(), ld: C.int64_t(f.ZStride)}
	m := imageMap(f.In.Z, f.In.Stride, c.In, -c.PadW, -c.PadH, c.Shape(), C.CTN_HOPPER_BOX)
	w := packed{depth: c.In.C, cols: c.Out, weightLD: v.ld, weightTap: v.tap}
	work := c.work(f.In.Bytes() + f.Z.Bytes(c.Shape().Len()))
	return recordHopper(p, "conv", &args, c, m, w, work, f.Weight, f.Packing, c.Shape(),
		func(count []int32, chunks int) (stats tensor.Stats) {
			if f.Sums {
				stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.Out, count, chunks)
				args.stats, args.stats_ld, args.norm = floats(stats.Rows), C.int64_t(c.Out), (*C.ctn_norm)(stats.Norm())
			}
			return stats
		}), true
}

func (b InputGradient) hopper(p *exec.Program, c Conv, v view, half bool) (stats tensor.Stats, ok bool) {
	if !c.hopper(p.Arena().Device(), half) || b.Grad.P != nil || !copied(b.Grad.G, b.Grad.Stride, c.Out) {
		return stats, false
	}
	top, left := c.PadH-c.KH+1, c.PadW-c.KW+1
	args := C.ctn_conv_hopper_args{top: C.int32_t(top), left: C.int32_t(left)}
	m := imageMap(b.Grad.G, b.Grad.Stride, c.Shape(), left, top, c.In, C.CTN_HOPPER_BOX)
	w := packed{transposed: true, depth: c.Out, cols: c.In.C, weightLD: v.ld, weightTap: v.tap}
	work := c.work(b.Grad.Bytes(c.Shape()) + b.Sink.Bytes(c.In))
	return recordHopper(p, "conv_input", &args, c, m, w, work, b.Weight, b.Packing, c.In,
		func(count []int32, chunks int) (stats tensor.Stats) {
			if b.Sink.Sums() {
				stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C, count, chunks)
			}
			b.Sink.Put(unsafe.Pointer(&args.sink), c.In.C, stats)
			return stats
		}), true
}

// recordHopper plans how what is written is split into tiles and parts, and records the launch. The weight is packed
// with the others of packing, if that is given, otherwise by a launch of its own.
func recordHopper(p *exec.Program, name string, args *C.ctn_conv_hopper_args, c Conv, m cuda.ImageMap, w packed,
	work exec.Work, weight *exec.Buffer, packing *Packing, written tensor.Shape,
	sums func(count []int32, chunks int) tensor.Stats) tensor.Stats {
	const step = C.CTN_IMAGE_CHANNELS
	pixels := written.Pixels()
	rows, tile := hopperTile(pixels, w.cols)
	across, chunks := exec.Blocks(w.cols, tile), exec.Blocks(w.depth, step)
	args.rows, args.h, args.w = C.int32_t(pixels), C.int32_t(written.H), C.int32_t(written.W)
	args.kh, args.kw, args.chunks = C.int32_t(c.KH), C.int32_t(c.KW), C.int32_t(chunks)
	args.depth, args.cols, args.across = C.int32_t(w.depth), C.int32_t(w.cols), C.int32_t(across)
	w.layout, w.groups, w.taps, w.pad, w.step = packedSwizzled, 1, c.KH*c.KW, chunks*step, step
	w.steps, w.tile, w.tiles = w.taps*chunks, tile, across
	// Half as many blocks as the kernels for all GPUs have, of which two are resident at once.
	args.tiles = C.int32_t(min(max(2*exec.Blocks(pixels, rows)*across/split.Target.Enough, 1), split.Target.Tiles))
	block := rows * int(args.tiles)
	stats := sums(tensor.Parts(pixels, block), across)
	args.packed = packing.pack(p, weight, w)
	p.Arena().Device().ImageMap(unsafe.Pointer(&args.of), m)
	work.Issued = 2 * float64(exec.Blocks(pixels, rows)*rows) * float64(across*tile) * float64(w.steps*step)
	exec.Call(p, name, nil, args, 0, exec.Launch{File: "hopper",
		Entry: fmt.Sprintf("cu_%s_hopper_%dx%d", name, rows, tile), Block: C.CTN_HOPPER_BLOCK, Work: work,
		Grid: [3]int{exec.Blocks(pixels, block) * across}, Shared: hopperShared(rows, tile)})
	return stats
}

// hopperShared is the dynamic shared memory of a tile: stages of both sides, results on their way out, and what is lost
// until the first multiple of 1,024.
func hopperShared(rows, cols int) int {
	return hopperStages(rows, cols) + C.CTN_HOPPER_RESULTS
}

func hopperStages(rows, cols int) int {
	stage, stages := 2*C.CTN_IMAGE_CHANNELS*(rows+cols), 4
	if stage > C.CTN_HOPPER_LARGE {
		stages = 3
	}
	return 1024 + stages*stage
}

// hopperWeightTiles are the tiles of the weight's gradient, rows by columns.
var hopperWeightTiles = []struct {
	rows, cols int
	worth      float64
}{{256, 64, 0.7}, {128, 128, 0.85}, {256, 128, 1}, {128, 256, 1}}

// hopperWeightTile is the tile of which the least lies outside of the product.
func (c Conv) hopperWeightTile() (rows, cols int) {
	taps, best := c.KH*c.KW, 0.0
	for i, t := range hopperWeightTiles {
		tiles := exec.Blocks(taps*exec.Blocks(c.In.C, C.CTN_IMAGE_CHANNELS), t.rows/C.CTN_IMAGE_CHANNELS) *
			exec.Blocks(c.Out, t.cols)
		worth := t.worth * float64(taps*c.In.C*c.Out) / float64(tiles*t.rows*t.cols)
		if split.Target.Tile == i+1 {
			return t.rows, t.cols
		}
		if worth > best {
			best, rows, cols = worth, t.rows, t.cols
		}
	}
	return rows, cols
}

func (w WeightGradient) hopper(p *exec.Program, c Conv, v view, half bool) bool {
	d := p.Arena().Device()
	if !c.hopper(d, half) || !plain(w.In) || w.Grad.P != nil || !copied(w.Grad.G, w.Grad.Stride, c.Out) {
		return false
	}
	const step = C.CTN_HOPPER_STEP
	rows, cols := c.hopperWeightTile()
	pixels, chunks := c.Shape().Pixels(), exec.Blocks(c.In.C, C.CTN_IMAGE_CHANNELS)
	tiles := exec.Blocks(c.KH*c.KW*chunks, rows/C.CTN_IMAGE_CHANNELS) * exec.Blocks(c.Out, cols)
	each := exec.Blocks(exec.Blocks(pixels, step), splits(tiles, split.Target.Resident/2, pixels/(8*step))) * step
	splits := exec.Blocks(pixels, each)
	i := func(n int) C.int32_t { return C.int32_t(n) }
	args := C.ctn_conv_weight_hopper{pixels: i(pixels), h: i(c.OutH), w: i(c.OutW), top: i(-c.PadH),
		left: i(-c.PadW), kh: i(c.KH), kw: i(c.KW), depth: i(c.In.C), chunks: i(chunks), cols: i(c.Out),
		across: i(exec.Blocks(c.Out, cols)), split: i(each), splits: i(splits), accumulate: flag(w.Accumulate),
		apart:     [3]C.int32_t{i(step / (c.OutH * c.OutW)), i(step / c.OutW % c.OutH), i(step % c.OutW)},
		weight_ld: i(v.ld), tap_ld: i(v.tap), len: C.int64_t(c.WeightLen()), dweight: floats(w.DWeight)}
	d.ImageMap(unsafe.Pointer(&args.x), imageMap(w.In.Z, w.In.Stride, c.In, -c.PadW, -c.PadH, c.Shape(), step))
	d.ImageMap(unsafe.Pointer(&args.dz), imageMap(w.Grad.G, w.Grad.Stride, c.Shape(), 0, 0, c.Shape(), step))
	if splits > 1 {
		if w.Partial == nil || w.Partial.Len() < splits*c.WeightLen() {
			w.Partial = p.Arena().F32(splits * c.WeightLen())
		}
		args.partial = floats(w.Partial)
	}
	work := c.work(w.In.Bytes() + w.Grad.Bytes(c.Shape()))
	work.Issued = 2 * float64(tiles*rows) * float64(cols) * float64(splits*each)
	w.record(p, c, v, weightJob{hopper: &args, tiles: tiles, groups: 1, splits: splits,
		launch: exec.Launch{File: "hopper_weight", Entry: fmt.Sprintf("cu_conv_weight_hopper_%dx%d", rows, cols),
			Block: C.CTN_HOPPER_BLOCK, Shared: hopperStages(rows, cols), Work: work}})
	return true
}
