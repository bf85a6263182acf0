package zoo

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// Layers that are said to be alike have blocks of the same operations, and no others have.
func TestLikeLayers(t *testing.T) {
	for _, c := range []BlockChain{SPOS(ChainSize{Width: 1}), FairNAS(ChainSize{Width: 1})} {
		net, err := c.All(224, 10, false, nn.Add{})
		require.NoError(t, err)
		layers := make([]string, len(c.Layers))
		for _, node := range net.Nodes {
			var layer int
			if _, err := fmt.Sscanf(node.Name, "layer%d/", &layer); err == nil {
				layers[layer-1] += fmt.Sprint(node.Op, node.Shape, "; ")
			}
		}
		first := map[string]int{}
		for i, layer := range layers {
			if _, met := first[layer]; !met {
				first[layer] = i
			}
			require.Equal(t, first[layer], c.Like[i], "layer %d of %s", i+1, c.Name)
		}
	}
}

// A block of SPOS hands on the even channels of what it reads, before those that it makes of the odd ones.
func TestShuffleBlocksHandOnTheEvenChannels(t *testing.T) {
	c := SPOS(ChainSize{Width: 0.25, Whole: 3})
	blocks := make([]int, len(c.Layers))
	blocks[1] = 3
	net, err := c.Network(blocks, 8, 3)
	require.NoError(t, err)
	s := philox.New(1, philox.PurposeTest, 0)
	images := make([]float64, net.Input().Len())
	for i := range images {
		images[i] = s.NormFloat64()
	}
	p := reference.New(net, net.Initialize(nn.HeFanOut, 1)).Forward(images, 1, reference.Mode{})
	before, after := net.Find("layer1/shuffle3/concat"), net.Find("layer2/xception/concat")
	channels := net.Nodes[before].Shape.C
	for i, x := range p.Outputs[before] {
		if k := i % channels; k%2 == 0 {
			require.Equal(t, x, p.Outputs[after][i-k+k/2])
		}
	}
}

// Blocks that there are not, and too few of them, are refused.
func TestBlockChainErrors(t *testing.T) {
	c := FairNAS(ChainSize{Width: 0.5, Whole: 2})
	for _, blocks := range [][]int{nil, make([]int, 18), append(make([]int, 18), 6), append(make([]int, 18), -1)} {
		_, err := c.Network(blocks, 32, 3)
		require.ErrorContains(t, err, "want a number in each of 19 layers")
		_, err = c.Path(blocks, 32, 3)
		require.ErrorContains(t, err, "fairnas: layer")
	}
	_, err := c.Supernet(0)
	require.ErrorContains(t, err, "to 0 outputs")
}
