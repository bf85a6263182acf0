package space

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Strict fairness, by count: in every update each operation of each slot is in exactly one path, of the slots that the
// drawn topology has; and a path binds the variables of its own operations in their own slots.
func TestStrictFairnessOfCells(t *testing.T) {
	sp := NASBench101{5}
	size := NetworkSize{Side: 8, Channels: 8, Stacks: 1, Modules: 1, Classes: 2}
	shared, err := sp.Supernet(size)
	require.NoError(t, err)
	for update := range 50 {
		paths := sp.StrictPaths(philox.New(3, philox.PurposePath, uint32(update)))
		require.Len(t, paths, 3)
		times := map[string]int{} // of weights of operations
		for _, text := range paths {
			p, err := sp.WrittenPath(text, size)
			require.NoError(t, err)
			require.Equal(t, text, p.Name)
			for _, b := range p.Bindings {
				name := shared.Variables[b.Shared].Name
				if strings.Contains(name, "-bn-relu.") && strings.HasSuffix(name, "conv.weight") {
					times[name]++
				}
			}
		}
		first, err := writtenCell(paths[0])
		require.NoError(t, err)
		require.Len(t, times, 2*(first.n-2), "both convolutions of each slot")
		for name, n := range times {
			require.Equal(t, 1, n, "%s in %v", name, paths)
		}
	}
	_, err = sp.WrittenPath("nasbench101:5:1000000001:000", size)
	require.ErrorContains(t, err, "not in the supernet")
	_, err = sp.WrittenPath("nasbench101:best", size)
	require.ErrorContains(t, err, "not in the supernet")
	_, err = NASBench101{4}.WrittenPath("nasbench101:5:1000100101:000", size)
	require.EqualError(t, err, "nasbench101:5:1000100101:000 is not in the supernet of nasbench101-v4: it has 5 "+
		"vertices, want at most 4")
	// A canonical text is the path of its cell.
	c := sp.Sample(philox.New(1, philox.PurposeTest, 0))
	a, err := sp.Path(c, size)
	require.NoError(t, err)
	b, err := sp.WrittenPath(c.String(), size)
	require.NoError(t, err)
	require.Equal(t, a, b)
}
