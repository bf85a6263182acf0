package graph

/*
#include "layer.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Layer is a round of a graph convolution over rows that graphs share, for scoring:
//
//	H[r] = relu( Own[Self[r]-First] + Σ_e In[Idx[e]-First] + Bias ),  Ptr[r] <= e < Ptr[r+1]
//	Out = H·Matrix    OutOwn = H·Matrix + H    Score[r] = H[r]·Head
//
// In is the round below's Out; so is Own, or, with a residual, its OutOwn: a row then reads its own row's product and
// the row itself at once. What has no buffer is left out. The first round has a Table of rows instead, H = Table.
//
// Rows and products are made by LayerRows: on an accelerator in bf16 they are half as large, and are read by other
// Layers only.
type Layer struct {
	Rows  exec.Dim
	Width int // a multiple of 16, at most 256

	Table *exec.Buffer // [rows, Width], float32

	Ptr, Idx, Self *exec.Buffer // integers: Rows+1, Ptr[Rows] and Rows; the caller answers for their values
	First          int          // the number of the first row below
	In, Own        *exec.Buffer // [rows below, Width]; Own nil: In
	Bias           *exec.Buffer // [Width], or nil
	Relu           bool

	Out, OutOwn *exec.Buffer // [rows, Width]
	Matrix      *exec.Buffer // [Width, Width]
	Head, Score *exec.Buffer // [Heads, Width]; [rows, Heads]
	Heads       int          // at most 2
}

// LayerRows returns a buffer for the rows or the products of Layers.
func LayerRows(ar *exec.Arena, rows, width int) *exec.Buffer {
	return ar.F32(layerFloats(ar.Device(), rows, width))
}

func layerFloats(d *exec.Device, rows, width int) int {
	if d.Precision() == exec.BF16 {
		return rows * width / 2
	}
	return rows * width
}

// Record appends the operation to a program.
func (l Layer) Record(p *exec.Program) {
	n, w, dev := l.Rows.Max, l.Width, p.Arena().Device()
	if w <= 0 || w%16 != 0 || w > C.CTN_LAYER_WIDTH || l.Heads < 0 || l.Heads > C.CTN_LAYER_HEADS ||
		(l.Table == nil) == (l.In == nil) {
		panic(fmt.Sprintf("layer: width %d, %d heads, a table %v, products below %v", w, l.Heads, l.Table != nil,
			l.In != nil))
	}
	exec.Optional("layer", "Table", l.Table, n*w)
	if l.In != nil {
		exec.Need("layer", "Ptr", l.Ptr, n+1)
		exec.Need("layer", "Self", l.Self, n)
		exec.Need("layer", "Idx", l.Idx, 0)
	}
	exec.Optional("layer", "Bias", l.Bias, w)
	if l.Out != nil {
		exec.Optional("layer", "OutOwn", l.OutOwn, layerFloats(dev, n, w))
		exec.Need("layer", "Out", l.Out, layerFloats(dev, n, w))
		exec.Need("layer", "Matrix", l.Matrix, w*w)
	}
	if l.Score != nil {
		exec.Need("layer", "Score", l.Score, n*l.Heads)
		exec.Need("layer", "Head", l.Head, l.Heads*w)
	}
	exec.Aligned("layer", l.Table, l.In, l.Own, l.Bias, l.Out, l.OutOwn, l.Matrix, l.Head)
	args := C.ctn_layer_args{width: C.int32_t(w), heads: C.int32_t(l.Heads), relu: flag(l.Relu),
		first: C.int32_t(l.First), table: floats(l.Table), ptr: ints(l.Ptr), idx: ints(l.Idx), self: ints(l.Self),
		in: l.In.Pointer(), own: l.In.Pointer(), bias: floats(l.Bias), out: l.Out.Pointer(),
		out_own: l.OutOwn.Pointer(), head: floats(l.Head), score: floats(l.Score)}
	if l.Own != nil {
		args.own = l.Own.Pointer()
	}
	if l.Out != nil {
		args.matrix = floats(l.Matrix)
	}
	l.Rows.Put(unsafe.Pointer(&args.rows))
	per := C.CTN_LAYER_BLOCK / (w / 4) &^ 1
	launch := exec.Launch{File: "layer", Entry: "cu_layer_f32", Grid: [3]int{exec.Blocks(n, per*C.CTN_PIECE_ROWS)},
		Block: C.CTN_LAYER_BLOCK, Shared: 4 * w * (2*C.CTN_PIECE_SLAB + per*C.CTN_PIECE_ROWS)}
	gpu := []exec.Launch{launch}
	if dev.Precision() == exec.BF16 {
		panel := 16 * max(1, C.CTN_LAYER_BLOCK/32/(per/2))
		launch.Entry, launch.Shared = "cu_layer_bf16", 2*(2*w*(panel+8)+per*C.CTN_PIECE_ROWS*(w+8))
		gpu = []exec.Launch{launch}
		if l.Out != nil {
			args.rounded = LayerRows(p.Arena(), w, w).Pointer()
			gpu = []exec.Launch{{File: "layer", Entry: "cu_layer_round",
				Grid: [3]int{exec.Blocks(w*w, 4*C.CTN_LAYER_BLOCK)}, Block: C.CTN_LAYER_BLOCK}, launch}
		}
	}
	exec.Call(p, "layer", unsafe.Pointer(&C.ctn_layer), &args, C.CTN_LAYER_TASK*w, gpu...)
}
