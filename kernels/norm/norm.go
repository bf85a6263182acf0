// Package norm is batch norm (Ioffe and Szegedy, ICML 2015) without a pass over the data: it turns the sums that other
// operations left into the factors with which yet others read their inputs (see package tensor).
package norm

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "norm.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Batch is a batch norm of C channels. Gamma and Beta are optional: 1 and 0. The buffers of New are computed by the
// operations.
type Batch struct {
	C                       int
	Eps                     float64
	Gamma, Beta             *exec.Buffer // [C], or nil: 1 and 0
	RunningMean, RunningVar *exec.Buffer // [C], or nil
	Mean, InvStd            *exec.Buffer // [C], of the batch, or the running ones
	Scale, Shift            *exec.Buffer // [C]: Gamma·InvStd and Beta - Mean·Scale
	P, Q, R                 *exec.Buffer // [C]: coefficients of tensor.Gradient
}

// New returns a batch norm with room for what is computed.
func New(a *exec.Arena, c int, eps float64) *Batch {
	f := func() *exec.Buffer { return a.F32(c) }
	return &Batch{C: c, Eps: eps, Mean: f(), InvStd: f(), Scale: f(), Shift: f(), P: f(), Q: f(), R: f()}
}

// Input is z as a consumer reads it, normalised and activated.
func (b *Batch) Input(z *exec.Buffer, s tensor.Shape, act tensor.Act) tensor.Input {
	return tensor.Input{Shape: s, Z: z, Scale: b.Scale, Shift: b.Shift, Act: act}
}

// Gradient is the gradient in z, where g is that in the normalised z; both are dense.
func (b *Batch) Gradient(g, z *exec.Buffer) tensor.Gradient {
	return tensor.Gradient{G: g, Z: z, P: b.P, Q: b.Q, R: b.R}
}

// Running is how the running mean and variance follow a batch: r += m·(batch - r).
type Running struct {
	Momentum float64 // m
	// The variance that they follow is the mean squared deviation, as once-for-all's recalibration has it, not the
	// unbiased one, as PyTorch's training has it.
	Biased bool
	// If given, one integer of this norm's own: batches seen; m is 1/(Batches+1), so that the running values are means.
	Batches *exec.Buffer
}

// Forward appends the computation of Mean, InvStd, Scale and Shift from sums, and the update of the running values if
// there are any. On an accelerator the operation that leaves the sums does it, for the first norm of them, when that
// operation runs; nothing that is recorded in between may use the buffers.
func (b *Batch) Forward(p *exec.Program, stats tensor.Stats, r Running) {
	args := b.args("batchnorm", stats, tensor.ForwardRows)
	args.momentum, args.biased = C.double(r.Momentum), flag(r.Biased)
	if b.RunningMean != nil {
		exec.Need("batchnorm", "RunningMean", b.RunningMean, b.C)
		exec.Need("batchnorm", "RunningVar", b.RunningVar, b.C)
	}
	if r.Batches != nil {
		args.batches = ints(r.Batches.Slice(0, 1))
	}
	// A count of batches is read by all channels before it is increased.
	if r.Batches == nil && stats.Make(p.Arena(), unsafe.Pointer(&args)) {
		return
	}
	record(p, "batchnorm", unsafe.Pointer(&C.ctn_batchnorm), &args)
	if r.Batches != nil {
		record(p, "batchnorm_count", unsafe.Pointer(&C.ctn_batchnorm_count), &args)
	}
}

// Fixed appends the same from the running values, which it leaves alone: for evaluation, and for training with a frozen
// norm.
func (b *Batch) Fixed(p *exec.Program) {
	args := b.args("batchnorm_fixed", tensor.Stats{}, 0)
	exec.Need("batchnorm_fixed", "RunningMean", b.RunningMean, b.C)
	exec.Need("batchnorm_fixed", "RunningVar", b.RunningVar, b.C)
	record(p, "batchnorm_fixed", unsafe.Pointer(&C.ctn_batchnorm_fixed), &args)
}

// Backward says what the gradient does beyond the coefficients P, Q and R.
type Backward struct {
	DGamma, DBeta *exec.Buffer // [C], or nil
	Accumulate    bool         // add to DGamma and DBeta
	Frozen        bool         // mean and variance were fixed: no gradient flows through them
}

// Backward appends the gradients and the coefficients from the sums that the last consumer's sink left. As in Forward,
// that consumer may make them.
func (b *Batch) Backward(p *exec.Program, stats tensor.Stats, o Backward) {
	args := b.args("batchnorm_backward", stats, tensor.BackwardRows)
	args.dgamma, args.dbeta, args.frozen, args.accumulate = floats(o.DGamma), floats(o.DBeta), flag(o.Frozen),
		flag(o.Accumulate)
	for _, d := range []*exec.Buffer{o.DGamma, o.DBeta} {
		if d != nil {
			exec.Need("batchnorm_backward", "DGamma or DBeta", d, b.C)
		}
	}
	if stats.Make(p.Arena(), unsafe.Pointer(&args)) {
		return
	}
	record(p, "batchnorm_backward", unsafe.Pointer(&C.ctn_batchnorm_backward), &args)
}

func (b *Batch) args(op string, stats tensor.Stats, rows int) C.ctn_batchnorm_args {
	if b.C <= 0 || rows > 0 && (stats.C != b.C || stats.Parts <= 0 || stats.Rows.Len() < rows*stats.Parts*b.C) {
		panic(fmt.Sprintf("%s: %d channels, sums of %d parts of %d", op, b.C, stats.Parts, stats.C))
	}
	args := C.ctn_batchnorm_args{c: C.int64_t(b.C), parts: C.int64_t(stats.Parts), stats: floats(stats.Rows),
		count: (*C.int32_t)(stats.Count.Pointer()), gamma: floats(b.Gamma), beta: floats(b.Beta),
		running_mean: floats(b.RunningMean), running_var: floats(b.RunningVar), mean: floats(b.Mean),
		invstd: floats(b.InvStd), scale: floats(b.Scale), shift: floats(b.Shift), p: floats(b.P), q: floats(b.Q),
		r: floats(b.R), eps: C.double(b.Eps)}
	for _, f := range []*exec.Buffer{b.Mean, b.InvStd, b.Scale, b.Shift, b.P, b.Q, b.R} {
		exec.Need(op, "a computed buffer", f, b.C)
	}
	for _, f := range []*exec.Buffer{b.Gamma, b.Beta} {
		if f != nil {
			exec.Need(op, "Gamma or Beta", f, b.C)
		}
	}
	return args
}

func record(p *exec.Program, name string, table unsafe.Pointer, args *C.ctn_batchnorm_args) {
	blocks := 1 // of batchnorm_count
	var work exec.Work
	switch name {
	case "batchnorm", "batchnorm_backward":
		work.Bytes = 4 * float64(args.parts*args.c) * map[string]float64{"batchnorm": tensor.ForwardRows,
			"batchnorm_backward": tensor.BackwardRows}[name]
		blocks = exec.Blocks(int(args.c), C.CTN_NORM_LANES)
	case "batchnorm_fixed":
		blocks = exec.Blocks(int(args.c), C.CTN_NORM_BLOCK)
	}
	exec.Call(p, name, table, args, 0,
		exec.Launch{File: "norm", Entry: "cu_" + name, Grid: [3]int{blocks}, Block: C.CTN_NORM_BLOCK, Work: work})
}
