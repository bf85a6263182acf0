package trainer_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
)

// twoVariables are those of a supernet of a linear layer.
func twoVariables() nn.Shared {
	return nn.Shared{Name: "small", Variables: []nn.Variable{
		{Name: "blocks.0.mobile_inverted_conv.linear.weight", Role: nn.Weight, Shape: []int{2, 3}},
		{Name: "norm.running_var", Role: nn.Variance, Shape: []int{3}},
	}}
}

// A supernet's file is read by names, in whatever order, and must hold what the supernet has and no more.
func TestFillShared(t *testing.T) {
	t.Parallel()
	weight := format.Tensor{Name: "module.blocks.0.conv.linear.weight", Shape: []int{3, 2},
		Data: []float32{1, 2, 3, 4, 5, 6}}
	variance := format.Tensor{Name: "module.norm.running_var", Shape: []int{3}, Data: []float32{1, 2, 3}}
	counted := format.Tensor{Name: "module.norm.num_batches_tracked", Shape: []int{1}, Data: []float32{9}}
	fill := func(tensors ...format.Tensor) ([][]float32, error) {
		path := filepath.Join(t.TempDir(), "w.safetensors")
		require.NoError(t, format.WriteSafetensors(path, tensors, nil))
		w, err := trainer.OpenWeights(path)
		require.NoError(t, err)
		return w.FillShared(twoVariables())
	}
	values, err := fill(counted, variance, weight)
	require.NoError(t, err)
	require.Equal(t, [][]float32{{1, 3, 5, 2, 4, 6}, {1, 2, 3}}, values)

	_, err = fill(variance)
	require.ErrorContains(t, err, `there is no tensor "blocks.0.mobile_inverted_conv.linear.weight"`)
	_, err = fill(variance, weight, format.Tensor{Name: "other", Shape: []int{1}, Data: []float32{0}})
	require.ErrorContains(t, err, `has no tensor "other"`)
	wide := format.Tensor{Name: weight.Name, Shape: []int{3, 3}, Data: make([]float32, 9)}
	_, err = fill(variance, wide)
	require.ErrorContains(t, err, "has shape [3 3], and that of the supernet small has [3 2]: it is of another width")
	negative := format.Tensor{Name: variance.Name, Shape: []int{3}, Data: []float32{1, -2, 3}}
	_, err = fill(negative, weight)
	require.ErrorIs(t, err, trainer.ErrNotFinite)
	w := trainer.Weights{}
	require.Nil(t, w.Tensor("x"))
}
