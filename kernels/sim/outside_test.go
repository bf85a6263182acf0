package sim_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tests of the families are packages of their own. A test file inside of a family makes the go command compile the
// family, the simulator and all that stands between them once more for that test program: two such files made the tests
// compile every kernel three times.
func TestTestsStandOutsideOfPackages(t *testing.T) {
	cgo, inside := map[string]bool{}, map[string]string{}
	err := filepath.WalkDir("..", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".go" {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.Dir(name)
		for _, i := range f.Imports {
			cgo[dir] = cgo[dir] || i.Path.Value == `"C"`
		}
		if strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(f.Name.Name, "_test") {
			inside[dir] = name
		}
		return nil
	})
	require.NoError(t, err)
	require.True(t, cgo["../sim"] && cgo["../exec"], cgo)
	for dir, name := range inside {
		require.False(t, cgo[dir], "%s: want package %s_test", name, filepath.Base(dir))
	}
}
