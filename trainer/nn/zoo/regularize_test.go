package zoo

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Of the largest sub-network the last two units' residual blocks get drop paths, and variables stay.
func TestRegularize(t *testing.T) {
	o := OnceForAll{Depths: [5]int{2, 3, 4, 2, 3}, Width: 1, Dropout: 0.1}
	for i := range o.Kernels {
		o.Kernels[i], o.Ratios[i] = 3, 3
	}
	net, err := o.Build(64, 10)
	require.NoError(t, err)
	out := Regularize(net, 0.3, 0.2)
	require.Equal(t, 0.3, out.Nodes[out.Find("dropout")].Op.(nn.Dropout).P)
	rates := map[string]float64{}
	for i, node := range out.Nodes {
		require.True(t, i == 0 || len(node.In) > 0)
		for _, in := range node.In {
			require.Less(t, in, i)
		}
		if op, is := node.Op.(nn.DropPath); is {
			rates[node.Name] = math.Round(1e6*op.P) / 1e6
			require.Equal(t, node.Shape, out.Nodes[node.In[0]].Shape)
		}
	}
	// Block 1, then units of 2, 3, 4, 2 and 3 blocks: the fourth begins at block 11, the fifth at 13, which add no
	// input.
	require.Equal(t, map[string]float64{"block12/drop": math.Round(0.2*11/15*1e6) / 1e6,
		"block14/drop": math.Round(0.2*13/15*1e6) / 1e6, "block15/drop": math.Round(0.2*14/15*1e6) / 1e6}, rates)
	before, after := net.Variables(), out.Variables()
	require.Len(t, after, len(before))
	for i, v := range after {
		require.Equal(t, []any{before[i].Name, before[i].Role, before[i].Shape}, []any{v.Name, v.Role, v.Shape})
		require.Equal(t, net.Nodes[before[i].Node].Name, out.Nodes[v.Node].Name)
	}
	require.Equal(t, "classifier", out.Nodes[out.Outputs[0].Node].Name)
	require.Equal(t, net.Cost(), out.Cost())

	plain := Regularize(net, 0, 0)
	require.Len(t, plain.Nodes, len(net.Nodes))
	require.NotContains(t, nn.Fuse(plain).Stored, plain.Find("dropout"), "what never drops is nothing")
	require.Contains(t, nn.Fuse(net).Stored, net.Find("dropout"))
}
