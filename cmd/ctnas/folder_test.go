package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
)

// What is named is a training's folder, or an architecture, whose text may be longer than a file's name can be.
func TestFolderOrArchitecture(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "weights.safetensors")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))
	for _, name := range []string{"mobilenetv3_large_1.0", strings.Repeat("darts:Genotype(", 100), plain, dir} {
		require.True(t, isNoFolder((&trainSettings{}).load(name)), name)
	}
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, search.ConfigName)))
	err := (&trainSettings{}).load(dir)
	require.ErrorContains(t, err, "is a device, want a regular file")
	require.False(t, isNoFolder(err))
}
