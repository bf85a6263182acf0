package fatbin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEmbedded(t *testing.T) {
	images, err := load("")
	require.NoError(t, err)
	require.Nil(t, images("absent"))
	require.Nil(t, images(""))
	require.Nil(t, images("../fatbin.go"))
	built, err := filepath.Glob("bin/*.fatbin")
	require.NoError(t, err)
	if images(strings.TrimSuffix(filepath.Base(append(built, "none")[0]), ".fatbin")) == nil {
		t.Skip("no kernels are embedded: make gpu")
	}
	for _, path := range built {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(path), ".fatbin")
		require.Equal(t, want, images(name))
		require.Equal(t, want, images(name+".cu"))
		require.Equal(t, magic, string(want[:4]), "%s is no fatbin", path)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	_, err := load(filepath.Join(dir, "absent"))
	require.ErrorContains(t, err, "CTNAS_FATBINS="+dir+"/absent: open "+dir+"/absent: no such file")
	write("notes.txt", "of no interest")
	_, err = load(dir)
	require.ErrorContains(t, err, "CTNAS_FATBINS="+dir+": there is no .fatbin file in it")
	write("conv.fatbin", magic+"mine")
	images, err := load(dir)
	require.NoError(t, err)
	write("conv.fatbin", magic+"changed too late")
	require.Equal(t, magic+"mine", string(images("conv")))
	require.Equal(t, magic+"mine", string(images("conv.cu")))
	require.Nil(t, images("absent"))
	require.Equal(t, embedded("gemm"), images("gemm"), "what the folder lacks is the program's")

	write("gemm.fatbin", "a cubin")
	_, err = load(dir)
	require.ErrorContains(t, err, "gemm.fatbin is no fatbin")
	require.NoError(t, os.Remove(filepath.Join(dir, "gemm.fatbin")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "pool.fatbin"), 0o700))
	_, err = load(dir)
	require.ErrorContains(t, err, "pool.fatbin: is a directory")
}
