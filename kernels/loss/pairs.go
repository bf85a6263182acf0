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

// Kind is a loss of a pair with logit z = s_i - s_j.
type Kind int32

const (
	Logistic Kind = C.CTN_LOGISTIC // binary cross-entropy of σ(z): the comparator's loss (paper equation 5)
	Hinge    Kind = C.CTN_HINGE    // max(0, Margin - sign(y_i - y_j) z): ReNAS (Xu et al., CVPR 2021); ties cost nothing
)

// AllPairs is the mean loss over all pairs of n scored examples, and its gradient in the scores: the n(n-1)/2 pairs with logit s_i - s_j with
// Heads = 1; with Heads = 2 the n(n-1) ordered pairs with logit s_i[0] + s_j[1] + bias.
//
// The target of a pair is 1 when y_i > y_j, 0 when smaller, Tie for a tie. With Noise, the standard deviation of each label's error, it is
// the probability that the first is truly better, σ(1.702 (y_i-y_j) / sqrt(Noise_i² + Noise_j²)): the normal distribution's, to
// within 0.01. Pairs closer than the noise then say little.
type AllPairs struct {
	N            exec.Dim
	Heads        int          // 0 is 1
	Score, Label *exec.Buffer // n x Heads; n
	Bias, DBias  *exec.Buffer // 1, with two heads only
	Tie          float32
	Kind         Kind
	Noise        *exec.Buffer // n, positive; optional
	Margin       float32
	DScore, Loss *exec.Buffer // n x Heads; 1
	Accumulate   bool         // add to DScore and Loss
}

// Record appends the operation to a program.
func (l AllPairs) Record(p *exec.Program) {
	n, heads := l.N.Max, max(1, l.Heads)
	need("allpairs", n*heads, l.Score, l.DScore)
	need("allpairs", n, l.Label)
	need("allpairs", 1, l.Loss)
	if heads == 2 {
		need("allpairs", 1, l.Bias, l.DBias)
	} else if heads != 1 {
		panic(fmt.Sprintf("allpairs: %d heads", heads))
	}
	if l.Noise != nil {
		need("allpairs", n, l.Noise)
	}
	args := C.ctn_allpairs_args{score: floats(l.Score), label: floats(l.Label), noise: floats(l.Noise), margin: C.float(l.Margin),
		kind: C.int32_t(l.Kind), accumulate: flag(l.Accumulate), dscore: floats(l.DScore), row: floats(p.Arena().F32(2 * n)), loss: floats(l.Loss),
		heads: C.int32_t(heads), tie: C.float(l.Tie), bias: floats(l.Bias), dbias: floats(l.DBias)}
	l.N.Put(unsafe.Pointer(&args.n))
	p.Record(exec.Op{
		Name: "allpairs", CPU: unsafe.Pointer(&C.ctn_allpairs), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args), Scratch: 2 * n,
		GPU: []exec.Launch{{File: "pairs", Entry: "cu_allpairs", Grid: [3]int{exec.Blocks(n, C.CTN_LOSS_BLOCK/32)}, Block: C.CTN_LOSS_BLOCK}},
	})
	p.Record(exec.Op{
		Name: "allpairs_sum", CPU: unsafe.Pointer(&C.ctn_allpairs_sum), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{{File: "pairs", Entry: "cu_allpairs_sum", Block: C.CTN_SUM_BLOCK}},
	})
}

// PairList is the weighted mean binary cross-entropy over a list of pairs (a, b) with targets in [0,1], times Scale.
//
// With Heads = 1 the logit is s_a - s_b (antisymmetric); with Heads = 2 it is s_a[0] + s_b[1] + bias, the linear layer of the released
// comparator on the two graphs' features.
type PairList struct {
	Pairs, Examples exec.Dim
	Heads           int
	Score, Bias     *exec.Buffer // examples x Heads; 1, with two heads only
	A, B            *exec.Buffer // integers: examples of each pair
	Target, Weight  *exec.Buffer // one a pair; Weight is optional
	DScore          *exec.Buffer // examples x Heads
	DBias, Loss     *exec.Buffer // 1; DBias with two heads only
	Scale           float32
	Accumulate      bool // add to DScore, DBias and Loss
}

