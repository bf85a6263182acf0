// Package rnn is the controller's network (paper section 3.3): an LSTM that takes the decisions which make an
// architecture, one after the other, and the gradient of what it decided. A whole rollout of many sequences is one
// operation.
package rnn

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "rnn.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Rollout takes the decisions of Batch sequences. With T = Grammar.MaxSteps():
//
// Decision t of sequence b is drawn with the first number of Philox block (Seed, philox.PurposeRollout, Counter[0], 64
// b + t), and Counter[0] grows by one after each rollout. With Given, decisions are taken from it instead (one outside
// the grammar counts as 0: check them before).
type Rollout struct {
	Net     *Network
	Params  *exec.Buffer // [Net.Size()], read each time
	Batch   int
	Seed    uint64
	Counter *exec.Buffer // [1] integer
	Given   *exec.Buffer // nil, or [Batch, T] integers
	Actions *exec.Buffer // out: [Batch, T] integers, -1 after a sequence's end
	LogP    *exec.Buffer // out: [Batch], the logarithm of each sequence's probability
	Entropy *exec.Buffer // out: [Batch], the sum of the decisions' entropies in nats
}

// Tape holds what the gradient needs of the last rollout.
type Tape struct {
	op   Rollout
	args C.ctn_rnn_args
}

// RecordRollout appends a rollout. Sequences go through the processor in groups of eight, with one pass over the
// weights a group. On an accelerator a block takes a sequence, or eight where there are many, to its end.
func RecordRollout(p *exec.Program, op Rollout) *Tape {
	n := op.Net
	steps := n.Grammar.MaxSteps()
	rows := op.Batch * steps
	if op.Batch < 1 || op.Params.Len() < n.size || op.Counter.Len() < 1 || op.Actions.Len() < rows ||
		op.LogP.Len() < op.Batch || op.Entropy.Len() < op.Batch || op.Given != nil && op.Given.Len() < rows {
		panic(fmt.Sprintf("rnn: rollout of %d sequences of %d decisions: a buffer is too short", op.Batch, steps))
	}
	choices, attended, attentions := 0, 0, 0
	var heads []int32
	for i, h := range n.Grammar.Heads {
		l := n.heads[i]
		choices = max(choices, (h.Choices+15)/16*16)
		if h.Kind == Attention {
			attended = max(attended, h.Choices)
		}
		row := make([]int32, C.CTN_RNN_HEAD_INTS)
		row[C.CTN_RNN_KIND], row[C.CTN_RNN_CHOICES], row[C.CTN_RNN_ROW] = int32(h.Kind), int32(h.Choices), int32(l.row)
		row[C.CTN_RNN_EMBEDDING], row[C.CTN_RNN_A], row[C.CTN_RNN_B] = int32(l.embedding), int32(l.a), int32(l.b)
		row[C.CTN_RNN_V], row[C.CTN_RNN_PART], row[C.CTN_RNN_NUMBER] = int32(l.v), int32(l.part), int32(attentions)
		if h.Kind == Attention {
			attentions++
		}
		heads = append(heads, row...)
	}
	list := []int32{int32(n.Grammar.First.Head), int32(n.Grammar.First.Choices)}
	var variants []int32
	for _, v := range n.Grammar.Variants {
		variants = append(variants, int32(len(list)/2), int32(len(v)))
		for _, s := range v {
			list = append(list, int32(s.Head), int32(s.Choices))
		}
	}
	ar := p.Arena()
	t := &Tape{op: op, args: C.ctn_rnn_args{
		batch: C.int64_t(op.Batch), hidden: C.int64_t(n.Hidden), pad: C.int64_t(n.pad), steps: C.int64_t(steps),
		choices: C.int64_t(choices), attended: C.int64_t(attended), embeddings: C.int64_t(n.rows),
		heads: C.int64_t(len(n.heads)),
		part:  C.int64_t(n.part), head: ints(ar.Ints(heads)), variants: ints(ar.Ints(variants)),
		list:  ints(ar.Ints(list)),
		given: ints(op.Given), counter: ints(op.Counter), seed: C.uint64_t(op.Seed),
		purpose: C.uint32_t(philox.PurposeRollout),
		params:  floats(op.Params), wih: C.int64_t(n.wih), whh: C.int64_t(n.whh), bih: C.int64_t(n.bih),
		bhh:    C.int64_t(n.bhh),
		inputs: floats(ar.F32((n.rows + 1) * 4 * n.pad)), keys: floats(ar.F32(n.rows * n.pad)),
		actions: ints(op.Actions),
		logp:    floats(op.LogP), entropy: floats(op.Entropy), gates: floats(ar.F32(rows * 4 * n.pad)),
		c: floats(ar.F32(rows * n.pad)),
		h: floats(ar.F32(rows * n.pad)), tanh: floats(ar.F32(rows * attended * n.pad)),
		p:  floats(ar.F32(rows * choices)),
		lp: floats(ar.F32(rows * choices)), attentions: C.int64_t(attentions),
	}}
	if ar.Device().Accelerated() {
		t.launchRollout(p)
		return t
	}
	scratch := C.CTN_RNN_GROUP*n.pad + choices
	t.record(p, "rnn_prepare", unsafe.Pointer(&C.ctn_rnn_prepare), 0)
	t.record(p, "rnn_rollout", unsafe.Pointer(&C.ctn_rnn_rollout), scratch)
	if op.Given == nil {
		t.record(p, "rnn_count", unsafe.Pointer(&C.ctn_rnn_count), 0)
	}
	return t
}

