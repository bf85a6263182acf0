package compare

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzKeptRun: any file of the cache is a run or an error, and a run that was read is kept as it was read.
func FuzzKeptRun(f *testing.F) {
	for _, r := range someRuns() {
		text, err := json.Marshal(entry{"key", r})
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"key":"key","run":{"tau_b":1e999}}`))
	f.Add([]byte(`{"key":"other"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "run.json")
		require.NoError(t, os.WriteFile(path, text, 0o644))
		run, found, err := load(path, "key")
		if err != nil {
			require.ErrorContains(t, err, path)
			return
		}
		require.True(t, found)
		again := filepath.Join(t.TempDir(), "again.json")
		require.NoError(t, keep(again, "key", run))
		back, _, err := load(again, "key")
		require.NoError(t, err)
		require.Equal(t, run, back)
	})
}
