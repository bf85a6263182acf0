package ledger_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// What a view leaves out, and what its table does not list, has no label, no judgement and no rank: a search that
// samples it goes on.
func TestTableKnowsNothingOfWhatItsViewLeavesOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.csv")
	text :=
		"arch,validation_accuracy,test_accuracy\nnasbench101:3:101:0,0.5,0.6\nnasbench101:best,0.9,\nnasbench101:resnet,0.7,0.6\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	opened, err := labels.Open(t.Context(), "table:"+path+"?missing=drop", space.NASBench101{}, labels.Options{})
	require.NoError(t, err)
	defer opened.Close()
	view, tab := opened.View(), opened.View().Table()
	source := ledger.FromTable(view)
	source.Unseal()
	require.Equal(t, 2, source.Total())
	for text, known := range map[string]bool{"nasbench101:3:101:0": true, "nasbench101:resnet": true,
		"nasbench101:best": false, "nasbench101:3:101:1": false} {
		a, err := tab.Space().Parse(text)
		require.NoError(t, err)
		require.Equal(t, known, source.Has(a), text)
		_, rank, err := source.Judge(a)
		percentile, missing := source.Percentile(a)
		if !known {
			require.ErrorIs(t, err, ledger.ErrNoLabel)
			require.ErrorIs(t, missing, ledger.ErrNoLabel)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, missing)
		require.Equal(t, 1, rank, "none of two equal ones is better")
		require.Equal(t, 75.0, percentile, "they share the ranks 1 and 2")
	}
}
