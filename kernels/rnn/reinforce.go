package rnn

/*
#include "reinforce.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Reinforce turns a comparator's scores of what a Rollout drew into the gradient that Backward wants: REINFORCE
// (Williams 1992) with the probability of beating an opponent as reward (paper section 3.3). It stands here, beside the
// network, because it is the policy's loss: its input is a rollout's entropies and its outputs are Backward's inputs.
//
// The reward of a sequence is the mean over the members of an ensemble of σ(z), with z = s - o for one head and z =
// s[0] + o[1] + bias for two, where s is the member's score of what was drawn and o of the opponent. With v =
// reward^Power
//
//	DLogP = -(v - b) / (d Batch),   DEntropy = -w / Batch
//
// where b is the moving average of v over the updates before (of this one, the first time; 0 with Baseline = 0), d the
// moving standard deviation of v - b, at least LeastDeviation (1 without Normalize), and w goes from Entropy to
// EntropyEnd over Iterations updates. All of it is computed in float64.
type Reinforce struct {
	Batch, Members, Heads int
	Score                 *exec.Buffer // [Members, Batch, Heads]
	Opponent              *exec.Buffer // [Members, Heads]
	Bias                  *exec.Buffer // [Members], with two heads only
	RolloutEntropy        *exec.Buffer // [Batch]: Rollout's Entropy, in nats
	LogP                  *exec.Buffer // [Batch]: Rollout's
	Actions               *exec.Buffer // [Batch, Steps] integers: Rollout's
	Steps                 int
	Norm                  *exec.Buffer // [1]: the norm of the gradient that the update before this one had
	Power                 float64      // 0: 1
	Baseline              float64      // decay of b
	Normalize             bool
	LeastDeviation        float64
	Entropy, EntropyEnd   float64
	Iterations            int          // 0: the weight stays Entropy
	State                 *exec.Buffer // [StateInts] integers, see PutState
	Log                   *exec.Buffer // [rows, LogFloats]: update i writes row i modulo their number
	Kept                  *exec.Buffer // out: as many rows of [Batch, Steps] integers: the updates' Actions
	DLogP, DEntropy       *exec.Buffer // out: [Batch]
}

// LogFloats is the size of a row of Reinforce's log: mean reward, mean entropy, the loss -mean((v - b) LogP), and the
// norm of the gradient, which the update after it writes.
const LogFloats = C.CTN_REINFORCE_ROW

// StateInts is the size of Reinforce's state.
const StateInts = 6

// ReinforceState is what later updates depend on.
type ReinforceState struct {
	Updates  int32
	Average  float64 // moving average of v
	Variance float64 // moving average of (v - b)²
}

// PutState writes the state that the next update begins with.
func PutState(b *exec.Buffer, s ReinforceState) {
	average, variance := math.Float64bits(s.Average), math.Float64bits(s.Variance)
	b.WriteI32(0, []int32{s.Updates, 0, int32(average), int32(average >> 32), int32(variance), int32(variance >> 32)})
}

// GetState reads the state after the last update.
func GetState(b *exec.Buffer) ReinforceState {
	v := make([]int32, StateInts)
	b.ReadI32(0, v)
	double := func(i int) float64 { return math.Float64frombits(uint64(uint32(v[i])) | uint64(uint32(v[i+1]))<<32) }
	return ReinforceState{Updates: v[0], Average: double(2), Variance: double(4)}
}

// Record appends the operation to a program. It goes between the operations that score and Backward.
func (r Reinforce) Record(p *exec.Program) {
	n := r.Batch
	if n < 1 || r.Members < 1 || r.Heads < 1 || r.Heads > 2 || r.Score.Len() < n*r.Members*r.Heads ||
		r.Opponent.Len() < r.Members*r.Heads || r.Heads == 2 && (r.Bias == nil || r.Bias.Len() < r.Members) ||
		r.RolloutEntropy.Len() < n || r.State.Len() < StateInts || r.Log.Len() < LogFloats || r.LogP.Len() < n ||
		r.Steps < 1 || r.Actions.Len() < n*r.Steps || r.Norm.Len() < 1 ||
		r.Kept.Len() < r.Log.Len()/LogFloats*n*r.Steps || r.DLogP.Len() < n || r.DEntropy.Len() < n ||
		r.Iterations < 0 {
		panic(fmt.Sprintf("reinforce: %d sequences, %d members, %d heads: a buffer is too short", n,
			r.Members, r.Heads))
	}
	args := C.ctn_reinforce_args{batch: C.int64_t(n), members: C.int64_t(r.Members), heads: C.int64_t(r.Heads),
		score: floats(r.Score), opponent: floats(r.Opponent), bias: floats(r.Bias), entropy: floats(r.RolloutEntropy),
		state: (*C.ctn_reinforce_state)(r.State.Pointer()), power: C.double(r.Power), baseline: C.double(r.Baseline),
		weight: C.double(r.Entropy), weight_end: C.double(r.EntropyEnd), least: C.double(r.LeastDeviation),
		iterations: C.int64_t(r.Iterations), kept: C.int64_t(r.Log.Len() / LogFloats), steps: C.int64_t(r.Steps),
		logp: floats(r.LogP), norm: floats(r.Norm), action: ints(r.Actions), kept_action: ints(r.Kept),
		value: (*C.double)(p.Arena().F32(2 * n).Pointer()), dlogp: floats(r.DLogP), dentropy: floats(r.DEntropy),
		log: floats(r.Log)}
	args.normalize = flag(r.Normalize)
	exec.Call(p, "reinforce", unsafe.Pointer(&C.ctn_reinforce), &args, 0,
		exec.Launch{File: "reinforce", Entry: "cu_reinforce", Block: C.CTN_REINFORCE_THREADS})
}