// Backward is the gradient of sum over b of DLogP[b] LogP[b] + DEntropy[b] Entropy[b] for the last rollout of the tape.
// The parameters must not have changed since. The order of summation depends on the batch alone.
type Backward struct {
	DLogP, DEntropy *exec.Buffer // [Batch]
	Grad            *exec.Buffer // out: [Net.Size()], overwritten
}

// RecordBackward appends the gradient.
func RecordBackward(p *exec.Program, t *Tape, op Backward) {
	n := t.op.Net
	if op.DLogP.Len() < t.op.Batch || op.DEntropy.Len() < t.op.Batch || op.Grad.Len() < n.size {
		panic(fmt.Sprintf("rnn: gradient of %d sequences and %d parameters: a buffer is too short", t.op.Batch, n.size))
	}
	ar, rows := p.Arena(), t.op.Batch*n.Grammar.MaxSteps()
	t.args.dlogp, t.args.dentropy, t.args.grad = floats(op.DLogP), floats(op.DEntropy), floats(op.Grad)
	t.args.dgates, t.args.dquery = floats(ar.F32(rows*4*n.pad)), floats(ar.F32(rows*n.pad))
	if ar.Device().Accelerated() {
		t.launchBackward(p)
		return
	}
	groups := (t.op.Batch + C.CTN_RNN_GROUP - 1) / C.CTN_RNN_GROUP
	t.args.partial = floats(ar.F32(groups * n.part))
	t.args.sums, t.args.dkeys = floats(ar.F32(n.rows*4*n.pad)), floats(ar.F32(n.rows*n.pad))
	t.record(p, "rnn_bptt", unsafe.Pointer(&C.ctn_rnn_bptt), 2*C.CTN_RNN_GROUP*n.pad)
	t.record(p, "rnn_weights", unsafe.Pointer(&C.ctn_rnn_weights), (C.CTN_RNN_ROWS+1)*C.CTN_RNN_PANEL)
	t.record(p, "rnn_embeddings", unsafe.Pointer(&C.ctn_rnn_embeddings), 0)
}

func (t *Tape) record(p *exec.Program, name string, table unsafe.Pointer, scratch int) {
	exec.Call(p, name, table, &t.args, scratch)
}
