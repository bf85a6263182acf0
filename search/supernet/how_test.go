package supernet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The supernet of a chain is trained at the chain's resolution, and by SPOS from bins of its multiply-adds.
func TestHowChainsAreTrained(t *testing.T) {
	d := &data.Dataset{Width: 32, Height: 32, Classes: make([]string, 10)}
	how := func(name string, change func(r *trainer.SupernetRecipe)) (How, space.Space, error) {
		sp, err := space.Open(name)
		require.NoError(t, err)
		r := trainer.SupernetRecipeDefaults()
		r.Method = trainer.MethodSPOS
		change(&r)
		h, err := NewHow(sp, r, d, 3, exec.Config{}, nil)
		return h, sp, err
	}
	h, sp, err := how("spos@w0.25,r16,s8", func(r *trainer.SupernetRecipe) {
		r.BinsLow, r.BinsHigh, r.BinsWidth = 1_700_000, 2_600_000, 100_000
	})
	require.NoError(t, err)
	defer h.Close()
	require.Equal(t, 16, h.Recipe.Resolution)
	seen := map[int64]bool{}
	for update := range 200 {
		paths, err := h.Sampler.Paths(update)
		require.NoError(t, err)
		again, err := h.Sampler.Paths(update)
		require.NoError(t, err)
		require.Equal(t, paths, again)
		require.Len(t, paths, 1)
		a, err := sp.Parse(paths[0])
		require.NoError(t, err)
		p, err := h.Paths.Path(paths[0], 10)
		require.NoError(t, err)
		require.Equal(t, 16, p.Input().H)
		seen[(a.(space.Trainable).CostAt(space.NetworkSize{Classes: 10}).MAdds-1_700_000)/100_000] = true
	}
	require.Len(t, seen, 9)

	// The cell of an edge alone is one of 91. Of decisions it needs, with one interior vertex, that the output reads
	// the input and that none of four pairs is that vertex and the output; with two vertices likewise, of three pairs.
	const wanted, draws = "nasbench101:2:1:", 4000
	share := func(sample string) float64 {
		h, _, err := how("nasbench101-v4", func(r *trainer.SupernetRecipe) { r.Sample = sample })
		require.NoError(t, err)
		defer h.Close()
		drawn := 0
		for update := range draws {
			paths, err := h.Sampler.Paths(update)
			require.NoError(t, err)
			if paths[0] == wanted {
				drawn++
			}
		}
		return float64(drawn) / draws
	}
	require.InDelta(t, 1.0/91, share(trainer.SampleArchitectures), 0.007)
	one, two := 7.0/9*7/9*7/9*7/9/2, 3.0/4*3/4*3/4/3 // interior vertices
	require.InDelta(t, (one+two)/2, share(trainer.SampleDecisions), 0.025)

	h, _, err = how("fairnas@w0.25,r16,s8", func(r *trainer.SupernetRecipe) { r.Method = trainer.MethodFairNAS })
	require.NoError(t, err)
	defer h.Close()
	paths, err := h.Sampler.Paths(7)
	require.NoError(t, err)
	require.Len(t, paths, 6)

	for name, want := range map[string]string{"spos@w0.25,r32,s8": "has 32",
		"mobilenetv3@w0.35,r16-32,s16": "has 16 32"} {
		_, _, err = how(name, func(r *trainer.SupernetRecipe) { r.Resolution = 16 })
		require.ErrorContains(t, err, want)
	}
	_, _, err = how("spos@w0.25,r16,s8", func(r *trainer.SupernetRecipe) { r.BinsHigh = 5 })
	require.ErrorContains(t, err, "bins of 0 multiply-adds from 0 to 5")
	_, _, err = how("nasbench101-v4", func(r *trainer.SupernetRecipe) { r.BinsHigh = 5 })
	require.ErrorContains(t, err, "only chains of blocks can")
	_, _, err = how("darts", func(r *trainer.SupernetRecipe) { r.Method = trainer.MethodFairNAS })
	require.ErrorContains(t, err, "darts")
}

// The paths of a space whose choices can be mixed have the mixture, of the recipe's size, and what it stands for.
func TestHowMixturesAreTrained(t *testing.T) {
	d := &data.Dataset{Width: 8, Height: 8, Classes: make([]string, 10)}
	for _, name := range []string{"nasbench101-v4", "darts@cifar10", "spos@w0.25,r16,s4"} {
		sp, err := space.Open(name)
		require.NoError(t, err)
		r := trainer.SupernetRecipeDefaults()
		r.Method, r.Channels, r.Stacks, r.Modules = trainer.MethodSPOS, 8, 2, 2
		h, err := NewHow(sp, r, d, 3, exec.Config{}, nil)
		require.NoError(t, err)
		defer h.Close()
		paths := h.Paths.(mixedPaths)
		p, err := paths.Mixture(3)
		require.NoError(t, err)
		require.Equal(t, nn.Shape{H: h.Recipe.Side(d), W: h.Recipe.Side(d), C: 3}, p.Input())
		require.Equal(t, nn.Shape{H: 1, W: 1, C: 3}, p.Nodes[p.Outputs[0].Node].Shape)
		shared, err := paths.Supernet(3)
		require.NoError(t, err)
		require.NoError(t, shared.Check(p))
		weights := make([][]float32, len(p.Mixture))
		for i, row := range p.Mixture {
			weights[i] = make([]float32, len(row.Choices))
			weights[i][1] = 1
		}
		text, err := paths.Derive(weights)
		require.NoError(t, err)
		p, err = paths.Path(text, 3)
		require.NoError(t, err)
		require.NoError(t, shared.Check(p))
		_, err = paths.Derive(weights[1:])
		require.ErrorContains(t, err, name)
	}
}
