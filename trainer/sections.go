package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/exec"
)

// Sections is a model's evaluation in pieces, each of which can be timed where it stands: with what comes before still
// in the caches, and the rest of the network not.
type Sections struct{ programs []*exec.Program }

// Sections records the evaluation once more, in pieces: section[i] is that of node i, from 0 on without gaps, in the
// order in which nodes are computed. What follows the nodes is part of the last one. What is applied only when a tensor
// is read, a batch norm or a sum, takes its time where it is read.
func (m *Model) Sections(section []int) (s *Sections, err error) {
	defer exec.Catch(&err)
	if len(section) != len(m.Net.Nodes) {
		return nil, fmt.Errorf("%s: sections of %d nodes, there are %d", m.Net.Name, len(section), len(m.Net.Nodes))
	}
	l := &lowering{m: m, name: "section", mode: evaluate}
	l.lower()
	l.plan()
	l.assign(m.memory)
	s = &Sections{}
	for k, step := range l.steps {
		at := len(s.programs) - 1
		if node := l.nodes[k]; node < len(section) {
			at = section[node]
		}
		switch n := len(s.programs); {
		case at == n:
			s.programs = append(s.programs, m.arena.NewProgram(l.name))
		case at < 0 || at != n-1:
			return nil, fmt.Errorf("%s: node %s is of section %d, the one before of %d", m.Net.Name,
				m.Net.Nodes[l.nodes[k]].Name, at, n-1)
		}
		step(s.programs[at])
	}
	return s, nil
}

// Times evaluates once and sets ms to how long each section took, in milliseconds: on an accelerator by its own clock.
func (s *Sections) Times(ms []float64) {
	for i, p := range s.programs {
		ms[i] = p.Time(1)
	}
}

// Len is how many sections there are.
func (s *Sections) Len() int { return len(s.programs) }
