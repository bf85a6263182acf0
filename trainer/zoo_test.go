package trainer

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// Every network of the zoo takes a training step: a short way against its gradient the loss on the same batch has
// fallen, but not by more than twice what the gradient says: these losses, over batch norms of a few numbers, are steep
// and full of corners. Networks that differ in a table only are left out, unless CTNAS_TEST_ZOO is all.
func TestZooTrains(t *testing.T) {
	kinds := []string{"mobilenetv3_large_1.0", "shufflenetv2_2.0", "shufflenetv1_2.0_g3", "nasnet_a_mobile",
		"amoebanet_a_mobile", "cnas", "amoebanet_a_darts_macro", "fbnet_c", "efficientnet_b0", "fbnetv2_f4",
		"atomnas_c_plus"}
	for _, name := range zoo.Names() {
		t.Run(name, func(t *testing.T) {
			few := !testdata.All() && !slices.Contains([]string{"mobilenetv3_large_1.0", "shufflenetv1_2.0_g3"}, name)
			if os.Getenv("CTNAS_TEST_ZOO") != "all" && (few || !slices.Contains(kinds, name)) {
				t.Skip("another network stands for this one; CTNAS_TEST=all runs more, CTNAS_TEST_ZOO=all every one")
			}
			net, err := zoo.Build(name, 64, 4)
			require.NoError(t, err)
			m, err := NewModel(openTest(t), net, Options{Batch: 4, Seed: 1})
			require.NoError(t, err)
			defer m.Close()
			m.Initialize(nn.HeFanOut, 1)
			s := philox.New(4, philox.PurposeTest, 9)
			images := make([]float32, 4*net.Input().Len())
			for i := range images {
				images[i] = float32(s.NormFloat64())
			}
			m.Images.WriteF32(0, images)
			m.Labels.WriteI32(0, []int32{0, 1, 2, 3})
			m.Step(0, 0)
			before, norm := m.TotalLoss(), m.GradientNorm()
			fall := 0.01 * before // less would be lost in the rounding of weights
			weights, gradient := m.State.Slice(0, m.Params).Values(), m.Grad.Values()
			for i, g := range gradient {
				weights[i] -= float32(fall / norm / norm * float64(g))
			}
			m.State.WriteF32(0, weights)
			m.Step(0, 0)
			require.InDelta(t, fall, before-m.TotalLoss(), 0.95*fall, "from %v, gradient of %v", before, norm)
		})
	}
}
