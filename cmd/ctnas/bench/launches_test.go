package bench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
)

func TestLaunches(t *testing.T) {
	if testing.Short() {
		t.Skip("one recording after the other")
	}
	list, err := Launches(t.Context(), "nac_step_released_512", exec.BF16, 0)
	require.NoError(t, err)
	require.Equal(t, "cu_encode_prepare_bf16", list[0].Entry)
	require.Equal(t, "encode_bf16", list[0].File)
	require.Equal(t, "cu_adam", list[len(list)-1].Entry)
	for _, l := range list {
		require.Positive(t, l.Blocks())
		require.Positive(t, l.Block)
	}

	// A batch of another size has the same launches, of other grids, and both programs of a step are there.
	few, err := Launches(t.Context(), "train_nb101_small", exec.BF16, 4)
	require.NoError(t, err)
	many, err := Launches(t.Context(), "train_nb101_small", exec.BF16, 256)
	require.NoError(t, err)
	require.Equal(t, "cu_sgd", few[len(few)-1].Entry)
	require.Equal(t, "update", few[len(few)-1].Program)
	require.Equal(t, "train", few[0].Program)
	blocks := func(list []Launch) (n int) {
		for _, l := range list {
			n += l.Blocks()
		}
		return n
	}
	require.Greater(t, blocks(many), 4*blocks(few))

	_, err = Launches(t.Context(), "train_nobody", exec.FP32, 0)
	require.ErrorContains(t, err, "train_nobody")
	_, err = Launches(t.Context(), "search_released_schedule", exec.FP32, 0)
	require.Error(t, err)
	_, err = Launches(t.Context(), "supernet_ofa_step", exec.FP32, 0)
	require.ErrorContains(t, err, "more than recorded programs")
}
