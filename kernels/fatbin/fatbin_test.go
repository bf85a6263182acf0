package fatbin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImage(t *testing.T) {
	require.Nil(t, Image("absent"))
	require.Nil(t, Image(""))
	require.Nil(t, Image("../fatbin.go"))
	built, err := filepath.Glob("bin/*.fatbin")
	require.NoError(t, err)
	if Image(strings.TrimSuffix(filepath.Base(append(built, "none")[0]), ".fatbin")) == nil {
		t.Skip("no kernels are embedded: make gpu")
	}
	for _, path := range built {
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(path), ".fatbin")
		require.Equal(t, want, Image(name))
		require.Equal(t, want, Image(name+".cu"))
		require.Equal(t, "\x50\xed\x55\xba", string(want[:4]), "%s is no fatbin", path)
	}
}
