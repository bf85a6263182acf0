package space

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

// The networks that are built layer by layer at a space's own size take what the spaces count.
func TestNetworksTakeWhatIsCounted(t *testing.T) {
	for _, name := range []string{"nasbench101", "nasbench201", "mobilenetv3", "mobilenetv3@w1.2,r160-224",
		"mobilenetv3@w1.0,r132", "darts", "darts@cifar10", "spos", "fairnas"} {
		sp, err := Open(name)
		require.NoError(t, err)
		s := philox.New(11, philox.PurposeTest, 0)
		for range 20 {
			a := sp.Sample(s).(Trainable)
			net, err := a.Network(NetworkSize{})
			require.NoError(t, err)
			require.Equal(t, nn.Cost(a.Cost()), net.Cost(), a)
		}
	}
}

// Networks that are said to be alike can all be built where one can, also at the smallest sizes.
func TestNetworksAreAlike(t *testing.T) {
	for _, name := range []string{"nasbench201", "mobilenetv3", "darts", "darts@cifar10", "spos", "fairnas@w0.5"} {
		sp, err := Open(name)
		require.NoError(t, err)
		s := philox.New(12, philox.PurposeTest, 0)
		for _, size := range []NetworkSize{{Side: 1, Channels: 2, Modules: 1}, {Side: 8, Channels: 3, Stacks: 1},
			{Side: 33, Channels: 5, Stacks: 4, Modules: 1}, {Side: -1}, {Channels: 1}} {
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
		net, err := sp.Sample(philox.New(13, philox.PurposeTest, 0)).(Trainable).Network(NetworkSize{Side: 64,
			Channels: 4, Stacks: c.stacks, Modules: c.modules})
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
			require.Equal(t, nn.Shape{H: side, W: side, C: 4 * channels}, net.Nodes[cell].Shape, "%s, cell %d",
				c.name, i)
		}
		require.Negative(t, net.Find(fmt.Sprintf("cell%d/concat", len(c.channels))))
	}
}

// Cells that do not read one of their inputs have the layer behind it all the same, as in the DARTS code.
func TestNetworksWithUnreadInputs(t *testing.T) {
	sp, err := Open("darts@cifar10")
	require.NoError(t, err)
	cell := func(op string, from int) string {
		return fmt.Sprintf("[('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', "+
			"%[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d), ('%[1]s', %[2]d)]", op, from)
	}
	for _, op := range []string{"none", "skip_connect", "max_pool_3x3", "dil_conv_5x5"} {
		for from := range 2 {
			a, err := sp.Parse(fmt.Sprintf("darts:Genotype(normal=%s, normal_concat=range(2, 6), reduce=%s, "+
				"reduce_concat=range(2, 6))", cell(op, from), cell(op, 1-from)))
			require.NoError(t, err)
			net, err := a.(Trainable).Network(NetworkSize{})
			require.NoError(t, err)
			require.Equal(t, nn.Cost(a.Cost()), net.Cost(), a)
		}
	}
}

// What a network of another size takes is counted without building it.
func TestNetworksOfOtherSizesTakeWhatIsCounted(t *testing.T) {
	s := philox.New(17, philox.PurposeTest, 0)
	for _, name := range []string{"nasbench101", "nasbench101-v5", "mobilenetv3@w1.2,r160-224",
		"mobilenetv3@w0.75,r32,s16", "darts", "darts@cifar10", "spos@w0.25,r32,s8", "fairnas@w0.5,r32,s4"} {
		sp, err := Open(name)
		require.NoError(t, err)
		built := 0
		for range 30 {
			size := NetworkSize{Side: 1 + s.Intn(70), Classes: 2 + s.Intn(20), Channels: 1 + s.Intn(20),
				Stacks: s.Intn(4), Modules: s.Intn(3)}
			a := sp.Sample(s).(Trainable)
			net, err := a.Network(size)
			if err != nil {
				continue
			}
			built++
			require.Equal(t, nn.Cost(a.CostAt(size)), net.Cost(), "%v at %v", a, size)
			require.Equal(t, a.CostAt(size), Limits{Size: size}.Cost(a))
		}
		require.Greater(t, built, 10, name)
		a := sp.Sample(s).(Trainable)
		require.Equal(t, a.Cost(), a.CostAt(NetworkSize{}))
		require.Equal(t, a.Cost(), Limits{}.Cost(a))
		require.Equal(t, Cost{Unknown, Unknown}, a.CostAt(NetworkSize{Side: -1}))
	}
	require.Equal(t, "16x16 images, 10 classes, 8 channels", NetworkSize{Side: 16, Classes: 10, Channels: 8}.String())
}

