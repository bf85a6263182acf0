package trainer

import (
	"math"
	"testing"

	"github.com/ctnas/ctnas/trainer/nn/zoo"
	"github.com/stretchr/testify/require"
)

// The recipes for supernets that come with the program are what their sources say, and files of wrong ones are refused
// with the key and what is wanted.
func TestSupernetRecipes(t *testing.T) {
	require.Subset(t, SupernetRecipeNames(), []string{"ofa", "sandwich", "shapes-ofa", "shapes", "spos",
		"published-spos"})
	for _, name := range SupernetRecipeNames() {
		r, err := OpenSupernetRecipe(name)
		require.NoError(t, err)
		require.NoError(t, r.Check())
	}
	r, err := OpenSupernetRecipe("ofa")
	require.NoError(t, err)
	stages, err := r.stages()
	require.NoError(t, err)
	require.Len(t, stages, 6)
	for i, want := range []struct {
		epochs, paths  int
		choices        zoo.Choices
		first, highest float64
	}{
		{180, 1, choices([]int{7}, []int{4}, []int{6}), 0.325 / 500, 0.325},
		{125, 1, choices([]int{3, 5, 7}, []int{4}, []int{6}), 0.03 + 0.09/500, 0.12},
		{25, 2, choices([]int{3, 5, 7}, []int{3, 4}, []int{6}), 0.01, 0.01},
		{125, 2, choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{6}), 0.0075 + 0.0225/500, 0.03},
		{25, 4, choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{4, 6}), 0.01, 0.01},
		{125, 4, choices([]int{3, 5, 7}, []int{2, 3, 4}, []int{3, 4, 6}), 0.0075 + 0.0225/500, 0.03},
	} {
		s := stages[i]
		require.Equal(t, []any{want.epochs, want.paths, want.choices}, []any{s.Epochs, s.Paths, s.Choices})
		in := r.in(s)
		require.InDelta(t, want.first, in.Rate(0, 100), 1e-12)
		require.InDelta(t, want.highest, in.Rate(int(100*s.Warmup), 100), 1e-12)
		require.InDelta(t, 0, in.Rate(100*s.Epochs, 100), 1e-12)
	}
	r, err = OpenSupernetRecipe("sandwich")
	require.NoError(t, err)
	stages, err = r.stages()
	require.NoError(t, err)
	require.Equal(t, []Stage{{Name: "sandwich", Epochs: 360, Paths: 2, LR: 0.1, Warmup: 5}}, stages)
	require.Equal(t, 25, len(r.sides(128, 224)))
	require.Equal(t, []int{128, 132}, r.sides(128, 224)[:2])
	require.Equal(t, []int{32}, r.sides(32, 32))
	r.SideStep = 20
	require.Equal(t, []int{128, 148, 168, 188, 208, 224}, r.sides(128, 224))

	for change, want := range map[string]func(r *SupernetRecipe){
		"mixup 0.2: want 0":          func(r *SupernetRecipe) { r.Mixup = 0.2 },
		"val-split 0.1: want 0":      func(r *SupernetRecipe) { r.ValSplit = 0.1 },
		"recalibrate 0: want 1":      func(r *SupernetRecipe) { r.Recalibrate = 0 },
		"paths 7: want 0 to 6":       func(r *SupernetRecipe) { r.Paths = 7 },
		`method "random": want sand`: func(r *SupernetRecipe) { r.Method = "random" },
		"stages are none: method ofa": func(r *SupernetRecipe) {
			r.Method, r.Distill = MethodOFA, 1
		},
		"bins-low 5, bins-high 0, bins-width 0: want 0, for paths of sandwich": func(r *SupernetRecipe) {
			r.BinsLow = 5
		},
		"untouched stay: want move, for adamw": func(r *SupernetRecipe) {
			r.Untouched, r.Optimizer = UntouchedStay, "adamw"
		},
		"controller-from 0.5: want 0, for spos has no controller": func(r *SupernetRecipe) {
			r.Method, r.ControllerFrom = MethodSPOS, 0.5
		},
		"sample decisions: want architectures, for only paths of spos": func(r *SupernetRecipe) {
			r.Sample = SampleDecisions
		},
		"sample decisions: want": func(r *SupernetRecipe) {
			r.Method, r.Sample, r.BinsHigh = MethodSPOS, SampleDecisions, 10
		},
		"distill 1: want 0, for sandwich": func(r *SupernetRecipe) { r.Distill = 1 },
		`stages "kernel epochs=2": want lr=NUMBER`: func(r *SupernetRecipe) {
			r.Method, r.Stages = MethodOFA, []string{"kernel epochs=2"}
		},
		`stages "kernel lr=1": "kernel" is no stage that may stand here: want one of depth2`: func(r *SupernetRecipe) {
			r.Method, r.Stages = MethodOFA, []string{"depth1 lr=1", "kernel lr=1"}
		},
		`"lr=2": want each once of epochs, paths, lr, warmup, warmup-lr=N`: func(r *SupernetRecipe) {
			r.Method, r.Stages = MethodOFA, []string{"full lr=1 lr=2"}
		},
		`stages "full lr=x"`: func(r *SupernetRecipe) { r.Method, r.Stages = MethodOFA, []string{"full lr=x"} },
		`stages "full lr=1 warmup=3 epochs=2": warmup 3: want 0 to 2`: func(r *SupernetRecipe) {
			r.Method, r.Stages = MethodOFA, []string{"full lr=1 warmup=3 epochs=2"}
		},
	} {
		r := SupernetRecipeDefaults()
		want(&r)
		require.ErrorContains(t, r.Check(), change)
	}
	_, err = OpenSupernetRecipe("fast-cifar")
	require.ErrorContains(t, err, `recipe "fast-cifar" is none of darts-shapes, `)
}

// Paths are drawn by the seed, the update and their place in it alone, and by nothing twice.
func TestPathDraws(t *testing.T) {
	seen := map[uint64]bool{}
	for _, update := range []uint32{0, 1, 7, judgedUpdate} {
		for index := range 4 {
			first := pathDraw(3, update, index).Uint64()
			require.Equal(t, first, pathDraw(3, update, index).Uint64())
			require.False(t, seen[first])
			seen[first] = true
		}
	}
	require.NotEqual(t, pathDraw(3, 0, 0).Uint64(), pathDraw(4, 0, 0).Uint64())
	require.Equal(t, uint32(math.MaxUint32), uint32(judgedUpdate))
}

// Recipes of the methods that search stand any number of epochs: --supernet-epochs may say fewer.
func TestSupernetRecipesOfOneEpoch(t *testing.T) {
	for _, name := range SupernetRecipeNames() {
		r, err := OpenSupernetRecipe(name)
		require.NoError(t, err, name)
		if r.Epochs = 1; r.Sampled() || r.Mixed() {
			require.NoError(t, r.Check(), name)
		}
	}
}
