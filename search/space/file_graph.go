package space

import (
	"fmt"
	"slices"
)

// Graph is a cell with an operation of an edge as a node between its ends, or a chain of blocks in which a row of
// several counts ends with a node that says how many there are. Absent operations are left out.
func (a FileArch) Graph() Graph {
	g := &drawing{of: a.of}
	if a.of.nodes == 0 {
		a.chain(g)
	} else {
		a.cell(g)
	}
	slices.SortFunc(g.Edges, func(x, y [2]uint8) int { return (int(x[0])-int(y[0]))<<8 + int(x[1]) - int(y[1]) })
	return g.Graph
}

// drawing is a graph being made.
type drawing struct {
	Graph
	of *FileSpace
}

func (a FileArch) chain(g *drawing) {
	last := g.add(a.of.inner[0])
	i := 0
	a.of.each(func(p *choice, at int) {
		row := a.blocks(p, at)
		for b, o := range []byte(row) {
			if !p.options[o].absent {
				last = g.add(a.of.ops[at+p.counts()+b][o], last)
			}
		}
		if p.counts() == 1 {
			last = g.add(a.of.counts[i][len(row)-p.low], last)
		}
		i++
	})
	g.add(a.of.inner[1], last)
}

func (a FileArch) cell(g *drawing) {
	f := a.of
	at := make([]uint8, f.nodes) // of each node its number in the graph
	at[0] = g.add(f.inner[0])
	for to := 1; to < f.nodes; to++ {
		var from []uint8
		op := f.inner[to]
		for _, e := range f.plain {
			if e[1] == to {
				from = append(from, at[e[0]])
			}
		}
		f.each(func(p *choice, slot int) {
			if p.to != to {
				return
			}
			o := a.code[slot]
			switch {
			case p.node:
				op = f.ops[slot][o]
			case p.options[o].absent:
			case p.options[o].name == joinedEdge:
				from = append(from, at[p.from])
			default:
				from = append(from, g.add(f.ops[slot][o], at[p.from]))
			}
		})
		at[to] = g.add(op, from...)
	}
}

// maxAlphabet is how many operations a Graph tells apart.
const maxAlphabet = 256

// number lays out the codes, the alphabet and the grammar.
func (f *FileSpace) number(nodeNames []string) error {
	f.size = 1
	nodes := max(2, f.nodes)
	operations := 0
	for i := range f.choices {
		p := &f.choices[i]
		f.slots += p.slots()
		operations += p.high * len(p.options)
		rows := 0.0
		for n := p.low; n <= p.high; n++ {
			rows += p.ways(n)
		}
		f.size *= rows
		if p.counts() == 1 {
			operations += p.high - p.low + 1
		}
	}
	if f.size < 2 {
		return fmt.Errorf("the space has one architecture: nothing is to be decided")
	}
	if n := f.MaxNodes(); n > maxAlphabet-1 {
		return fmt.Errorf("graphs of up to %d nodes, at most %d are possible", n, maxAlphabet-1)
	}
	here := operations+nodes <= maxAlphabet // an operation is told apart by where it stands
	known := map[string]uint8{}
	letter := func(where, name string) (uint8, error) {
		if here && where != "" {
			name = where + " " + name
		}
		if k, ok := known[name]; ok {
			return k, nil
		}
		if len(f.alphabet) == maxAlphabet {
			return 0, fmt.Errorf("more than %d different operations", maxAlphabet)
		}
		known[name] = uint8(len(f.alphabet))
		f.alphabet = append(f.alphabet, name)
		return known[name], nil
	}
	for i, name := range nodeNames {
		switch i {
		case 0:
			name = inputName
		case len(nodeNames) - 1:
			name = outputName
		}
		if name == outputName {
			continue // comes last
		}
		k, err := letter("", name)
		if err != nil {
			return err
		}
		f.inner = append(f.inner, k)
	}
	g := &Grammar{}
	var steps []Step
	decide := func(name string, choices int) {
		steps = append(steps, Step{len(g.Heads), choices})
		g.Heads = append(g.Heads, Head{name, choices})
	}
	for i := range f.choices {
		p := &f.choices[i]
		var counts []uint8
		if p.counts() == 1 {
			decide(p.name+" count", p.high-p.low+1)
			f.ops = append(f.ops, nil)
			for n := p.low; n <= p.high; n++ {
				k, err := letter(p.name, fmt.Sprintf("%d blocks", n))
				if err != nil {
					return err
				}
				counts = append(counts, k)
			}
		}
		f.counts = append(f.counts, counts)
		for b := range p.high {
			where := p.name
			if p.high > 1 {
				where = fmt.Sprintf("%s.%d", p.name, b+1)
			}
			if len(p.options) > 1 {
				decide(where, len(p.options))
			}
			var ops []uint8
			for _, o := range p.options {
				k, err := letter(where, o.name)
				if err != nil {
					return err
				}
				ops = append(ops, k)
			}
			f.ops = append(f.ops, ops)
		}
	}
	k, err := letter("", outputName)
	if err != nil {
		return err
	}
	f.inner = append(f.inner, k)
	const most = 64 // of the controller
	if len(steps) > most {
		return fmt.Errorf("%d decisions, the controller takes at most %d", len(steps), most)
	}
	g.fixed(steps)
	f.grammar = g
	return nil
}
