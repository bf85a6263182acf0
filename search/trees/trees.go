// Package trees keeps the shared unfolding trees of a space's architectures in a converted table, so that a comparator scores the whole
// space without building them again: they depend on the architectures alone.
package trees

import (
	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/table"
)

// prefix marks the table's sections that hold trees.
const prefix = "trees/"

// presets are those whose networks' trees are stored.
var presets = []string{"default", "released", "paper"}

// Sections builds the trees of a table's architectures for table.WriteCTT, for the networks of all presets.
func Sections(t *table.Table) ([]table.Section, error) {
	graphs := gcn.GraphSet{N: t.Len(), At: func(i int) gcn.Graph { return gcn.Graph(t.Arch(i).Graph()) }}
	prepared := gcn.NewSpace(len(t.Space().Alphabet()), graphs, nil)
	var sections []table.Section
	for _, preset := range presets {
		c, err := gcn.Preset(preset)
		if err != nil {
			return nil, err
		}
		name, data, err := prepared.Trees(c.Network)
		if err != nil {
			return nil, err
		}
		sections = append(sections, table.Section{Name: prefix + name, Data: data})
	}
	return sections, nil
}

// Stored looks up the trees a table holds, for gcn.Space.UseTrees of a space prepared for the same list of architectures.
func Stored(t *table.Table) func(name string) ([]byte, bool, error) {
	return func(name string) ([]byte, bool, error) { return t.Section(prefix + name) }
}
