package trainer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
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

// A supernet is written and read in both kinds of files, in once-for-all's names or without the modules around its
// layers, as the released files have them or not.
func TestSupernetFiles(t *testing.T) {
	t.Parallel()
	shared, err := zoo.OnceForAll{Width: 0.35}.Supernet(4)
	require.NoError(t, err)
	values := shared.Initialize(nn.TorchDefault, 5)
	dir := t.TempDir()
	for _, name := range []string{"w.safetensors", "w.pth"} {
		path := filepath.Join(dir, name)
		require.NoError(t, trainer.WriteShared(path, shared, values, map[string]string{trainer.SpaceKey: "a space"}))
		back, err := trainer.ReadShared(path, shared)
		require.NoError(t, err)
		require.Equal(t, values, back)

		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, whole[:len(whole)*2/3], 0o600))
		_, err = trainer.ReadShared(path, shared)
		require.ErrorContains(t, err, path)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
	}
	w, err := trainer.OpenWeights(filepath.Join(dir, "w.safetensors"))
	require.NoError(t, err)
	require.Equal(t, "a space", w.Metadata[trainer.SpaceKey])
	require.True(t, w.Supernet())
	largest, err := zoo.OnceForAll{Width: 0.35}.Largest().Build(32, 4)
	require.NoError(t, err)
	require.ErrorIs(t, w.Fill(largest, largest.Initialize(nn.TorchDefault, 5)), trainer.ErrSupernet)

	respelt := func(name func(string) string) ([][]float32, error) {
		tensors, _, err := format.Read(filepath.Join(dir, "w.pth"))
		require.NoError(t, err)
		for i := range tensors {
			tensors[i].Name = name(tensors[i].Name)
		}
		path := filepath.Join(dir, "respelt.safetensors")
		require.NoError(t, format.WriteSafetensors(path, tensors, nil))
		return trainer.ReadShared(path, shared)
	}
	inBlock := func(s, from, to string) string {
		if strings.HasPrefix(s, "blocks.") {
			return strings.Replace(s, from, to, 1)
		}
		return s
	}
	for _, name := range []func(string) string{
		func(s string) string { return inBlock(s, ".conv.", ".mobile_inverted_conv.") },
		func(s string) string {
			return "module." + strings.Replace(inBlock(s, ".conv.conv.weight", ".conv.weight"), ".bn.bn.", ".bn.", 1)
		},
	} {
		back, err := respelt(name)
		require.NoError(t, err)
		require.Equal(t, values, back)
	}

	path := filepath.Join(dir, "w.pth")
	wide, err := zoo.OnceForAll{Width: 0.5}.Supernet(4)
	require.NoError(t, err)
	_, err = trainer.ReadShared(path, wide)
	require.ErrorContains(t, err, path+`: tensor "blocks.1.conv.point_linear.conv.conv.weight" has shape [8 48 1 1]`)
	require.ErrorContains(t, err, "once-for-all w0.5")
	classes, err := zoo.OnceForAll{Width: 0.35}.Supernet(5)
	require.NoError(t, err)
	_, err = trainer.ReadShared(path, classes)
	require.ErrorContains(t, err, `tensor "classifier.linear.weight" has shape [4 448]`)
	require.ErrorContains(t, trainer.WriteShared(path, shared, values[1:], nil), "want")
	values[3] = values[3][1:]
	require.ErrorContains(t, trainer.WriteShared(path, shared, values, nil), shared.Variables[3].Name)
}
