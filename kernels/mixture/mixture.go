// Package mixture makes the weights with which a network mixes the choices of its decisions out of the parameters that
// an architecture search learns: by softmax (Liu et al., DARTS, ICLR 2019) or by Gumbel-softmax (Wu et al., FBNet, CVPR
// 2019).
package mixture

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "mixture.h"
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

// Rows are decisions: elements Begin[r] to Begin[r+1] of all buffers are the choices of row r, at least one. Begin
// starts with 0; its last number is n.
type Rows struct{ Begin []int }

// Soften is Weights = softmax((Alpha + noise)/Temperature) in each row. With Gumbel the noise is -log(-log u), a number
// of Gumbel's distribution for each element that is a function of (Seed, *Step, element); otherwise there is none.
type Soften struct {
	Rows
	Alpha, Weights *exec.Buffer // [n]
	Temperature    *exec.Buffer // [1] above 0; nil: 1
	Gumbel         bool
	Seed           uint64
	Step           *exec.Buffer // [1] integer, with Gumbel
}

// Record appends the operation to a program.
func (s Soften) Record(p *exec.Program) {
	const op = "soften"
	args, n := s.arguments(op, p, s.Weights, s.Temperature)
	exec.Need(op, "Alpha", s.Alpha, n)
	args.alpha, args.gumbel = floats(s.Alpha), flag(s.Gumbel)
	if s.Gumbel {
		exec.Need(op, "Step", s.Step, 1)
		args.seed, args.purpose, args.step = C.uint64_t(s.Seed), C.uint32_t(philox.PurposeGumbel), ints(s.Step)
	}
	exec.Call(p, op, unsafe.Pointer(&C.ctn_soften), &args, 0, s.launch("cu_soften"))
}

// Backward is the gradient in Alpha of a Soften with the same Rows and Temperature: where WeightGrad is that of a loss
// in its Weights w, AlphaGrad = w/Temperature·(WeightGrad - Σ w·WeightGrad), the sum over a row. The noise, which is
// in w already, changes nothing.
//
// With Cost the gradient is that of Loss·Scale·log(LAT)^Exponent instead (FBNet, equation 2), where LAT = Σ w·Cost over
// all rows, which must be more than 1.
type Backward struct {
	Rows
	Weights, WeightGrad *exec.Buffer // [n]
	AlphaGrad           *exec.Buffer // [n], overwritten
	Temperature         *exec.Buffer // [1]; nil: 1
	Cost                *exec.Buffer // [n], or nil
	Loss                *exec.Buffer // [1], with Cost
	Scale, Exponent     float32      // with Cost
}

// Record appends the operation to a program.
func (b Backward) Record(p *exec.Program) {
	const op = "soften_backward"
	args, n := b.arguments(op, p, b.Weights, b.Temperature)
	exec.Need(op, "WeightGrad", b.WeightGrad, n)
	exec.Need(op, "AlphaGrad", b.AlphaGrad, n)
	args.dweights, args.dalpha = floats(b.WeightGrad), floats(b.AlphaGrad)
	if b.Cost != nil {
		exec.Need(op, "Cost", b.Cost, n)
		exec.Need(op, "Loss", b.Loss, 1)
		args.cost, args.loss = floats(b.Cost), floats(b.Loss)
		args.scale, args.exponent = C.float(b.Scale), C.float(b.Exponent)
	}
	exec.Call(p, op, unsafe.Pointer(&C.ctn_soften_backward), &args, 0, b.launch("cu_soften_backward"))
}

// arguments checks what both directions have, and returns n too.
func (r Rows) arguments(op string, p *exec.Program, weights, temperature *exec.Buffer) (args C.ctn_mixture_args,
	n int) {
	if len(r.Begin) < 2 || r.Begin[0] != 0 {
		panic(fmt.Sprintf("%s: rows begin at %v", op, r.Begin))
	}
	begin := make([]int32, len(r.Begin))
	for i, at := range r.Begin {
		if i > 0 && at <= n {
			panic(fmt.Sprintf("%s: row %d has elements %d to %d", op, i-1, n, at))
		}
		begin[i], n = int32(at), at
	}
	exec.Need(op, "Weights", weights, n)
	exec.Optional(op, "Temperature", temperature, 1)
	return C.ctn_mixture_args{rows: C.int64_t(len(begin) - 1), begin: ints(p.Arena().Ints(begin)),
		weights: floats(weights), temperature: floats(temperature)}, n
}

func (r Rows) launch(entry string) exec.Launch {
	return exec.Over("mixture", entry, len(r.Begin)-1, 1, C.CTN_MIXTURE_BLOCK)
}
