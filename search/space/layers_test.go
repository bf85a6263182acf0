package space

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// drawnBlock is a block of MobileNetV3.
func drawnBlock(stage, kernel, expansion, channels, stride, side int) Layer {
	return Layer{strconv.Itoa(stage), "block", kernelKind(kernel), kernel, float64(expansion), channels, stride, side}
}

// The layers of a network are those that once-for-all's published tables have: channels by unit, sides that are halved
// by the first block of a unit.
func TestLayersOfMobileNetV3(t *testing.T) {
	sp := open(t, "mobilenetv3")
	a, err := sp.Parse("mobilenetv3:2,3,4,2,2:7,3,0,0,5,3,3,0,7,7,7,7,3,5,0,0,5,3,0,0:" +
		"6,3,0,0,4,4,6,0,3,4,6,6,6,4,0,0,3,6,0,0@w1.0,r224")
	require.NoError(t, err)
	layers := a.(Layered).Layers()
	require.Len(t, layers, 1+13+1)
	require.Equal(t, Layer{Name: "stem", Kernel: 3, Channels: 16, Stride: 2, Side: 112}, layers[0])
	require.Equal(t, drawnBlock(1, 7, 6, 24, 2, 56), layers[1])
	require.Equal(t, drawnBlock(1, 3, 3, 24, 1, 56), layers[2])
	require.Equal(t, drawnBlock(2, 5, 4, 40, 2, 28), layers[3])
	require.Equal(t, drawnBlock(4, 3, 6, 112, 1, 14), layers[10])
	require.Equal(t, drawnBlock(5, 3, 6, 160, 1, 7), layers[13])
	require.Equal(t, "head", layers[14].Name)
	require.Equal(t, 1000, layers[14].Channels)
}

// Whatever the network: kernels and expansions are the text's, the channels of a layer are never less than 1, strides
// multiply to what the sides say.
func TestLayersOfAnyNetwork(t *testing.T) {
	stream := philox.New(7, philox.PurposeSample, 0)
	for range 4 {
		m := open(t, "mobilenetv3@w1.2,r160-224").Sample(stream).(MobileNet)
		layers := m.Layers()
		var kernels, expansions []int
		side := m.Resolution()
		for _, l := range layers[:len(layers)-1] {
			side = (side + l.Stride - 1) / l.Stride
			require.Equal(t, side, l.Side)
			if l.Stage != "" {
				kernels, expansions = append(kernels, l.Kernel), append(expansions, int(l.Expansion))
			}
		}
		require.Equal(t, withoutZeros(m.Kernels()), kernels)
		require.Equal(t, withoutZeros(m.Expansions()), expansions)
	}
	for _, name := range []string{"spos", "fairnas@w0.5,r64"} {
		c := open(t, name).Sample(stream).(BlockChain)
		layers := c.Layers()
		require.Len(t, layers, len(c.Blocks())+2, name)
		for i, block := range c.Blocks() {
			require.Equal(t, c.of.layers()[i][block].Name, layers[i+1].Name)
			require.NotZero(t, layers[i+1].Channels)
		}
	}
	cell := open(t, "file:../../docs/examples/nb201-like.yaml").Sample(stream).(FileArch)
	require.Nil(t, cell.Layers())
	chain := open(t, "file:../../docs/examples/blocks.yaml")
	a, err := chain.Parse("blocks:conv3x3|k5e6+k3e3|k3e3|skip")
	require.NoError(t, err)
	require.Equal(t, []Layer{{Name: "input"}, {Stage: "stem", Name: "conv3x3", Kind: "conv3x3"},
		{Stage: "stage1", Name: "k5e6", Kind: "k5e6"}, {Stage: "stage1", Name: "k3e3", Kind: "k3e3"},
		{Stage: "stage2", Name: "k3e3", Kind: "k3e3"}, {Name: "output"}}, a.(Layered).Layers())
	require.Nil(t, open(t, "file:../../docs/examples/nb201-like.yaml").(LayeredSpace).Kinds())
	require.Equal(t, []string{"conv3x3", "conv5x5", "k3e3", "k3e6", "k5e3", "k5e6", "se", "conv1x1"},
		chain.(LayeredSpace).Kinds())
	require.Equal(t, []string{"kernel 3", "kernel 5", "kernel 7"}, open(t, "fairnas").(LayeredSpace).Kinds())
	require.Equal(t, []string{"shuffle 3", "shuffle 5", "shuffle 7", "xception"},
		open(t, "spos").(LayeredSpace).Kinds())
}

func withoutZeros(v []int) (out []int) {
	for _, x := range v {
		if x != 0 {
			out = append(out, x)
		}
	}
	return out
}
