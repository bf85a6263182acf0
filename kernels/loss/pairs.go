// Package loss holds the losses over scores and pairs of scores, each with its gradient.
package loss

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#include "pairs.h"
*/
import "C"

import (
	"embed"
	"fmt"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sources are the kernels for accelerators.
//
//go:embed *.cu *.h
var Sources embed.FS

var floats, ints, flag = exec.Ptr[C.float], exec.Ptr[C.int32_t], exec.Flag[C.int32_t]

// Kind is a loss of a pair with logit z = s_i - s_j.
type Kind int32

const (
	Logistic Kind = C.CTN_LOGISTIC // binary cross-entropy of σ(z): the comparator's loss (paper equation 5)
	// max(0, Margin - sign(y_i - y_j) z): ReNAS (Xu et al., CVPR 2021); ties cost nothing.
	Hinge Kind = C.CTN_HINGE
)

// AllPairs is the mean loss over all pairs of n scored examples, and its gradient in the scores: the n(n-1)/2 pairs
// with logit s_i - s_j with Heads = 1; with Heads = 2 the n(n-1) ordered pairs with logit s_i[0] + s_j[1] + bias.
//
// The target of a pair is 1 when y_i > y_j, 0 when smaller, Tie for a tie. With Noise, the standard deviation of each
// label's error, it is the probability that the first is truly better, σ(1.702 (y_i-y_j) / sqrt(Noise_i² + Noise_j²)):
// the normal distribution's, to within 0.01. Pairs closer than the noise then say little.
type AllPairs struct {
	N            exec.Dim
	Heads        int          // 0 is 1
	Score, Label *exec.Buffer // [n, Heads]; [n]
	Bias, DBias  *exec.Buffer // [1], with two heads only
	Tie          float32
	Kind         Kind
	Noise        *exec.Buffer // [n], positive; or nil
	Margin       float32
	DScore, Loss *exec.Buffer // [n, Heads]; [1]
	Accumulate   bool         // add to DScore and Loss
}

// Record appends the operation to a program.
func (l AllPairs) Record(p *exec.Program) {
	n, heads := l.N.Max, max(1, l.Heads)
	exec.Need("allpairs", "Score", l.Score, n*heads)
	exec.Need("allpairs", "DScore", l.DScore, n*heads)
	exec.Need("allpairs", "Label", l.Label, n)
	exec.Need("allpairs", "Loss", l.Loss, 1)
	if heads == 2 {
		exec.Need("allpairs", "Bias", l.Bias, 1)
		exec.Need("allpairs", "DBias", l.DBias, 1)
	} else if heads != 1 {
		panic(fmt.Sprintf("allpairs: %d heads", heads))
	}
	exec.Optional("allpairs", "Noise", l.Noise, n)
	args := C.ctn_allpairs_args{score: floats(l.Score), label: floats(l.Label), noise: floats(l.Noise),
		margin: C.float(l.Margin), kind: C.int32_t(l.Kind), accumulate: flag(l.Accumulate), dscore: floats(l.DScore),
		row: floats(p.Arena().F32(2 * n)), loss: floats(l.Loss), heads: C.int32_t(heads), tie: C.float(l.Tie),
		bias: floats(l.Bias), dbias: floats(l.DBias)}
	l.N.Put(unsafe.Pointer(&args.n))
	exec.Call(p, "allpairs", unsafe.Pointer(&C.ctn_allpairs), &args, 2*n,
		exec.Launch{File: "pairs", Entry: "cu_allpairs", Grid: [3]int{exec.Blocks(n, C.CTN_LOSS_BLOCK/32)},
			Block: C.CTN_LOSS_BLOCK})
	exec.Call(p, "allpairs_sum", unsafe.Pointer(&C.ctn_allpairs_sum), &args, 0,
		exec.Launch{File: "pairs", Entry: "cu_allpairs_sum", Block: C.CTN_SUM_BLOCK})
}

// PairList is the weighted mean binary cross-entropy over a list of pairs (a, b) with targets in [0,1], times Scale.
//
// With Heads = 1 the logit is s_a - s_b (antisymmetric); with Heads = 2 it is s_a[0] + s_b[1] + bias, the linear layer
// of the released comparator on the two graphs' features.
type PairList struct {
	Pairs, Examples exec.Dim
	Heads           int
	Score, Bias     *exec.Buffer // [examples, Heads]; [1], with two heads only
	A, B            *exec.Buffer // [pairs] integers: examples
	Target, Weight  *exec.Buffer // [pairs]; Weight may be nil
	DScore          *exec.Buffer // [examples, Heads]
	DBias, Loss     *exec.Buffer // [1]; DBias with two heads only
	Scale           float32
	Accumulate      bool // add to DScore, DBias and Loss
}

// Record appends the operation to a program.
func (l PairList) Record(p *exec.Program) {
	exec.Need("pairlist", "A", l.A, l.Pairs.Max)
	exec.Need("pairlist", "B", l.B, l.Pairs.Max)
	exec.Need("pairlist", "Target", l.Target, l.Pairs.Max)
	exec.Need("pairlist", "Score", l.Score, l.Examples.Max*l.Heads)
	exec.Need("pairlist", "DScore", l.DScore, l.Examples.Max*l.Heads)
	exec.Need("pairlist", "Loss", l.Loss, 1)
	if l.Heads == 2 {
		exec.Need("pairlist", "Bias", l.Bias, 1)
		exec.Need("pairlist", "DBias", l.DBias, 1)
	} else if l.Heads != 1 {
		panic(fmt.Sprintf("pairlist: %d heads", l.Heads))
	}
	exec.Optional("pairlist", "Weight", l.Weight, l.Pairs.Max)
	args := C.ctn_pairlist_args{heads: C.int64_t(l.Heads), score: floats(l.Score), bias: floats(l.Bias),
		a: ints(l.A), b: ints(l.B), target: floats(l.Target), weight: floats(l.Weight), accumulate: flag(l.Accumulate),
		dscore: floats(l.DScore), dbias: floats(l.DBias), loss: floats(l.Loss), scale: C.float(l.Scale)}
	l.Pairs.Put(unsafe.Pointer(&args.pairs))
	l.Examples.Put(unsafe.Pointer(&args.examples))
	var gpu []exec.Launch
	if p.Arena().Device().Accelerated() {
		sum := exec.Launch{File: "pairs", Entry: "cu_pairlist_few",
			Grid: [3]int{exec.Blocks(l.Examples.Max, C.CTN_PAIRLIST_EXAMPLES)}, Block: C.CTN_LOSS_BLOCK}
		if l.Pairs.Max > C.CTN_PAIRLIST_FEW {
			blocks := exec.Blocks(l.Pairs.Max, C.CTN_LOSS_BLOCK)
			args.slope = floats(p.Arena().F32(l.Pairs.Max))
			args.parts = (*C.double)(p.Arena().F32(2 * 3 * blocks).Pointer())
			gpu = append(gpu, exec.Launch{File: "pairs", Entry: "cu_pairlist", Grid: [3]int{blocks},
				Block: C.CTN_LOSS_BLOCK})
			sum.Entry = "cu_pairlist_sum"
		}
		gpu = append(gpu, sum)
	}
	exec.Call(p, "pairlist", unsafe.Pointer(&C.ctn_pairlist), &args, 0, gpu...)
}

// Squared is the mean squared error of n scores, and its gradient: the absolute-accuracy regression that CTNAS is
// compared with.
type Squared struct {
	N            exec.Dim
	Score, Label *exec.Buffer // [n]
	DScore, Loss *exec.Buffer // [n]; [1]
	Accumulate   bool         // add to DScore and Loss
}

// Record appends the operation to a program.
func (l Squared) Record(p *exec.Program) {
	exec.Need("squared", "Score", l.Score, l.N.Max)
	exec.Need("squared", "Label", l.Label, l.N.Max)
	exec.Need("squared", "DScore", l.DScore, l.N.Max)
	exec.Need("squared", "Loss", l.Loss, 1)
	args := C.ctn_squared_args{accumulate: flag(l.Accumulate), score: floats(l.Score), label: floats(l.Label),
		dscore: floats(l.DScore), loss: floats(l.Loss)}
	l.N.Put(unsafe.Pointer(&args.n))
	exec.Call(p, "squared", unsafe.Pointer(&C.ctn_squared), &args, 0,
		exec.Launch{File: "pairs", Entry: "cu_squared", Block: C.CTN_SUM_BLOCK})
}
