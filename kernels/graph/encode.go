package graph

/*
#include "encode.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Encode is a graph convolution over small graphs, from packed graphs to scores in one operation (CTNAS section 3.2 and
// the released code's ctnas/core/model). With H_0 the rows of the embedding, and A[v][u] = 1 where there is an edge
// from node u to node v or u = v,
//
//	H_k = relu( A·H_{k-1}·M_k + b_k + H_{k-1} )     score_h = head_h · (mean of a graph's rows of H_Layers)
//
// without b_k where there are no biases, without the last term where not Residual, without the last ReLU where
// LinearLast. A graph of fewer than Pad nodes is padded with nodes of the last operation that have no edges; they count
// in the mean.
//
// All weights lie in one buffer at offsets that are multiples of four, and their gradient likewise.
type Encode struct {
	N      exec.Dim     // graphs
	Graphs *exec.Buffer // integers, [N, 2]: see Pack

	Alphabet, Width, Layers, Heads int // at most 8, 256 (a multiple of 16), 8 and 2
	Pad                            int // at most 8; 0: none
	Residual, LinearLast           bool

	W, G             *exec.Buffer // [weights]; their gradient, nil when only scoring
	Embedding, Head  int          // offsets of [Alphabet, Width]; [Heads, Width]
	Matrices, Biases []int        // of [Width, Width] a layer; Width a layer, or empty

	Score, DScore *exec.Buffer // [N, Heads]; the gradient of Score, not needed when only scoring
}

// Encoded is a recorded Encode whose backward pass can be recorded.
type Encoded struct {
	e    Encode
	args C.ctn_encode_args
}

// Record appends the forward pass to a program.
func (e Encode) Record(p *exec.Program) *Encoded {
	e.check()
	a := &Encoded{e: e}
	n, w := max(1, e.N.Max), e.Width
	ar, dev := p.Arena(), p.Arena().Device()
	a.args = C.ctn_encode_args{width: C.int32_t(w), layers: C.int32_t(e.Layers), heads: C.int32_t(e.Heads),
		alphabet: C.int32_t(e.Alphabet), pad: C.int32_t(e.Pad), residual: flag(e.Residual),
		has_bias: flag(len(e.Biases) > 0), linear_last: flag(e.LinearLast), embedding: C.int64_t(e.Embedding),
		head: C.int64_t(e.Head), graphs: ints(e.Graphs), w: floats(e.W), g: floats(e.G), score: floats(e.Score),
		dscore: floats(e.DScore)}
	e.N.Put(unsafe.Pointer(&a.args.n))
	for k := range e.Layers {
		a.args.weight[k] = C.int64_t(e.Matrices[k])
		if len(e.Biases) > 0 {
			a.args.bias[k] = C.int64_t(e.Biases[k])
		}
	}
	rows := exec.Blocks(n, e.perBlock(dev)) * e.perBlock(dev) * C.CTN_ENCODE_NODES
	a.args.rows = C.int64_t(rows)
	buffer := func(elements int) unsafe.Pointer {
		if dev.Precision() == exec.BF16 {
			elements = (elements + 1) / 2
		}
		return ar.F32(max(1, elements)).Pointer()
	}
	if !dev.Accelerated() {
		if e.G != nil {
			a.args.kept, a.args.drows = buffer(e.Layers*rows*w), buffer((e.Layers+1)*rows*w)
			a.args.matrices = buffer(e.Layers * w * w)
		}
		a.record(p, "encode", unsafe.Pointer(&C.ctn_encode), 3*C.CTN_ENCODE_NODES*w)
		return a
	}
	a.args.table = buffer(16 * w)
	if e.G != nil || dev.Precision() == exec.BF16 {
		a.args.matrices = buffer((e.Layers - 1) * w * w)
	}
	if e.G != nil {
		a.args.kept, a.args.drows, a.args.mean = buffer((e.Layers-1)*rows*w), buffer(e.Layers*rows*w), buffer(n*w)
		a.args.positive = (*C.uint32_t)(ar.I32(e.Layers * exec.Blocks(rows, 16) * exec.Blocks(w, 64) * 32).Pointer())
		squares := e.squares()
		splits := min(max(1, splitBlocks/squares), splitsMost,
			exec.Blocks(n*C.CTN_ENCODE_NODES, C.CTN_ENCODE_PART_ROWS))
		a.args.splits = C.int64_t(splits)
		a.args.parts, a.args.arrived = floats(ar.F32(squares*splits*C.CTN_ENCODE_PART)),
			ints(ar.Ints(make([]int32, squares)))
	}
	a.record(p, "encode", nil, 0, e.prepare(dev), e.launch(dev, "cu_encode"))
	return a
}

// RecordBackward appends the backward pass: the gradient of all weights from DScore. It writes every element of the
// embedding's, the matrices', the biases' and the head's gradient, and nothing else of G.
func (a *Encoded) RecordBackward(p *exec.Program) {
	if a.e.G == nil {
		panic("encode: the backward pass needs G")
	}
	dev := p.Arena().Device()
	if !dev.Accelerated() {
		rows := C.CTN_ENCODE_NODES * a.e.Width
		a.record(p, "encode_prepare", unsafe.Pointer(&C.ctn_encode_prepare), 0)
		a.record(p, "encode_back", unsafe.Pointer(&C.ctn_encode_back), 2*rows)
		a.record(p, "encode_weights", unsafe.Pointer(&C.ctn_encode_weights),
			(C.CTN_ENCODE_BAND+1)*a.e.Width+rows+C.CTN_ENCODE_NODES*C.CTN_ENCODE_BAND)
		return
	}
	weights := exec.Launch{File: "encode_f32", Entry: "cu_encode_weights_f32",
		Grid: [3]int{a.e.squares(), int(a.args.splits)}, Block: C.CTN_ENCODE_WEIGHTS_F32_BLOCK}
	if dev.Precision() == exec.BF16 {
		weights.File, weights.Entry, weights.Block = "encode_bf16", "cu_encode_weights_bf16",
			C.CTN_ENCODE_WEIGHTS_BF16_BLOCK
	}
	a.record(p, "encode_backward", nil, 0, a.e.launch(dev, "cu_encode_back"), weights)
}

func (a *Encoded) record(p *exec.Program, name string, cpu unsafe.Pointer, scratch int, gpu ...exec.Launch) {
	exec.Call(p, name, cpu, &a.args, scratch, gpu...)
}

const (
	splitBlocks = 512 // blocks for the gradient of the weights
	splitsMost  = 64  // and for each square of it: one block adds them
)

// block is how many threads an accelerator's blocks have.
func (e Encode) block(dev *exec.Device) int {
	switch bf16 := dev.Precision() == exec.BF16; {
	case !bf16 && e.N.Max*(e.Width/4) < fewBlocks*C.CTN_ENCODE_BLOCK:
		return 64
	case bf16 && e.N.Max < fewBlocks*16:
		return 128
	}
	return C.CTN_ENCODE_BLOCK
}

// perBlock is how many graphs a block, or a task, has.
func (e Encode) perBlock(dev *exec.Device) int {
	switch {
	case !dev.Accelerated():
		return 1
	case dev.Precision() == exec.BF16:
		return e.block(dev) / 32 * 2
	}
	return e.block(dev) / (e.Width / 4)
}

// squares is how many squares the weights' gradient is cut into: layer 0 and the head have one row of them.
func (e Encode) squares() int {
	t := exec.Blocks(e.Width, C.CTN_ENCODE_TILE)
	return t + (e.Layers-1)*t*t + t
}

func (e Encode) prepare(dev *exec.Device) exec.Launch {
	squares, size := exec.Blocks(e.Width, 32), (e.Layers-1)*e.Width*e.Width
	if dev.Precision() == exec.BF16 {
		return exec.Launch{File: "encode_bf16", Entry: "cu_encode_prepare_bf16",
			Grid: [3]int{squares + exec.Blocks(size, 1024)}, Block: 256}
	}
	blocks := squares
	if e.G != nil { // the backward pass multiplies by the transposed matrices
		blocks += (e.Layers - 1) * squares * squares
	}
	return exec.Launch{File: "encode_f32", Entry: "cu_encode_prepare_f32", Grid: [3]int{blocks}, Block: 256}
}

// launch is the forward or backward pass over all graphs.
func (e Encode) launch(dev *exec.Device, entry string) exec.Launch {
	w, block := e.Width, e.block(dev)
	l := exec.Launch{File: "encode_f32", Grid: [3]int{exec.Blocks(e.N.Max, e.perBlock(dev))}, Block: block}
	if dev.Precision() != exec.BF16 {
		l.Entry, l.Shared = entry+"_f32", 4*w*(2*C.CTN_PIECE_SLAB+C.CTN_ENCODE_NODES*e.perBlock(dev))
		return l
	}
	class, panel := 64, 32
	for class < w {
		class *= 2
	}
	if class == 256 {
		panel = 16
	}
	l.File, l.Entry = "encode_bf16", fmt.Sprintf("%s_bf16_%d", entry, class)
	l.Shared = 2 * (2*max(w*(panel+8), panel*(w+8)) + 16*(w+8)*block/32)
	return l
}

func (e Encode) check() {
	w := e.Width
	if w <= 0 || w%16 != 0 || w > C.CTN_ENCODE_WIDTH || e.Layers < 1 || e.Layers > C.CTN_ENCODE_LAYERS || e.Heads < 1 ||
		e.Heads > C.CTN_ENCODE_HEADS || e.Alphabet < 1 || e.Alphabet > C.CTN_ENCODE_ALPHABET || e.Pad < 0 ||
		e.Pad > C.CTN_ENCODE_NODES {
		panic(fmt.Sprintf("encode: width %d, %d layers, %d heads, %d operations, padded to %d nodes", w, e.Layers,
			e.Heads, e.Alphabet, e.Pad))
	}
	if len(e.Matrices) != e.Layers || len(e.Biases) != 0 && len(e.Biases) != e.Layers {
		panic(fmt.Sprintf("encode: %d matrices and %d biases for %d layers", len(e.Matrices), len(e.Biases), e.Layers))
	}
	exec.Need("encode", "Graphs", e.Graphs, 2*e.N.Max)
	exec.Need("encode", "Score", e.Score, e.N.Max*e.Heads)
	check := func(name string, off, size int) {
		if off < 0 || off%4 != 0 {
			panic(fmt.Sprintf("encode: %s at offset %d", name, off))
		}
		exec.Need("encode", "W for "+name, e.W, off+size)
		exec.Optional("encode", "G for "+name, e.G, off+size)
	}
	check("Embedding", e.Embedding, e.Alphabet*w)
	check("Head", e.Head, e.Heads*w)
	for _, off := range e.Matrices {
		check("Matrices", off, w*w)
	}
	for _, off := range e.Biases {
		check("Biases", off, w)
	}
	exec.Aligned("encode", e.W, e.G)
	if e.G != nil {
		exec.Need("encode", "DScore", e.DScore, e.N.Max*e.Heads)
	}
}

// Words is how a buffer of integers holds packed graphs.
func Words(graphs []uint64) []int32 {
	out := make([]int32, 0, 2*len(graphs))
	for _, g := range graphs {
		out = append(out, int32(uint32(g)), int32(uint32(g>>32)))
	}
	return out
}
