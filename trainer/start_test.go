package trainer

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
)

// What a training begins with stays where nothing is learned; what is left out begins as the recipe has it.
func TestStart(t *testing.T) {
	job := shapesJob(t, func(r *Recipe) {
		r.LR, r.FinalLR, r.Warmup, r.WeightDecay, r.EMA, r.Epochs = 0, 0, 0, 0, 0, 1
	})
	variables := job.Net.Variables()
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	start := &Start{Values: make([][]float32, len(variables)), Checksum: "abc"}
	left := 0 // the first weight, which is left out
	for variables[left].Role != nn.Weight {
		left++
	}
	for i, v := range variables {
		if i != left {
			for range v.Len() {
				start.Values[i] = append(start.Values[i], 1+random.Float32())
			}
		}
	}
	require.True(t, start.partial())
	job.Start = start
	dir := t.TempDir()
	result, err := Train(t.Context(), job, Deps{Device: exec.Config{Threads: 1}, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, "abc", result.Start)
	w, err := OpenWeights(dir + "/" + WeightsName)
	require.NoError(t, err)
	got := make([][]float32, len(variables))
	require.NoError(t, w.Fill(job.Net, got))
	first := job.Net.Initialize(initializers[job.Recipe.Init], job.Seed)
	for i, v := range variables {
		switch {
		case i == left:
			require.Equal(t, first[i], got[i], v.Name)
		case v.Role.Trainable():
			require.Equal(t, start.Values[i], got[i], v.Name)
		}
	}

	start.Values[left] = []float32{1}
	_, err = Train(t.Context(), job, Deps{Device: exec.Config{Threads: 1}})
	require.ErrorContains(t, err, "1 numbers for "+variables[left].Name)
}
