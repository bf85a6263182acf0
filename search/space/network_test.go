package space

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The networks that are built layer by layer at a space's own size take what the spaces count.
func TestNetworksTakeWhatIsCounted(t *testing.T) {
	for _, name := range []string{"nasbench101", "mobilenetv3", "mobilenetv3@w1.2,r160-224", "mobilenetv3@w1.0,r132", "darts", "darts@cifar10"} {
		sp, err := Open(name)
		require.NoError(t, err)
		s := philox.New(11, philox.PurposeTest, 0)
		for range 40 {
			a := sp.Sample(s).(Trainable)
			net, err := a.Network(NetworkSize{})
			require.NoError(t, err)
			require.Equal(t, nn.Cost(a.Cost()), net.Cost(), a)
		}
	}
}

// Cells that do not read one of their inputs have the layer behind it all the same, as in the DARTS code.
func TestNetworksWithUnreadInputs(t *testing.T) {
	sp, err := Open("darts@cifar10")
	require.NoError(t, err)
	cell := func(op string, from int) string {
		return fmt.Sprintf("[('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d)]", op, from)
	}
	for _, op := range []string{"none", "skip_connect", "max_pool_3x3", "dil_conv_5x5"} {
		for from := range 2 {
			a, err := sp.Parse(fmt.Sprintf("darts:Genotype(normal=%s, normal_concat=range(2, 6), reduce=%s, reduce_concat=range(2, 6))", cell(op, from), cell(op, 1-from)))
			require.NoError(t, err)
			net, err := a.(Trainable).Network(NetworkSize{})
			require.NoError(t, err)
			require.Equal(t, nn.Cost(a.Cost()), net.Cost(), a)
		}
	}
}
