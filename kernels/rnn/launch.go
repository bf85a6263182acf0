package rnn

/*
#include "rnn.h"
*/
import "C"

import (
	"github.com/ctnas/ctnas/kernels/exec"
)

// form is which of the accelerator's kernels a rollout takes, and how many sequences one of their blocks holds. It
// depends on shapes alone.
func (t *Tape) form() (suffix string, each int) {
	switch a := t.args; {
	case a.pad > C.CTN_RNN_UNITS || a.attentions > 1 || a.embeddings >= C.CTN_RNN_TABLE:
		return "_wide", 1
	case a.batch > C.CTN_RNN_MANY:
		return "_many", C.CTN_RNN_SEQUENCES
	}
	return "_one", 1
}

// units is how many hidden units a block's shared memory has room for; slots how many places its threads have for them.
func (t *Tape) units() (units, slots int) {
	pad := int(t.args.pad)
	if suffix, _ := t.form(); suffix == "_wide" {
		units = pad
	} else {
		units = C.CTN_RNN_UNITS
	}
	return units, exec.Blocks(pad, C.CTN_RNN_UNITS) * C.CTN_RNN_THREADS
}

// pieces is the length of a vector that lies in four pieces with four floats between them.
func pieces(n int) int { return n + 4*4 }

func (t *Tape) launchRollout(p *exec.Program) {
	a, ar := &t.args, p.Arena()
	a.drawn = ints(ar.I32(1))
	suffix, each := t.form()
	units, slots := t.units()
	shared := each * (pieces(units) + 2*slots + int(a.pad+2*a.choices+a.steps))
	t.launch(p, "rnn_rollout",
		exec.Launch{Entry: "cu_rnn_prepare", Grid: [3]int{exec.Blocks(5*int(a.pad), C.CTN_RNN_THREADS),
			int(a.embeddings) + 1}}, exec.Launch{Entry: "cu_rnn_rollout" + suffix,
			Grid: [3]int{exec.Blocks(t.op.Batch, each)}, Shared: 4 * shared})
}

// tileBlocks is how many blocks the products over decisions are split into at most: some for every multiprocessor of a
// large GPU.
const tileBlocks = 512

func (t *Tape) launchBackward(p *exec.Program) {
	a, ar, n := &t.args, p.Arena(), t.op.Net
	rows := t.op.Batch * int(a.steps)
	suffix, each := t.form()
	units, slots := t.units()
	blocks := min(C.CTN_RNN_PARTIALS, exec.Blocks(t.op.Batch, each))
	whole := n.part + (n.rows+1)*4*n.pad
	shared := each * (2*pieces(4*units) + slots)
	if suffix != "_wide" {
		shared += (n.rows + 1) * 4 * n.pad
	}
	tile := func(columns int) int {
		return exec.Blocks(n.Hidden, C.CTN_RNN_TILE) * exec.Blocks(columns, C.CTN_RNN_TILE)
	}
	tiles, weights := tile(4*n.pad)+int(a.attentions)*tile(n.pad), (4+int(a.attentions))*n.Hidden*n.pad
	split := exec.Blocks(rows, max(1, min(tileBlocks/tiles, rows/C.CTN_RNN_TILE_ROWS)))
	splits := exec.Blocks(rows, split)
	a.blocks, a.whole, a.split, a.splits, a.weights = C.int64_t(blocks), C.int64_t(whole), C.int64_t(split),
		C.int64_t(splits), C.int64_t(weights)
	a.at, a.dlogits, a.partial = ints(ar.I32(rows)), floats(ar.F32(rows*int(a.choices))), floats(ar.F32(blocks*whole))
	a.total = a.partial
	if blocks > 1 {
		a.total = floats(ar.F32(whole))
	}
	finish := exec.Blocks(n.Hidden*4*n.pad, C.CTN_RNN_THREADS) + exec.Blocks(4*n.pad, C.CTN_RNN_THREADS) +
		exec.Blocks(n.rows*n.pad, C.CTN_RNN_THREADS/32)
	for _, h := range n.Grammar.Heads {
		floats := (n.Hidden + 1) * n.pad
		if h.Kind == Linear {
			floats = h.Choices*n.pad + exec.Blocks(h.Choices, 16)*16
		}
		finish += exec.Blocks(floats, C.CTN_RNN_THREADS)
	}
	if splits > 1 {
		a.parts = floats(ar.F32(splits * weights))
		finish += exec.Blocks(weights, C.CTN_RNN_THREADS)
	}
	back := exec.Launch{Entry: "cu_rnn_bptt" + suffix, Grid: [3]int{blocks}, Shared: 4 * shared}
	if blocks == 1 { // a single sequence: no splits either
		t.launch(p, "rnn_backward", back, exec.Launch{Entry: "cu_rnn_gradient", Grid: [3]int{tiles + finish}})
		return
	}
	t.launch(p, "rnn_backward", back,
		exec.Launch{Entry: "cu_rnn_parts", Grid: [3]int{tiles*splits + exec.Blocks(whole, C.CTN_RNN_THREADS)}},
		exec.Launch{Entry: "cu_rnn_finish", Grid: [3]int{finish}})
}

func (t *Tape) launch(p *exec.Program, name string, launches ...exec.Launch) {
	for i := range launches {
		launches[i].File, launches[i].Block = "rnn", C.CTN_RNN_THREADS
	}
	exec.Call(p, name, nil, &t.args, 0, launches...)
}
