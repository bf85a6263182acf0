package conv

/*
#include "pack.h"
*/
import "C"

import (
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Packing collects the weights of a program's convolutions. An accelerator puts them in the order in which its kernels
// read them, all in one launch, which is to be recorded before the first of the convolutions and behind what writes
// the weights.
type Packing struct {
	all    []C.ctn_conv_packed
	blocks int
}

// layout is how a step of a packed weight lies in memory; see pack.h.
type layout int32

const (
	packedF32      layout = C.CTN_PACK_F32
	packedBF16     layout = C.CTN_PACK_BF16
	packedSwizzled layout = C.CTN_PACK_SWIZZLED
)

// packed says how a weight is packed.
type packed struct {
	layout
	transposed          bool
	groups, taps        int
	depth, cols         int // of a group: channels read and written
	pad                 int // rows of a tap, at least depth
	step, steps         int // rows of a step, and steps
	tile, tiles         int // columns of a tile, a multiple of CTN_PACK_COLS, and tiles
	weightLD, weightTap int
}

// pack returns where a weight lies packed: with the others of the collection, or, where there is none, by a launch of
// its own, which it records.
func (k *Packing) pack(p *exec.Program, weight *exec.Buffer, w packed) unsafe.Pointer {
	if k != nil {
		return k.add(p.Arena(), weight, w).Pointer()
	}
	alone := &Packing{}
	at := alone.add(p.Arena(), weight, w).Pointer()
	alone.Record(p)
	return at
}

// add packs a weight into new memory.
func (k *Packing) add(a *exec.Arena, weight *exec.Buffer, w packed) *exec.Buffer {
	size := w.groups * w.tiles * w.tile * w.steps * w.step
	var out *exec.Buffer
	if w.layout == packedF32 {
		out = a.F32(size)
	} else {
		out = a.BF16(size)
	}
	i := func(n int) C.int32_t { return C.int32_t(n) }
	k.all = append(k.all, C.ctn_conv_packed{weight: floats(weight), packed: out.Pointer(), layout: i(int(w.layout)),
		transposed: flag(w.transposed), groups: i(w.groups), taps: i(w.taps), depth: i(w.depth), cols: i(w.cols),
		pad: i(w.pad), step: i(w.step), steps: i(w.steps), tile_cols: i(w.tile), tiles: i(w.tiles),
		weight_ld: i(w.weightLD), tap_ld: i(w.weightTap), first: i(k.blocks)})
	k.blocks += exec.Blocks(w.steps*w.step, C.CTN_PACK_ROWS) * (w.tiles * w.tile / C.CTN_PACK_COLS) * w.groups
	return out
}

// Record appends the packing of what was collected, if anything was.
func (k *Packing) Record(p *exec.Program) {
	if len(k.all) == 0 {
		return
	}
	n := len(k.all) * int(unsafe.Sizeof(k.all[0])) / 4
	table := p.Arena().Ints(unsafe.Slice((*int32)(unsafe.Pointer(&k.all[0])), n))
	args := C.ctn_conv_pack_args{all: (*C.ctn_conv_packed)(table.Pointer()), count: C.int32_t(len(k.all))}
	exec.Call(p, "conv_pack", nil, &args, 0, exec.Launch{File: "pack", Entry: "cu_conv_pack",
		Grid: [3]int{k.blocks}, Block: C.CTN_PACK_BLOCK})
}
