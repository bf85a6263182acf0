package sim_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
)

// The orders share the cases of a test, so that each case is run in one of them, in both precisions.
func TestShared(t *testing.T) {
	for _, precision := range []exec.Precision{exec.FP32, exec.BF16} {
		var taken [6]int
		for _, order := range sim.Orders {
			d, err := exec.Open(exec.Config{Device: "sim:" + order.String(), Precision: precision})
			require.NoError(t, err)
			for number := range taken {
				if kerneltest.Shared(d, number, len(sim.Orders)) {
					taken[number]++
				}
			}
			d.Close()
		}
		require.Equal(t, [6]int{1, 1, 1, 1, 1, 1}, taken)
	}
}
