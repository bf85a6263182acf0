// Package trees keeps the shared unfolding trees of a space's architectures in a converted table, so that a comparator scores the whole
// space without building them again: they depend on the architectures alone.
package trees

import (
	"fmt"
	"strings"

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

// Stored returns a function that hands the trees a table holds, if any, to a space prepared for the same list of architectures.
func Stored(t *table.Table) func(s *gcn.Space) error {
	return func(s *gcn.Space) error {
		for _, section := range t.Sections() {
			name, ok := strings.CutPrefix(section, prefix)
			if !ok {
				continue
			}
			data, _, err := t.Section(section)
			if err != nil {
				return err
			}
			if err := s.SetTrees(name, data); err != nil {
				return fmt.Errorf("%s: %w", t.Path(), err)
			}
		}
		return nil
	}
}