// Record appends the operation to a program.
func (l PairList) Record(p *exec.Program) {
	need("pairlist", l.Pairs.Max, l.A, l.B, l.Target)
	need("pairlist", l.Examples.Max*l.Heads, l.Score, l.DScore)
	need("pairlist", 1, l.Loss)
	if l.Heads == 2 {
		need("pairlist", 1, l.Bias, l.DBias)
	} else if l.Heads != 1 {
		panic(fmt.Sprintf("pairlist: %d heads", l.Heads))
	}
	if l.Weight != nil {
		need("pairlist", l.Pairs.Max, l.Weight)
	}
	args := C.ctn_pairlist_args{heads: C.int64_t(l.Heads), score: floats(l.Score), bias: floats(l.Bias), a: ints(l.A), b: ints(l.B),
		target: floats(l.Target), weight: floats(l.Weight), accumulate: flag(l.Accumulate), dscore: floats(l.DScore), dbias: floats(l.DBias), loss: floats(l.Loss), scale: C.float(l.Scale)}
	l.Pairs.Put(unsafe.Pointer(&args.pairs))
	l.Examples.Put(unsafe.Pointer(&args.examples))
	op := exec.Op{Name: "pairlist", CPU: unsafe.Pointer(&C.ctn_pairlist), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args)}
	if p.Arena().Device().Accelerated() {
		blocks := exec.Blocks(l.Pairs.Max, C.CTN_LOSS_BLOCK)
		args.slope = floats(p.Arena().F32(l.Pairs.Max))
		args.parts = (*C.double)(p.Arena().F32(2 * 3 * blocks).Pointer())
		op.GPU = []exec.Launch{
			{File: "pairs", Entry: "cu_pairlist", Grid: [3]int{blocks}, Block: C.CTN_LOSS_BLOCK},
			{File: "pairs", Entry: "cu_pairlist_sum", Grid: [3]int{exec.Blocks(l.Examples.Max, C.CTN_PAIRLIST_EXAMPLES)}, Block: C.CTN_LOSS_BLOCK},
		}
	}
	p.Record(op)
}

// Squared is the mean squared error of n scores, and its gradient: the absolute-accuracy regression that CTNAS is compared with.
type Squared struct {
	N            exec.Dim
	Score, Label *exec.Buffer
	DScore, Loss *exec.Buffer
	Accumulate   bool // add to DScore and Loss
}

// Record appends the operation to a program.
func (l Squared) Record(p *exec.Program) {
	need("squared", l.N.Max, l.Score, l.Label, l.DScore)
	need("squared", 1, l.Loss)
	args := C.ctn_squared_args{accumulate: flag(l.Accumulate), score: floats(l.Score), label: floats(l.Label), dscore: floats(l.DScore), loss: floats(l.Loss)}
	l.N.Put(unsafe.Pointer(&args.n))
	p.Record(exec.Op{
		Name: "squared", CPU: unsafe.Pointer(&C.ctn_squared), Args: unsafe.Pointer(&args), Size: unsafe.Sizeof(args),
		GPU: []exec.Launch{{File: "pairs", Entry: "cu_squared", Block: C.CTN_SUM_BLOCK}},
	})
}

func floats(b *exec.Buffer) *C.float { return (*C.float)(b.Pointer()) }

func ints(b *exec.Buffer) *C.int32_t { return (*C.int32_t)(b.Pointer()) }

func flag(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}

func need(op string, n int, buffers ...*exec.Buffer) {
	for i, b := range buffers {
		if b == nil || b.Len() < n {
			panic(fmt.Sprintf("%s: argument %d needs %d elements", op, i, n))
		}
	}
}
