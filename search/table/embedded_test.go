package table

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/space"
)

// shapes91 holds every cell of at most four vertices with three runs. What tables/README.md says of how well they rank
// is true.
func TestShapes91(t *testing.T) {
	require.Equal(t, []string{"shapes91"}, Embedded())
	small := space.NASBench101{Vertices: 4}
	list, err := small.All(t.Context(), nil)
	require.NoError(t, err)
	made, err := Open(t.Context(), "shapes91", Options{Space: small})
	require.NoError(t, err)
	require.Equal(t, len(list), made.Len())
	require.Equal(t, "shapes91", made.Source().File)
	for _, a := range list {
		_, ok := made.Index(a)
		require.True(t, ok, "%v", a)
	}
	accuracies := func(query string) []float64 {
		t.Helper()
		q, err := ParseQuery(query)
		require.NoError(t, err)
		v, err := made.View(q)
		require.NoError(t, err)
		require.Len(t, v.Cells(), 91)
		out := make([]float64, made.Len())
		for i := range out {
			out[i] = v.Seen(i)
		}
		return out
	}
	for _, split := range []string{"validation", "test"} {
		var runs [3][]float64
		for run, name := range []string{"1", "2", "3"} {
			runs[run] = accuracies("split=" + split + "&epochs=4&run=" + name)
			sorted := slices.Sorted(slices.Values(runs[run]))
			require.Greater(t, sorted[82]-sorted[9], 0.10, "10th to 90th percentile of run %s", name)
			for _, other := range runs[:run] {
				require.GreaterOrEqual(t, stat.KendallB(other, runs[run]), 0.6)
			}
		}
	}
	require.NotEqual(t, accuracies("run=1"), accuracies("run=mean"))
	require.Equal(t, accuracies("epochs=4"), accuracies(""))
	for _, fewer := range []string{"epochs=1", "epochs=2"} {
		require.Greater(t, stat.KendallB(accuracies(fewer), accuracies("")), 0.7, "%s rank much as 4 do", fewer)
		require.Less(t, stat.Mean(accuracies(fewer)), stat.Mean(accuracies("")))
	}
}
