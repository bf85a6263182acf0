package trees

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

func TestStoredTreesAreThoseThatWouldBeBuilt(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("arch,accuracy\n")
	seen := map[space.Arch]bool{}
	s := philox.New(1, philox.PurposeTest, 0)
	for len(seen) < 300 {
		if a := (space.NASBench101{}).Sample(s); !seen[a] {
			seen[a] = true
			fmt.Fprintf(&csv, "%s,0.9\n", a)
		}
	}
	dir := t.TempDir()
	source, converted := filepath.Join(dir, "cells.csv"), filepath.Join(dir, "cells.ctt")
	require.NoError(t, os.WriteFile(source, []byte(csv.String()), 0o644))
	plain, err := table.Open(t.Context(), source, table.Options{})
	require.NoError(t, err)
	defer func() { _ = plain.Close() }()
	sections, err := Sections(t.Context(), plain)
	require.NoError(t, err)
	require.NoError(t, table.WriteCTT(converted, plain, sections...))

	stored, err := table.Open(t.Context(), converted, table.Options{})
	require.NoError(t, err)
	defer func() { _ = stored.Close() }()
	graphs := func(t *table.Table) gcn.GraphSet {
		return gcn.GraphSet{N: t.Len(), At: func(i int) gcn.Graph { return gcn.Graph(t.Arch(i).Graph()) }}
	}
	// A prepared space without graphs to build trees of has those it was given.
	given := gcn.NewSpace(5, gcn.GraphSet{N: stored.Len(), At: func(int) gcn.Graph { panic("built again") }}, nil)
	given.UseTrees(Stored(stored))
	built := gcn.NewSpace(5, graphs(plain), nil)
	for _, preset := range presets {
		c, err := gcn.Preset(preset)
		require.NoError(t, err)
		wantName, want, err := built.Trees(t.Context(), c.Network)
		require.NoError(t, err)
		name, data, err := given.Trees(t.Context(), c.Network)
		require.NoError(t, err)
		require.Equal(t, wantName, name)
		require.Equal(t, want, data)
	}
	_, found, err := Stored(plain)("gated")
	require.NoError(t, err)
	require.False(t, found, "a table without trees is no error")

	require.NoError(t, Verify(t.Context(), plain))
	require.NoError(t, Verify(t.Context(), stored))
	// sound, but other trees
	sections[1].Data = slices.Concat(sections[1].Data[:len(sections[1].Data)-4], make([]byte, 4))
	require.NoError(t, table.WriteCTT(converted, plain, sections...))
	others, err := table.Open(t.Context(), converted, table.Options{})
	require.NoError(t, err)
	defer func() { _ = others.Close() }()
	require.NoError(t, others.Verify(t.Context()))
	require.ErrorContains(t, Verify(t.Context(), others),
		"section "+sections[1].Name+": not the trees of the table's architectures")

	other := gcn.NewSpace(5, gcn.GraphSet{N: 7}, nil)
	other.UseTrees(Stored(stored))
	c, err := gcn.Preset("default")
	require.NoError(t, err)
	_, _, err = other.Trees(t.Context(), c.Network)
	require.Error(t, err, "trees of another list are refused")
}