// A limit looks at the network that is counted, and draws within it.
func TestLimitsOnNetworksOfOtherSizes(t *testing.T) {
	s := philox.New(18, philox.PurposeTest, 0)
	size := NetworkSize{Side: 33, Classes: 10}
	sp, err := Open("mobilenetv3")
	require.NoError(t, err)
	var small []int64
	for range 100 {
		small = append(small, sp.Sample(s).(Trainable).CostAt(size).MAdds)
	}
	l := Limits{MAdds: slices.Min(small), Size: size}
	draw, err := Sampler(sp, l)
	require.NoError(t, err)
	for range 100 {
		a := draw(s)
		require.LessOrEqual(t, a.(Trainable).CostAt(size).MAdds, l.MAdds)
		require.Greater(t, a.Cost().MAdds, l.MAdds, "the space's own network is larger")
	}
	_, err = Sampler(sp, Limits{MAdds: l.MAdds})
	require.ErrorContains(t, err, "loosen --max-madds")
}

// What is not known is above every limit, and the cheapest of nothing.
func TestUnknownCosts(t *testing.T) {
	sp, err := ParseFile("x.yaml",
		[]byte("space: unpriced\nblocks:\n  - {name: a, operations: [u, v]}\n  - {name: b, operations: [u, v]}\n"))
	require.NoError(t, err)
	a, err := sp.Parse("unpriced:u|v")
	require.NoError(t, err)
	require.Equal(t, Cost{Unknown, Unknown}, a.Cost())
	require.Nil(t, Known(a.Cost().MAdds))
	for _, l := range []Limits{{MAdds: 1 << 60}, {Params: 1 << 60}} {
		require.False(t, l.Allow(a))
		_, err := Sampler(sp, l)
		require.ErrorContains(t, err, "is not known")
	}
	FileOf(sp).UseCosts(func(Arch) (Cost, bool) { return Cost{MAdds: 5, Params: Unknown}, true })
	require.True(t, Limits{MAdds: 5}.Allow(a))
	require.False(t, Limits{MAdds: 4}.Allow(a))
	require.False(t, Limits{MAdds: 5, Params: 5}.Allow(a))
	FileOf(sp).UseCosts(func(Arch) (Cost, bool) { return Cost{MAdds: 5, Params: 7}, true })
	require.Equal(t, Cost{5, 7}, a.Cost())
	value, known := Limits{}.CostOf(CostParams, a)
	require.True(t, known)
	require.EqualValues(t, 7, value)
	_, known = Limits{}.CostOf(CostLatency, a)
	require.False(t, known)
}

// A text names an architecture of a space or a network of the zoo; what names neither is told both.
func TestNetworksByText(t *testing.T) {
	t.Parallel()
	small := NetworkSize{Side: 32, Classes: 10, Channels: 8, Stacks: 1, Modules: 1}
	for _, text := range []string{"nasbench101:resnet", "mnasnet_b1"} {
		net, err := Network(text, small)
		require.NoError(t, err, text)
		require.Equal(t, 10, net.Nodes[net.Outputs[0].Node].Shape.C, text)
	}
	for text, want := range map[string]string{
		"lenet": "unknown network", "mobilenetv3:1": "want mobilenetv3:<depths>",
		"elsewhere:1": "networks are those of the zoo",
		"file:x":      "want file:PATH",
	} {
		_, err := Network(text, small)
		require.ErrorContains(t, err, want, text)
	}
}
