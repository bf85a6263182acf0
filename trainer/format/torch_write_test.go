package format

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is written is read back, in its order; numbers begin where memory can be mapped.
func TestWriteTorch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.pth")
	want := []Tensor{{"z", []int{2, 3}, []float32{1, 2, 3, 4, 5, -6}}, {"a.b", []int{}, []float32{7}},
		{"empty", []int{0, 4}, []float32{}}, {"日本", []int{3, 1, 2}, []float32{1, 2, 3, 4, 5, 6}}}
	require.NoError(t, WriteTorch(path, want))
	got, metadata, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Nil(t, metadata)
	z, err := zip.OpenReader(path)
	require.NoError(t, err)
	defer z.Close()
	require.Len(t, z.File, 3+len(want))
	for _, f := range z.File {
		from, err := f.DataOffset()
		require.NoError(t, err)
		require.Zero(t, from%64, f.Name)
		require.Equal(t, zip.Store, f.Method)
	}
	again := filepath.Join(dir, "again.pth")
	require.NoError(t, WriteTorch(again, want))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	second, err := os.ReadFile(again)
	require.NoError(t, err)
	require.Equal(t, first, second)

	for _, bad := range [][]Tensor{{{"a", []int{2}, make([]float32, 3)}},
		{{"a", nil, make([]float32, 1)}, {"a", nil, make([]float32, 1)}}} {
		require.ErrorContains(t, WriteTorch(again, bad), `tensor "a"`)
	}
	now, err := os.ReadFile(again)
	require.NoError(t, err)
	require.Equal(t, first, now, "what could not be written changed the file")
}
