package rnn_test

import (
	"fmt"
	"testing"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/rnn"
	"github.com/stretchr/testify/require"
)

func TestReinforce(t *testing.T) {
	cases := []Reinforce{
		{Batch: 1, Members: 1, Heads: 2, Entropy: 5e-4},
		{Batch: 1, Members: 1, Heads: 1, Baseline: 0.9, Normalize: true, LeastDeviation: 1e-3, Entropy: 0.1, EntropyEnd: 0.01, Iterations: 3},
		{Batch: 7, Members: 3, Heads: 1, Power: 0.5, Baseline: 0.9, Entropy: 1e-2},
		{Batch: 300, Members: 2, Heads: 2, Power: 2, Baseline: 0.5, Normalize: true, LeastDeviation: 1e-3, Entropy: 1e-2, EntropyEnd: 3e-3, Iterations: 4},
		{Batch: 33, Members: 1, Heads: 1, Normalize: true, LeastDeviation: 10},
	}
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, r := range cases {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				ar := d.NewArena()
				defer ar.Free()
				const kept = 3
				r.Score, r.Opponent, r.Bias, r.RolloutEntropy = ar.F32(r.Members*r.Batch*r.Heads), ar.F32(r.Members*r.Heads), ar.F32(r.Members), ar.F32(r.Batch)
				r.State, r.Log, r.DLogP, r.DEntropy = ar.I32(StateInts), ar.F32(2*kept), ar.F32(r.Batch), ar.F32(r.Batch)
				if r.Heads == 1 {
					r.Bias = nil
				}
				state := ReinforceState{}
				PutState(r.State, state)
				p := ar.NewProgram("reinforce")
				r.Record(p)
				log := make([]float64, 2*kept)
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
					score, opponent, bias, entropy := fill(r.Score, 1), fill(r.Opponent, 2), fill(r.Bias, 3), fill(r.RolloutEntropy, 4)
					p.Run(1)
					dlogp, dentropy, reward, spread := r.Reference(score, opponent, bias, entropy, &state)
					kerneltest.Close(t, dlogp, r.DLogP.Values(), 2e-7, "dlogp")
					kerneltest.Close(t, dentropy, r.DEntropy.Values(), 1e-7, "dentropy")
					log[2*(update%kept)], log[2*(update%kept)+1] = reward, spread
					row := make([]float32, 2)
					r.Log.ReadF32(2*(update%kept), row)
					kerneltest.Close(t, log[2*(update%kept):][:2], row, 1e-7, "log")
					got := GetState(r.State)
					require.Equal(t, state.Updates, got.Updates)
					require.InDelta(t, state.Average, got.Average, 1e-13)
					require.InDelta(t, state.Variance, got.Variance, 1e-13)
				}
				kerneltest.Close(t, log, r.Log.Values(), 1e-7, "the last updates")
			})
		}
	})
}

// With no other term the gradient is that of the loss -mean(v logp) for fixed v: a better sequence is made more probable.
func TestReinforceSigns(t *testing.T) {
	r := Reinforce{Batch: 2, Members: 1, Heads: 1, Baseline: 0.9}
	dlogp, _, reward, _ := r.Reference([]float64{2, -2}, []float64{0}, nil, []float64{1, 1}, &ReinforceState{})
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
	good := Reinforce{Batch: 2, Members: 1, Heads: 1, Score: ar.F32(2), Opponent: ar.F32(1), RolloutEntropy: ar.F32(2), State: ar.I32(StateInts),
		Log: ar.F32(2), DLogP: ar.F32(2), DEntropy: ar.F32(2)}
	for _, change := range []func(r *Reinforce){
		func(r *Reinforce) { r.Heads = 3 }, func(r *Reinforce) { r.Heads = 2 }, func(r *Reinforce) { r.Batch = 3 }, func(r *Reinforce) { r.Members = 2 },
		func(r *Reinforce) { r.Log = ar.F32(1) }, func(r *Reinforce) { r.State = ar.I32(5) }, func(r *Reinforce) { r.Iterations = -1 },
	} {
		bad := good
		change(&bad)
		require.Panics(t, func() { bad.Record(ar.NewProgram("bad")) })
	}
	require.NotPanics(t, func() { good.Record(ar.NewProgram("good")) })
}
