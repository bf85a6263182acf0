package rnn_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/rnn"
)

func TestReinforce(t *testing.T) {
	cases := []Reinforce{
		{Batch: 1, Members: 1, Heads: 2, Entropy: 5e-4},
		{Batch: 1, Members: 1, Heads: 1, Baseline: 0.9, Normalize: true, LeastDeviation: 1e-3, Entropy: 0.1,
			EntropyEnd: 0.01, Iterations: 3},
		{Batch: 7, Members: 3, Heads: 1, Power: 0.5, Baseline: 0.9, Entropy: 1e-2},
		{Batch: 300, Members: 2, Heads: 2, Power: 2, Baseline: 0.5, Normalize: true, LeastDeviation: 1e-3,
			Entropy: 1e-2, EntropyEnd: 3e-3, Iterations: 4},
		{Batch: 33, Members: 1, Heads: 1, Normalize: true, LeastDeviation: 10},
	}
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, r := range cases {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				ar := d.NewArena()
				defer ar.Free()
				const kept = 3
				r.Score, r.Opponent, r.Bias, r.RolloutEntropy = ar.F32(r.Members*r.Batch*r.Heads),
					ar.F32(r.Members*r.Heads), ar.F32(r.Members), ar.F32(r.Batch)
				r.State, r.Log, r.DLogP, r.DEntropy = ar.I32(StateInts), ar.F32(LogFloats*kept), ar.F32(r.Batch),
					ar.F32(r.Batch)
				r.LogP, r.Norm, r.Steps = ar.F32(r.Batch), ar.F32(1), 3
				r.Actions, r.Kept = ar.I32(3*r.Batch), ar.I32(kept*3*r.Batch)
				if r.Heads == 1 {
					r.Bias = nil
				}
				state := ReinforceState{}
				PutState(r.State, state)
				p := ar.NewProgram("reinforce")
				r.Record(p)
				log := make([]float64, LogFloats*kept)
				actions := make([][]int32, kept)
				for update := range 6 {
					stream := uint32(100*i + 10*update)
					fill := func(b *exec.Buffer, s uint32) []float64 {
						if b == nil {
							return nil
						}
						v, v64 := kerneltest.Random(b.Len(), stream+s)
						b.WriteF32(0, v)
						return v64
					}
					score, opponent, bias, entropy := fill(r.Score, 1), fill(r.Opponent, 2), fill(r.Bias, 3),
						fill(r.RolloutEntropy, 4)
					logp, norm := fill(r.LogP, 5), fill(r.Norm, 6)
					decided := make([]int32, 3*r.Batch)
					for k := range decided {
						decided[k] = int32(update*len(decided) + k)
					}
					actions[update%kept] = decided
					r.Actions.WriteI32(0, decided)
					p.Run(1)
					dlogp, dentropy, reward, spread, loss := ReinforceReference(r, score, opponent, bias, entropy, logp,
						&state)
					kerneltest.Close(t, dlogp, r.DLogP.Values(), 2e-7, "dlogp")
					kerneltest.Close(t, dentropy, r.DEntropy.Values(), 1e-7, "dentropy")
					at := update % kept * LogFloats
					log[at], log[at+1], log[at+2] = reward, spread, loss
					if update > 0 {
						log[(update-1)%kept*LogFloats+3] = norm[0]
					}
					row := make([]float32, 3)
					r.Log.ReadF32(at, row)
					kerneltest.Close(t, log[at:at+3], row, 1e-6, "log")
					got := GetState(r.State)
					require.Equal(t, state.Updates, got.Updates)
					require.InDelta(t, state.Average, got.Average, 1e-13)
					require.InDelta(t, state.Variance, got.Variance, 1e-13)
				}
				got := r.Log.Values()
				got[2*LogFloats+3] = float32(log[2*LogFloats+3]) // of the last update, which the next would write
				kerneltest.Close(t, log, got, 1e-6, "the last updates")
				rows := make([]int32, 3*kept*r.Batch)
				r.Kept.ReadI32(0, rows)
				require.Equal(t, slices.Concat(actions...), rows)
			})
		}
	})
}

// With no other term the gradient is that of the loss -mean(v logp) for fixed v: a better sequence is made more
// probable.
func TestReinforceSigns(t *testing.T) {
	r := Reinforce{Batch: 2, Members: 1, Heads: 1, Baseline: 0.9}
	dlogp, _, reward, _, _ := ReinforceReference(r, []float64{2, -2}, []float64{0}, nil, []float64{1, 1},
		[]float64{0, 0}, &ReinforceState{})
	require.InDelta(t, 0.5, reward, 1e-12)
	require.Less(t, dlogp[0], 0.0)
	require.InDelta(t, -dlogp[0], dlogp[1], 1e-12)
}

func TestReinforcePanics(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	good := Reinforce{Batch: 2, Members: 1, Heads: 1, Score: ar.F32(2), Opponent: ar.F32(1), RolloutEntropy: ar.F32(2),
		State: ar.I32(StateInts), Log: ar.F32(LogFloats), DLogP: ar.F32(2), DEntropy: ar.F32(2), LogP: ar.F32(2),
		Actions: ar.I32(4), Steps: 2, Norm: ar.F32(1), Kept: ar.I32(4)}
	for _, change := range []func(r *Reinforce){
		func(r *Reinforce) {
			r.Heads = 3
		}, func(r *Reinforce) { r.Heads = 2 }, func(r *Reinforce) { r.Batch = 3 }, func(r *Reinforce) { r.Members = 2 },
		func(r *Reinforce) {
			r.Log = ar.F32(1)
		}, func(r *Reinforce) {
			r.Kept = ar.I32(3)
		}, func(r *Reinforce) { r.State = ar.I32(5) }, func(r *Reinforce) { r.Iterations = -1 },
	} {
		bad := good
		change(&bad)
		require.Panics(t, func() { bad.Record(ar.NewProgram("bad")) })
	}
	require.NotPanics(t, func() { good.Record(ar.NewProgram("good")) })
}
