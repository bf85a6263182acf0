package latency

import "github.com/ctnas/ctnas/search/space"

// Model is a table that a search uses: the times of its space's parts, and the table that they are from. A nil Model
// knows nothing.
type Model struct {
	*space.Times
	Table *Table
}

// Open reads the table of a space.
func Open(path string, sp space.Space) (*Model, error) {
	t, err := Read(path)
	if err != nil {
		return nil, err
	}
	times, err := t.For(sp)
	if err != nil {
		return nil, err
	}
	return &Model{times, t}, nil
}

// Known are the times; nil where there are none.
func (m *Model) Known() *space.Times {
	if m == nil {
		return nil
	}
	return m.Times
}

// Checksum identifies the table; empty where there is none.
func (m *Model) Checksum() string {
	if m == nil {
		return ""
	}
	return m.Table.Checksum()
}
