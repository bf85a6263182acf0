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

// Networks that are said to be alike can all be built where one can, also at the smallest sizes.
func TestNetworksAreAlike(t *testing.T) {
	for _, name := range []string{"mobilenetv3", "darts", "darts@cifar10"} {
		sp, err := Open(name)
		require.NoError(t, err)
		s := philox.New(12, philox.PurposeTest, 0)
		for _, size := range []NetworkSize{{Side: 1, Channels: 2, Modules: 1}, {Side: 8, Channels: 3, Stacks: 1}, {Side: 33, Channels: 5, Stacks: 4, Modules: 1}, {Side: -1}, {Channels: 1}} {
			_, want := sp.Sample(s).(Alike).Network(size)
			for range 10 {
				a := sp.Sample(s).(Alike)
				_, err := a.Network(size)
				require.Equal(t, want == nil, err == nil, "%v at %v: %v, %v", a, size, want, err)
			}
		}
	}
}

// Stacks and modules divide DARTS's cells: each stack but the first begins with a cell that halves the size.
func TestStacksOfDARTS(t *testing.T) {
	for _, c := range []struct {
		name            string
		stacks, modules int
		channels        []int // of the cells' nodes
	}{
		{"darts@cifar10", 0, 1, []int{4, 8, 16}},
		{"darts@cifar10", 2, 3, []int{4, 4, 4, 8, 8, 8}},
		{"darts@cifar10", 1, 2, []int{4, 4}},
		{"darts", 4, 0, []int{4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 32, 32, 32, 32}},
	} {
		sp, err := Open(c.name)
		require.NoError(t, err)
		net, err := sp.Sample(philox.New(13, philox.PurposeTest, 0)).(Trainable).Network(NetworkSize{Side: 64, Channels: 4, Stacks: c.stacks, Modules: c.modules})
		require.NoError(t, err)
		side := 64
		if c.name == "darts" {
			side = 8
		}
		for i, channels := range c.channels {
			if i > 0 && channels > c.channels[i-1] {
				side /= 2
			}
			cell := net.Find(fmt.Sprintf("cell%d/concat", i))
			require.Equal(t, nn.Shape{H: side, W: side, C: 4 * channels}, net.Nodes[cell].Shape, "%s, cell %d", c.name, i)
		}
		require.Negative(t, net.Find(fmt.Sprintf("cell%d/concat", len(c.channels))))
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
