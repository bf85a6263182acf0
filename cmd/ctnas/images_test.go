package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Hashes of images are kept where --manifests says, by default in the user's cache, or not at all; the outcome is the
// same.
func TestManifestsFlag(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	plainShard(t, filepath.Join(dir, "s.tar"), red, blue)
	kept := func(folder string) int {
		names, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		return len(names)
	}
	line := "train nasbench101:3:101:0 --data shards:s.tar?test=s.tar" + smallest + "--epochs 1 "
	want := in(t, dir, line+"--manifests off")
	require.Zero(t, kept(filepath.Join(cache, "ctnas", "manifests")))
	require.Equal(t, want, in(t, dir, line))
	require.Equal(t, 1, kept(filepath.Join(cache, "ctnas", "manifests")))
	require.Equal(t, want, in(t, dir, line+"--manifests mine --out run"))
	require.Equal(t, 1, kept("mine"))
	require.Equal(t, want, in(t, dir, "train --resume run --quiet --json --manifests other"))

	// What cannot be kept is told, and the training goes on.
	require.NoError(t, os.WriteFile("file", nil, 0o644))
	code, stdout, stderr := call(nil, "train", "nasbench101:3:101:0", "--data", "shards:s.tar?test=s.tar", "--recipe",
		"shapes", "--channels", "8", "--modules", "1",
		"--stacks", "1", "--resolution", "8", "--batch", "8", "--epochs", "1", "--manifests", "file", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.NotEmpty(t, stdout)
	require.Contains(t, stderr, "are not kept, they will all be read again")
}
