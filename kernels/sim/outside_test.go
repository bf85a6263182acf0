package sim_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tests of the families are packages of their own. A test file inside of a family makes the go command compile the
// family, the simulator and all that stands between them once more for that test program: two such files made the tests
// compile every kernel three times.
func TestTestsStandOutsideOfPackages(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	cgo, inside := map[string]bool{}, map[string]string{}
	for _, name := range files {
		dir := filepath.Dir(name)
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		require.NoError(t, err)
		switch {
		case strings.HasSuffix(name, "_test.go"):
			if !strings.HasSuffix(f.Name.Name, "_test") {
				inside[dir] = name
			}
		case strings.Contains(string(text), "import \"C\""):
			cgo[dir] = true
		}
	}
	require.NotEmpty(t, cgo)
	for dir, name := range inside {
		require.False(t, cgo[dir], "%s: want package %s_test", name, filepath.Base(dir))
	}
}
