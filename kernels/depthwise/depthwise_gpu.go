package depthwise

/*
#include "depthwise.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

const file = "depthwise"

// rolled tells whether there are kernels that keep a window in registers for this geometry.
func (c Conv) rolled() bool {
	return (c.K == 3 || c.K == 5 || c.K == 7) && c.Stride <= 2 && c.Dilation == 1
}

// enoughBlocks is some for every multiprocessor of a large GPU: a block's work is cut down to this, for images must not
// be read by few.
const enoughBlocks = 1056

// tiles sets how an accelerator's blocks share an image of this size, whose columns begin `before` before its first:
// each thread has some columns side by side and two channels, `reach` rows and columns beyond a block's are read twice.
// It returns the pixels of each part: of a group of images a band of rows, and of that a tile of columns.
func tiles(args *C.ctn_depthwise_args, height, width, before, perThread int) []int32 {
	strips := 2
	for strips < 16 && strips*perThread < width+before {
		strips *= 2
	}
	images, across := int(args.n), exec.Blocks(int(args.c), 2*C.CTN_DEPTHWISE_THREADS/strips)
	columns := exec.Blocks(width+before, strips*perThread)
	tile := exec.Blocks(exec.Blocks(width+before, columns), perThread) * perThread
	columns = exec.Blocks(width+before, tile)
	// Bands of few rows read much twice; images together save parts that have to be added up.
	const fewRows = 14
	bands := max(1, min(exec.Blocks(enoughBlocks, images*columns*across), height/fewRows))
	band := exec.Blocks(height, bands)
	bands = exec.Blocks(height, band)
	together := max(1, images*bands*columns*across/enoughBlocks)
	args.strips, args.tile, args.tiles, args.chunks = C.int64_t(strips), C.int64_t(tile), C.int64_t(columns),
		C.int64_t(across)
	args.band, args.bands, args.images = C.int64_t(band), C.int64_t(bands), C.int64_t(together)
	var out []int32
	for n := 0; n < images; n += together {
		for y := 0; y < height; y += band {
			for x := -before; x < width; x += tile {
				out = append(out, int32(min(together, images-n)*min(band, height-y)*(min(x+tile, width)-max(0, x))))
			}
		}
	}
	args.parts = C.int64_t(len(out))
	return out
}

// launch is that of a rolled kernel; `rows` of `columns` lie in shared memory, and `fixed` numbers a channel.
func (c Conv) launch(args *C.ctn_depthwise_args, entry string, half bool, rows, columns, fixed int) exec.Launch {
	width := 2 * C.CTN_DEPTHWISE_THREADS / int(args.strips)
	pitch := width
	if pitch == 16 {
		pitch = 20
	}
	const sums = C.CTN_DEPTHWISE_THREADS * (2*tensor.ForwardRows + 1)
	shared := max(fixed*width+rows*columns*pitch, sums, int(args.strips)*c.K*width)
	return exec.Launch{File: file, Entry: tensor.Entry(fmt.Sprintf("cu_%s_k%ds%d", entry, c.K, c.Stride), half),
		Grid: [3]int{int(args.parts * args.chunks)}, Block: C.CTN_DEPTHWISE_THREADS, Shared: 4 * shared}
}

// sweep sets how an accelerator goes through some pixels one by one.
func sweep(pixels, c int, half bool, groups, block *C.int64_t) tensor.Sweep {
	s := tensor.NewSweep(pixels, c, half)
	*groups, *block = C.int64_t(s.Groups), C.int64_t(s.Block)
	return s
}

func (f Forward) recordGPU(p *exec.Program, c Conv, args *C.ctn_depthwise_args) tensor.Stats {
	half := tensor.Half("depthwise", f.In.Z, f.Z)
	var pixels []int32
	var launch exec.Launch
	var chunks int
	if c.rolled() {
		pixels = tiles(args, c.OutH, c.OutW, 0, 4/c.Stride)
		columns := (int(args.tile)-1)*c.Stride + c.K
		launch, chunks = c.launch(args, "depthwise", half, 2*c.Stride, columns, 3), int(args.chunks)
	} else {
		s := sweep(c.Shape().Pixels(), c.In.C, half, &args.groups, &args.block)
		pixels = tensor.Parts(c.Shape().Pixels(), s.Block)
		launch, chunks = s.Launch(file, "cu_depthwise_any", half), s.Chunks
	}
	var stats tensor.Stats
	if f.Sums {
		stats = tensor.NewStats(p.Arena(), tensor.ForwardRows, c.In.C, pixels, chunks)
		args.stats, args.norm = floats(stats.Rows), (*C.ctn_norm)(stats.Norm())
	}
	launch.Work.Bytes = f.In.Bytes() + f.Z.Bytes(c.Shape().Len())
	exec.Call(p, "depthwise", unsafe.Pointer(&C.ctn_depthwise), args, 0, launch)
	return stats
}

func (b Backward) recordGPU(p *exec.Program, c Conv, args *C.ctn_depthwise_args) tensor.Stats {
	tensors := append(b.Grad.Tensors(), b.In.Z)
	if b.Sink.D != nil {
		tensors = append(tensors, b.Sink.Tensors()...)
	}
	half := tensor.Half("depthwise_backward", tensors...)
	var pixels []int32
	var launches []exec.Launch
	var chunks int
	if c.rolled() {
		perThread := 2
		if c.K == 3 {
			perThread = 4
		}
		pixels = tiles(args, c.In.H, c.In.W, c.PadW%c.Stride, perThread)
		columns := (int(args.tile)-1)/c.Stride + (c.K-1)/c.Stride + 1
		launches = []exec.Launch{c.launch(args, "depthwise_backward", half, 2, columns, 7+c.K*c.K)}
		chunks = int(args.chunks)
		launches[0].Work.Bytes = b.Grad.Bytes(c.Shape()) + b.In.Bytes() + b.Sink.Bytes(c.In)
	} else {
		if b.Sink.D != nil {
			s := sweep(c.In.Pixels(), c.In.C, half, &args.groups, &args.block)
			pixels, chunks = tensor.Parts(c.In.Pixels(), s.Block), s.Chunks
			launches = append(launches, s.Launch(file, "cu_depthwise_input", half))
		}
		s := sweep(c.Shape().Pixels(), c.In.C, half, &args.groups, &args.weight_block)
		args.parts = C.int64_t(s.Parts)
		launches = append(launches, s.Launch(file, "cu_depthwise_weight", half))
	}
	var stats tensor.Stats
	if b.Sink.D != nil {
		b.Sink.Check("depthwise_backward", c.In)
		if b.Sink.Sums() {
			stats = tensor.NewStats(p.Arena(), tensor.BackwardRows, c.In.C, pixels, chunks)
		}
		b.Sink.Put(unsafe.Pointer(&args.sink), c.In.C, stats)
	}
	parts := p.Arena().F32(int(args.parts) * c.WeightLen())
	args.partial = floats(parts)
	exec.Call(p, "depthwise_backward", unsafe.Pointer(&C.ctn_depthwise_backward), args, 0, launches...)
	partial.Sum{In: parts, Parts: int(args.parts), Len: c.WeightLen(), Out: b.DWeight,
		Accumulate: b.Accumulate}.Record(p, b.Later)
	return stats
}
