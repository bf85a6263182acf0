// An outside package: tables import the spaces.
package space_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// What is promising without any label is better than what is large, by the accuracies of all cells of NAS-Bench-101:
// the figures of docs/searching.md.
func TestPromiseRanksAllCells(t *testing.T) {
	if !testdata.All() {
		t.Skip("reads the whole table: CTNAS_TEST=all")
	}
	all, err := table.Open(t.Context(), testdata.Path(t, "nasbench101/nb101_run0.csv.gz"), table.Options{})
	require.NoError(t, err)
	view, err := all.View(table.Query{})
	require.NoError(t, err)
	promise, size, accuracy := make([]float64, all.Len()), make([]float64, all.Len()), make([]float64, all.Len())
	for i := range promise {
		a := all.Arch(i)
		promise[i], size[i], accuracy[i] = space.Promise(all.Space(), a), float64(a.Cost().Params), view.Seen(i)
	}
	of, large := stat.KendallB(promise, accuracy), stat.KendallB(size, accuracy)
	t.Logf("%d cells, tau-b with the accuracy: promise %.3f, parameters %.3f", len(promise), of, large)
	require.Greater(t, of, large+0.2)
}
