package zoo_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// What an independent counter, which reads layer lists, finds for the same networks.
var counted = map[string]nn.Cost{
	"mobilenetv2_1.4":       {MAdds: 582195824, Params: 6108776},
	"mobilenetv3_large_1.0": {MAdds: 216589760, Params: 5483032},
}

func TestCosts(t *testing.T) {
	require.Len(t, counted, len(zoo.Names()))
	for _, name := range zoo.Names() {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		require.Equal(t, counted[name], net.Cost(), name)
		require.Equal(t, name, net.Name)
	}
	_, err := zoo.Open("lenet")
	require.EqualError(t, err, `unknown network "lenet"; known: mobilenetv2_1.4, mobilenetv3_large_1.0`)
}

// MobileNetV3-Large's squeeze-and-excitation takes 1,507,200 multiply-accumulates, and its batch norms are those of timm.
func TestMobileNetV3Parts(t *testing.T) {
	net, err := zoo.MobileNetV3Large(224, 1000)
	require.NoError(t, err)
	var squeeze int64
	for block := range 15 {
		for _, part := range []string{"reduce", "expand"} {
			if i := net.Find(fmt.Sprintf("block%d/se/%s", block+1, part)); i >= 0 {
				squeeze += net.NodeCost(i).MAdds
			}
		}
	}
	require.EqualValues(t, 1507200, squeeze)
	require.Equal(t, nn.BatchNorm{Eps: 1e-3, Momentum: 0.01}, net.Nodes[net.Find("stem/bn")].Op)
	require.Equal(t, nn.Shape{H: 7, W: 7, C: 960}, net.Nodes[net.Find("head/act")].Shape)
}

// Other sizes build as well, and parameters do not depend on them.
func TestSizes(t *testing.T) {
	big, err := zoo.MobileNetV2(1.4, 224, 1000)
	require.NoError(t, err)
	for _, side := range []int{32, 97, 160} {
		net, err := zoo.MobileNetV2(1.4, side, 1000)
		require.NoError(t, err)
		require.Equal(t, big.Cost().Params, net.Cost().Params)
		require.Less(t, net.Cost().MAdds, big.Cost().MAdds)
	}
	_, err = zoo.MobileNetV2(1, 0, 10)
	require.EqualError(t, err, "mobilenetv2: input: input of 0x0x3")
	// Widths of the published 1.0 network: 300.8M multiply-accumulates and 3.50M parameters.
	one, err := zoo.MobileNetV2(1, 224, 1000)
	require.NoError(t, err)
	require.Equal(t, nn.Cost{MAdds: 300774272, Params: 3504872}, one.Cost())
}
