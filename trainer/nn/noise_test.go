package nn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The decisions are those of the kernels' dropout, and differ between nodes.
func TestKept(t *testing.T) {
	differ := 0
	for element := range 1000 {
		kept := nn.Kept(0.3, 77, 5, 9, element)
		require.Equal(t, dense.DropoutReference(0.7, 77, philox.PurposeTrain|5<<16, 9, element) > 0, kept)
		if kept != nn.Kept(0.3, 77, 6, 9, element) {
			differ++
		}
	}
	require.InDelta(t, 2*0.3*0.7*1000, differ, 4*16)
}
