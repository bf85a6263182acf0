package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// Names in files neither command the terminal nor read as others; in JSON they keep their meaning.
func TestHiddenCharactersAreShown(t *testing.T) {
	const evil = "a\u202eb\u200bc"
	seen := func(text string) string {
		t.Helper()
		for _, r := range text {
			require.True(t, r == '\n' || r == '\t' || unicode.IsPrint(r), "%U", r)
		}
		return text
	}
	dir := filepath.Join(t.TempDir(), "run\x1b[2J")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	code, _, stderr := call(nil, "report", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, seen(stderr), `run\u001b[2J`)

	table := filepath.Join(dir, evil+".csv")
	require.NoError(t, os.WriteFile(table, []byte("arch,accuracy\nnasbench101:2:1:,0.5\n"), 0o644))
	code, stdout, stderr := call(nil, "table", "info", table)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, seen(stdout), `a\u202eb\u200bc.csv`)
	seen(stderr)
	code, stdout, stderr = call(nil, "table", "info", table, "--json")
	require.Equal(t, exitOK, code, stderr)
	var info struct{ File string }
	require.NoError(t, json.Unmarshal([]byte(seen(stdout)), &info))
	require.Equal(t, table, info.File)
}
