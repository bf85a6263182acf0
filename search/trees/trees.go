// Package trees keeps the shared unfolding trees of a space's architectures in a converted table, so that a comparator
// scores the whole space without building them again: they depend on the architectures alone.
package trees

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// prefix marks the table's sections that hold trees.
const prefix = "trees/"

// presets are those whose networks' trees are stored.
var presets = []string{"default", "released", "paper"}

// Sections builds the trees of a table's architectures for table.WriteCTT, for the networks of all presets; none for
// other spaces than NAS-Bench-101, whose architectures share less: there building them takes no longer than reading.
// ctx ends it.
func Sections(ctx context.Context, t *table.Table) ([]table.Section, error) {
	if _, cells := t.Space().(space.NASBench101); !cells {
		return nil, nil
	}
	graphs := gcn.GraphSet{N: t.Len(), At: func(i int) gcn.Graph { return gcn.Graph(t.Arch(i).Graph()) }}
	prepared := gcn.NewSpace(len(t.Space().Alphabet()), graphs, nil)
	var sections []table.Section
	for _, preset := range presets {
		c, err := gcn.Preset(preset)
		if err != nil {
			return nil, err
		}
		name, data, err := prepared.Trees(ctx, c.Network)
		if err != nil {
			return nil, err
		}
		sections = append(sections, table.Section{Name: prefix + name, Data: data})
	}
	return sections, nil
}

// Verify compares the trees that a table holds with those of its architectures, which are built for it.
func Verify(ctx context.Context, t *table.Table) error {
	if len(t.Sections()) == 0 {
		return nil
	}
	built, err := Sections(ctx, t)
	if err != nil {
		return err
	}
	for _, name := range t.Sections() {
		stored, _, err := t.Section(name)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(built, func(s table.Section) bool { return s.Name == name })
		switch {
		case at < 0:
			return fmt.Errorf("%s: section %s: unknown to this program", t.Path(), name)
		case !bytes.Equal(stored, built[at].Data):
			return fmt.Errorf("%s: section %s: not the trees of the table's architectures: convert the source again",
				t.Path(), name)
		}
	}
	return nil
}

// Stored looks up the trees a table holds, for gcn.Space.UseTrees of a space prepared for the same list of
// architectures.
func Stored(t *table.Table) func(name string) ([]byte, bool, error) {
	return func(name string) ([]byte, bool, error) { return t.Section(prefix + name) }
}
