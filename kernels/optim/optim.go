// Package optim holds the optimizers. The parameters of a model are one flat buffer, its gradient and moments likewise,
// so that an update is one operation; what changes from update to update (learning rate, count of updates) lies in
// buffers, so that a recorded program runs for thousands of updates in one call.
package optim

/*
#cgo CFLAGS: -g1 -std=gnu11 -Wno-psabi
#cgo !asan CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "optim.h"
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

// Adam is one update by Adam (Kingma and Ba 2015) or, decoupled, AdamW (Loshchilov and Hutter 2019), in PyTorch's
// arithmetic:
//
//	g = Scale[0]*G + WeightDecay*W            (not Decoupled: L2)
//	M += (1-Beta1)(g - M);  V = Beta2 V + (1-Beta2) g²
//	W = (1 - lr*WeightDecay) W                (Decoupled; WeightDecay times Decayed in both)
//	W -= lr/(1-Beta1^t) * M / (sqrt(V/(1-Beta2^t)) + Eps)
//
// with lr = LR[0] and t = Step[0] after this operation has added one to it. M and V start at zero.
type Adam struct {
	W, G, M, V   *exec.Buffer // [n]
	LR           *exec.Buffer // [1]
	Step         *exec.Buffer // [1] integer: updates done
	Scale        *exec.Buffer // [1], for instance the factor of Norm; nil: 1
	Beta1, Beta2 float64
	Eps          float64
	WeightDecay  float64
	Decoupled    bool
	Decayed      *exec.Buffer // [n]: factors of WeightDecay, for instance 0 for biases; nil: 1
}

// RecordAdam appends the update.
func RecordAdam(p *exec.Program, op Adam) {
	n := op.W.Len()
	if n == 0 || op.G.Len() != n || op.M.Len() != n || op.V.Len() != n || op.LR.Len() < 1 || op.Step.Len() < 1 {
		panic(fmt.Sprintf("optim: Adam over %d, %d, %d, %d floats", n, op.G.Len(), op.M.Len(), op.V.Len()))
	}
	args := C.ctn_adam_args{n: C.int64_t(n), w: floats(op.W), g: floats(op.G), m: floats(op.M), v: floats(op.V),
		lr: floats(op.LR), scale: floats(op.Scale), step: ints(op.Step), beta1: C.double(op.Beta1),
		beta2: C.double(op.Beta2), eps: C.double(op.Eps), decay: C.double(op.WeightDecay)}
	args.decoupled = flag(op.Decoupled)
	args.decayed = decayed(op.Decayed, n)
	var gpu []exec.Launch
	if p.Arena().Device().Accelerated() {
		args.ticket = ticket(p)
		gpu = []exec.Launch{{File: "optim", Entry: "cu_adam",
			Grid: [3]int{min(maxBlocks, exec.Blocks(n, 4*C.CTN_OPTIM_THREADS))}, Block: C.CTN_OPTIM_THREADS,
			Work: exec.Work{Bytes: (7 + decayedReads(op.Decayed)) * 4 * float64(n)}}}
	} else {
		args.terms = floats(p.Arena().F32(C.CTN_ADAM_TERMS))
		exec.Call(p, "adam_begin", unsafe.Pointer(&C.ctn_adam_begin), &args, 0)
	}
	exec.Call(p, "adam", unsafe.Pointer(&C.ctn_adam), &args, 0, gpu...)
}

// each is a launch with a thread an element.
func each(entry string, n int) exec.Launch {
	return exec.Over("optim", entry, n, 1, C.CTN_OPTIM_THREADS)
}

// decayedReads is how many numbers of a weight are read to know whether it decays.
func decayedReads(decayed *exec.Buffer) float64 {
	if decayed == nil {
		return 0
	}
	return 1
}

// maxBlocks bounds the blocks of an update: each of them first works out the terms of the step.
const maxBlocks = 1024

// ticket is what the blocks of an operation count their ends with.
func ticket(p *exec.Program) *C.int32_t { return ints(p.Arena().Ints([]int32{0})) }

// Group is how many elements lie together that are of one tensor.
const Group = C.CTN_OPTIM_GROUP

// Subset are the tensors that an update changes. The others stay as they are with all that is remembered of them:
// neither momentum nor decay moves them.
type Subset struct {
	Tensor  *exec.Buffer // [ceil(n/Group)] integers: of which tensor each Group elements are
	Changed *exec.Buffer // [tensors] integers: 0 of those that stay
}

// SGD is one update by stochastic gradient descent with momentum, in PyTorch's arithmetic:
//
//	g = Scale[0]*G + WeightDecay*Decayed*W     (not Decoupled: L2)
//	W = (1 - lr*WeightDecay*Decayed) W         (Decoupled)
//	V = Momentum*V + g
//	W -= lr*V, or with Nesterov lr*(g + Momentum*V)
//
// V starts at zero. LR, Scale and Decayed as in Adam.
type SGD struct {
	W, G, V     *exec.Buffer // [n]
	LR          *exec.Buffer // [1]
	Scale       *exec.Buffer // [1]; nil: 1
	Momentum    float64
	Nesterov    bool
	WeightDecay float64
	Decayed     *exec.Buffer // [n]; nil: 1
	Decoupled   bool
	Only        *Subset // nil: all weights
}

// RecordSGD appends the update.
func RecordSGD(p *exec.Program, op SGD) {
	args := descent("SGD", op.W, op.G, op.V, op.LR, op.Scale, op.Decayed, op.Momentum, op.WeightDecay, op.Decoupled,
		op.Only)
	args.nesterov = flag(op.Nesterov)
	launch := each("cu_sgd", op.W.Len())
	launch.Work.Bytes = (5 + decayedReads(op.Decayed)) * 4 * float64(op.W.Len())
	exec.Call(p, "sgd", unsafe.Pointer(&C.ctn_sgd), &args, 0, launch)
}

// RMSProp is one update by RMSProp in TensorFlow's form, in which the MobileNets were trained: Eps stands under the
// root, and the learning rate before the momentum.
//
//	Square += (1-Rho)(g² - Square)
//	V = Momentum*V + lr*g/sqrt(Square + Eps)
//	W -= V
//
// with g and the decay as in SGD. V starts at zero; Square at one in TensorFlow.
type RMSProp struct {
	W, G, V, Square *exec.Buffer // [n]
	LR              *exec.Buffer // [1]
	Scale           *exec.Buffer // [1]; nil: 1
	Rho, Momentum   float64
	Eps             float64
	WeightDecay     float64
	Decayed         *exec.Buffer // [n]; nil: 1
	Decoupled       bool
	Only            *Subset // nil: all weights
}

// RecordRMSProp appends the update.
func RecordRMSProp(p *exec.Program, op RMSProp) {
	args := descent("RMSProp", op.W, op.G, op.V, op.LR, op.Scale, op.Decayed, op.Momentum, op.WeightDecay, op.Decoupled,
		op.Only)
	if op.Square.Len() != op.W.Len() {
		panic(fmt.Sprintf("optim: RMSProp over %d floats with %d squares", op.W.Len(), op.Square.Len()))
	}
	args.square, args.rho, args.eps = floats(op.Square), C.float(op.Rho), C.float(op.Eps)
	exec.Call(p, "rmsprop", unsafe.Pointer(&C.ctn_rmsprop), &args, 0, each("cu_rmsprop", op.W.Len()))
}

func descent(name string, w, g, v, lr, scale, mask *exec.Buffer, momentum, decay float64,
	decoupled bool, only *Subset) C.ctn_descent_args {
	n := w.Len()
	if n == 0 || g.Len() != n || v.Len() != n || lr.Len() < 1 {
		panic(fmt.Sprintf("optim: %s over %d, %d, %d floats", name, n, g.Len(), v.Len()))
	}
	args := C.ctn_descent_args{n: C.int64_t(n), w: floats(w), g: floats(g), v: floats(v), lr: floats(lr),
		scale: floats(scale), decayed: decayed(mask, n), momentum: C.float(momentum), decay: C.float(decay)}
	args.decoupled = flag(decoupled)
	if only != nil {
		if only.Tensor.Len() != exec.Blocks(n, Group) || only.Changed.Len() < 1 {
			panic(fmt.Sprintf("optim: %s over %d floats with the tensors of %d groups", name, n, only.Tensor.Len()))
		}
		args.tensor, args.changed = ints(only.Tensor), ints(only.Changed)
	}
	return args
}

// decayed checks the weights' factors of the decay.
func decayed(b *exec.Buffer, n int) *C.float {
	if b != nil && b.Len() != n {
		panic(fmt.Sprintf("optim: %d factors of the weight decay for %d weights", b.Len(), n))
	}
	return floats(b)
}

// Norm is the 2-norm of a whole gradient and the factor that limits it to Max, as PyTorch's clip_grad_norm_ computes
// it: Out[0] = norm, Out[1] = min(1, Max/(norm + 1e-6)); Max = 0 sets no limit. It goes after the backward operations,
// and Out[1] is Adam's Scale. A norm that is not a number makes the factor not a number too.
type Norm struct {
	G   *exec.Buffer // [n]
	Max float64
	Out *exec.Buffer // [2]
}

// RecordNorm appends the norm. The order of summation depends on the length of G alone.
func RecordNorm(p *exec.Program, op Norm) {
	n := op.G.Len()
	if n == 0 || op.Out.Len() < 2 || op.Max < 0 {
		panic(fmt.Sprintf("optim: norm of %d floats, limit %g, %d outputs", n, op.Max, op.Out.Len()))
	}
	blocks := exec.Blocks(n, C.CTN_OPTIM_BLOCK)
	parts := p.Arena().F32(2 * blocks)
	args := C.ctn_norm_args{n: C.int64_t(n), g: floats(op.G), parts: (*C.double)(parts.Pointer()),
		max: C.double(op.Max), out: floats(op.Out)}
	var gpu []exec.Launch
	if p.Arena().Device().Accelerated() {
		args.ticket = ticket(p)
		gpu = []exec.Launch{{File: "optim", Entry: "cu_norm", Grid: [3]int{blocks}, Block: C.CTN_OPTIM_THREADS,
			Work: exec.Work{Bytes: 4 * float64(n)}}}
	} else {
		exec.Call(p, "norm_parts", unsafe.Pointer(&C.ctn_norm_parts), &args, 0)
	}
	exec.Call(p, "norm", unsafe.Pointer(&C.ctn_norm), &args, 0, gpu...)
}

// Clamp limits each element of a gradient by itself to [-Max, Max], as PyTorch's clip_grad_value_ does. A NaN stays
// one.
type Clamp struct {
	G   *exec.Buffer // [n]
	Max float64
}

// RecordClamp appends the limit; it goes between the backward operations and the optimizer.
func RecordClamp(p *exec.Program, op Clamp) {
	n := op.G.Len()
	if n == 0 || !(op.Max > 0) {
		panic(fmt.Sprintf("optim: limit %g of each of %d floats", op.Max, n))
	}
	args := C.ctn_clamp_args{n: C.int64_t(n), g: floats(op.G), max: C.float(op.Max)}
	exec.Call(p, "clamp", unsafe.Pointer(&C.ctn_clamp), &args, 0, each("cu_clamp", n))
}

// EMA is an exponential moving average of weights: Mean = Decay*Mean + (1-Decay)*W.
type EMA struct {
	Mean, W *exec.Buffer // [n]
	Decay   float64
}

// RecordEMA appends the average.
func RecordEMA(p *exec.Program, op EMA) {
	if op.Mean.Len() != op.W.Len() || op.W.Len() == 0 {
		panic(fmt.Sprintf("optim: average of %d floats in %d", op.W.Len(), op.Mean.Len()))
	}
	args := C.ctn_ema_args{n: C.int64_t(op.W.Len()), mean: floats(op.Mean), w: floats(op.W), decay: C.float(op.Decay)}
	exec.Call(p, "ema", unsafe.Pointer(&C.ctn_ema), &args, 0, each("cu_ema", op.W.Len()))
}

// Kind is the shape of a schedule after its warm-up.
type Kind int

// The shapes: Peak for ever, or from Peak down to Final along a line or half a cosine.
const (
	Constant Kind = C.CTN_CONSTANT
	Linear   Kind = C.CTN_LINEAR
	Cosine   Kind = C.CTN_COSINE
)

// Schedule is a learning rate as a function of the count of updates done: it rises to Peak over Warmup updates, then
// falls to Final at update Total and stays there.
type Schedule struct {
	Kind   Kind
	Peak   float64
	Warmup int
	Total  int
	Final  float64
}

// RecordSchedule appends the computation of lr[0] from step[0]; it goes before the optimizer, which counts the step.
func RecordSchedule(p *exec.Program, s Schedule, step, lr *exec.Buffer) {
	if s.Kind < Constant || s.Kind > Cosine || s.Warmup < 0 || s.Total < 0 || step.Len() < 1 || lr.Len() < 1 {
		panic(fmt.Sprintf("optim: schedule %+v", s))
	}
	args := C.ctn_schedule_args{step: ints(step), lr: floats(lr), peak: C.double(s.Peak), warmup: C.double(s.Warmup),
		total: C.double(s.Total), final: C.double(s.Final), kind: C.int32_t(s.Kind)}
	exec.Call(p, "schedule", unsafe.Pointer(&C.ctn_schedule), &args, 0,
		exec.Launch{File: "optim", Entry: "cu_schedule", Block: 32})
}
