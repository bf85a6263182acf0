package trained

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/labels"
	"github.com/ctnas/ctnas/search/space"
)

// A table holds what `ctnas train` measures with the same numbers, is the same from the cache and with another number
// of workers, and opens as labels.
func TestSweep(t *testing.T) {
	s := tiny(t, testdata.Images(t), "&seed=3&seeds=2&init=he-fan-out", nil)
	archs := cells(t, 5)
	last, total := 0, 0
	progress := func(done, all int) { last, total = max(last, done), all }
	text, seconds, err := Sweep(t.Context(), s.Config, archs, []int{2, 1}, progress)
	require.NoError(t, err)
	require.Equal(t, 20, total)
	require.Equal(t, 20, last)
	require.Equal(t, 6, strings.Count(string(seconds), "\n"))
	head, _, _ := strings.Cut(string(text), "\n")
	require.Equal(t, "arch,hash,trained_params,trained_madds,"+
		"validation_accuracy_run1_epochs2,test_accuracy_run1_epochs2,"+
		"validation_accuracy_run2_epochs2,test_accuracy_run2_epochs2,"+
		"validation_accuracy_run1_epochs1,test_accuracy_run1_epochs1,"+
		"validation_accuracy_run2_epochs1,test_accuracy_run2_epochs1", head)

	s.Workers, s.Cache = 1, t.TempDir()
	again, _, err := Sweep(t.Context(), s.Config, archs, []int{2, 1}, progress)
	require.NoError(t, err)
	require.Equal(t, string(text), string(again))

	path := filepath.Join(t.TempDir(), "made.csv")
	require.NoError(t, os.WriteFile(path, text, 0o644))
	for query, want := range map[string]struct{ epochs, seeds int }{"": {2, 2}, "?epochs=1&run=2": {1, 1}} {
		opened, err := labels.Open(t.Context(), "table:"+path+query, space.NASBench101{}, labels.Options{})
		require.NoError(t, err)
		view := opened.View()
		made := view.Table()
		require.Equal(t, len(archs), made.Len())
		c := s.Config
		c.Recipe.Epochs, c.Seeds = want.epochs, want.seeds
		if query != "" {
			c.Seed = 4
		}
		direct, err := Open(t.Context(), c)
		require.NoError(t, err)
		accuracies, err := direct.Label(t.Context(), archs)
		require.NoError(t, err)
		direct.Unseal()
		view.Unseal()
		for k, a := range archs {
			i, ok := made.Index(a)
			require.True(t, ok)
			require.InDelta(t, accuracies[k], view.Seen(i), 1e-12)
			judged, err := view.Judged(i)
			require.NoError(t, err)
			test, _, err := direct.Judge(a)
			require.NoError(t, err)
			require.InDelta(t, test, judged, 1e-12)
		}
		require.NoError(t, direct.Close())
		require.NoError(t, made.Close())
	}
	_, _, err = Sweep(t.Context(), s.Config, archs, []int{0}, progress)
	require.ErrorContains(t, err, "epochs 0")
}
