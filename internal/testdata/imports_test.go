package testdata_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

const module = "github.com/ctnas/ctnas/"

// layers are the floors of the house, from the top: a package imports packages of lower floors and of its own folder,
// never of a higher floor or of a room beside it. internal is the ground, which all may stand on.
var layers = [][]string{{"cmd"}, {"search"}, {"gcn", "trainer"}, {"kernels"}, {"cuda"}, {"internal"}}

// floor is the index of an import path's layer, and its room; the room is empty for paths of other modules.
func floor(path string) (int, string) {
	inside, found := strings.CutPrefix(path, module)
	if !found {
		return 0, ""
	}
	room, _, _ := strings.Cut(inside, "/")
	return slices.IndexFunc(layers, func(rooms []string) bool { return slices.Contains(rooms, room) }), room
}

// allowed tells whether a file in a folder of the module may import a path.
func allowed(folder, path string) bool {
	switch from, room := floor(module + folder); {
	case path == "C":
		return room == "kernels" || room == "cuda" || folder == "trainer/data"
	case strings.HasPrefix(path, "gorgonia.org/cu"):
		return room == "cuda"
	case strings.HasPrefix(path, "github.com/nats-io/"):
		return folder == "internal/bus"
	default:
		to, other := floor(path)
		return other == "" || other == room || to > from
	}
}

// Imports go down docs/architecture.md's list and never up, and cgo, the driver's bindings and NATS stay where it says.
// Tests may look up: those of trainer and gcn take architectures from search.
func TestImportsGoDown(t *testing.T) {
	root := testdata.Root()
	files := map[string]int{} // of each room
	for _, room := range slices.Concat(layers...) {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, room),
			func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
					return err
				}
				file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
				if err != nil {
					return err
				}
				folder, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				files[room]++
				for _, i := range file.Imports {
					to, err := strconv.Unquote(i.Path.Value)
					require.NoError(t, err)
					require.True(t, allowed(filepath.ToSlash(folder), to), "%s imports %s", path, to)
				}
				return nil
			}))
	}
	for _, room := range slices.Concat(layers...) {
		require.Positive(t, files[room], room)
	}
	// No folder with Go files stands outside of the layers.
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	for _, e := range entries {
		if here, _ := filepath.Glob(filepath.Join(root, e.Name(), "*.go")); e.IsDir() && len(here) > 0 {
			require.Contains(t, slices.Concat(layers...), e.Name())
		}
	}
	// What the rule is about.
	for _, c := range []struct {
		folder, path string
		want         bool
	}{
		{"cmd/ctnas", module + "search/run", true}, {"search/run", module + "gcn", true},
		{"gcn", module + "gcn/x", true},
		{"kernels/pool", module + "trainer", false}, {"gcn", module + "trainer", false},
		{"trainer", module + "gcn", false},
		{"internal/stat", module + "kernels/exec", false}, {"cuda", module + "internal/stat", true},
		{"search", "C", false}, {"trainer/data", "C", true}, {"kernels/exec", "gorgonia.org/cu", false},
		{"cuda", "gorgonia.org/cu", true}, {"internal/bus", "github.com/nats-io/nats.go", true},
		{"search/farm", "github.com/nats-io/nats.go", false}, {"search", "gonum.org/v1/gonum/stat", true},
	} {
		require.Equal(t, c.want, allowed(c.folder, c.path), "%s imports %s", c.folder, c.path)
	}
}
