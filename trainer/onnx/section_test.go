package onnx

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Sections, each run by itself on what those before left, compute together what the network does, wherever it is cut.
func TestSections(t *testing.T) {
	net := every(t)
	values := random(net)
	planes, logits := pictures(net, values)
	draw := philox.New(9, philox.PurposeTest, 3)
	for _, fold := range []bool{false, true} {
		for range 3 {
			section, k := make([]int, len(net.Nodes)), 0
			needed := newGraph(net, values, Options{}).needed
			for i := range section {
				if i > 1 && needed[i] && draw.Intn(4) == 0 {
					k++
				}
				section[i] = k
			}
			got := map[string]array{"in/" + net.Nodes[0].Name: {shape: []int{3, 3, 9, 8}, f: planes}}
			for i := range k + 1 {
				text, inputs, outputs, err := EncodeSection(net, values, section, i, Options{FoldNorms: fold})
				require.NoError(t, err)
				g, err := decodeGraph(text)
				require.NoError(t, err)
				require.Len(t, g.inputs, len(inputs))
				for _, p := range inputs {
					v, there := got[p.Name]
					require.True(t, there, p.Name)
					require.Equal(t, p.Dims, v.shape[1:])
					require.Equal(t, p.Dims, g.inputs[p.Name][1:])
					g.values[p.Name] = v
				}
				var names []string
				for _, p := range outputs {
					names = append(names, p.Name)
				}
				require.NoError(t, g.compute(names...))
				for _, p := range outputs {
					require.Equal(t, p.Dims, g.values[p.Name].shape[1:])
					got["in"+p.Name[len("out"):]] = g.values[p.Name]
				}
			}
			require.InDeltaSlice(t, logits, got["in/classifier"].f, 1e-4)
		}
	}
	_, _, _, err := EncodeSection(net, values, []int{0}, 0, Options{})
	require.ErrorContains(t, err, "sections of 1 nodes")
	_, _, _, err = EncodeSection(net, values, make([]int, len(net.Nodes)), 1, Options{})
	require.ErrorContains(t, err, "reads or writes nothing")
}
