package space

import (
	"fmt"
	"slices"
	"strings"
)

// Graph is a cell with an operation of an edge as a node between its ends, or a chain of blocks in which a row of
// several counts ends with a node that says how many there are. Absent operations are left out, and of a cell what gets
// nothing or what nothing reads.
func (a FileArch) Graph() Graph {
	g := &drawing{of: a.of}
	if a.of.nodes == 0 {
		a.chain(g)
	} else {
		a.cell(g)
		g.prune()
	}
	slices.SortFunc(g.Edges, func(x, y [2]uint8) int { return (int(x[0])-int(y[0]))<<8 + int(x[1]) - int(y[1]) })
	return g.Graph
}

// drawing is a graph being made.
type drawing struct {
	Graph
	of *FileSpace
}

// prune leaves out nodes that nothing reaches from the input, or from which nothing reaches the output.
func (g *drawing) prune() {
	last := len(g.Ops) - 1
	fed, read := make([]bool, last+1), make([]bool, last+1)
	fed[0], read[last] = true, true
	for _, e := range g.Edges { // a node's come before those of the nodes behind it
		fed[e[1]] = fed[e[1]] || fed[e[0]]
	}
	for k := len(g.Edges) - 1; k >= 0; k-- {
		e := g.Edges[k]
		read[e[0]] = read[e[0]] || read[e[1]]
	}
	number, kept := make([]uint8, last+1), Graph{}
	for v, op := range g.Ops {
		if number[v] = uint8(len(kept.Ops)); v == 0 || v == last || fed[v] && read[v] {
			kept.Ops = append(kept.Ops, op)
		}
	}
	for _, e := range g.Edges {
		if fed[e[0]] && read[e[1]] && fed[e[1]] && read[e[0]] {
			kept.Edges = append(kept.Edges, [2]uint8{number[e[0]], number[e[1]]})
		}
	}
	g.Graph = kept
}

func (a FileArch) chain(g *drawing) {
	last := g.add(a.of.inner[0])
	i := 0
	a.of.each(func(p *choice, at int) {
		row, is := a.blocks(p, at), there(a.of, p, a.code)
		for b, o := range []byte(row) {
			if !p.options[o].absent {
				last = g.add(a.of.ops[at+p.counts()+min(b, p.chosen(p.high)-1)][o], last)
			}
		}
		if p.counts() == 1 && is {
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

// maxAlphabet is how many operations a Graph tells apart, each at each of its places.
const maxAlphabet = 1 << 14

// maxNodes is how many nodes a Graph has at most.
const maxNodes = 255

// letters returns a function that numbers the operations of the alphabet, what each does at a place; a place alone does
// nothing, it is a node where edges meet. How the comparator is to read them is written down beside.
func (f *FileSpace) letters() func(where, what string) uint16 {
	e := &f.encoder
	e.Walks, e.Costs = f.nodes > 0, f.nodes > 0 && f.priced == [2]bool{true, true}
	known, kinds, places := map[[2]string]uint16{}, map[string]int32{}, map[string]int32{}
	number := func(of map[string]int32, name string) int32 {
		k, ok := of[name]
		if !ok {
			k = int32(len(of))
			of[name] = k
		}
		return k
	}
	return func(where, what string) uint16 {
		key := [2]string{where, what}
		if k, ok := known[key]; ok {
			return k
		}
		known[key] = uint16(len(f.alphabet))
		f.alphabet = append(f.alphabet, strings.TrimSpace(where+" "+what))
		e.Kind = append(e.Kind, number(kinds, what))
		place := int32(-1)
		if where != "" && f.nodes == 0 { // in a cell isomorphic texts are one, so that places must not matter
			place = number(places, where)
		}
		e.Place = append(e.Place, place)
		return known[key]
	}
}

// number lays out the codes, the alphabet and the grammar.
func (f *FileSpace) number(nodeNames []string) error {
	f.codes = 1
	nodes := max(2, f.nodes)
	operations := 0
	for i := range f.choices {
		p := &f.choices[i]
		f.slots += p.slots()
		operations += p.chosen(p.high) * len(p.options)
		f.codes *= p.ways(p.high) * float64(p.high-p.low+1)
		if p.counts() == 1 {
			operations += p.high - p.low + 1
		}
	}
	var err error
	if f.texts, err = f.combine(); err != nil {
		return err
	}
	if f.texts < 2 {
		return fmt.Errorf("the space has one architecture: nothing is to be decided")
	}
	if n := f.MaxNodes(); n > maxNodes {
		return fmt.Errorf("graphs of up to %d nodes, at most %d are possible", n, maxNodes)
	}
	if n := operations + nodes; n > maxAlphabet {
		return fmt.Errorf("%d operations, each at each of its places, at most %d are possible", n, maxAlphabet)
	}
	letter := f.letters()
	for i, name := range nodeNames {
		switch i {
		case 0:
			f.inner = append(f.inner, letter("", inputName))
		case len(nodeNames) - 1: // the output comes last
		default:
			if name == inputName || name == outputName { // as the ends are called
				name = "node " + name
			}
			f.inner = append(f.inner, letter(name, ""))
		}
	}
	g := &Grammar{}
	var steps []Step
	decide := func(name string, choices int) {
		steps = append(steps, Step{len(g.Heads), choices})
		g.Heads = append(g.Heads, Head{name, choices})
	}
	for i := range f.choices {
		p := &f.choices[i]
		var counts []uint16
		if p.counts() == 1 {
			decide(p.name+" count", p.high-p.low+1)
			f.ops = append(f.ops, nil)
			for n := p.low; n <= p.high; n++ {
				counts = append(counts, letter(p.name, fmt.Sprintf("%d blocks", n)))
			}
		}
		f.counts = append(f.counts, counts)
		for b := range p.chosen(p.high) {
			where := p.name
			if p.high > 1 && !p.tied {
				where = fmt.Sprintf("%s.%d", p.name, b+1)
			}
			if len(p.options) > 1 {
				decide(where, len(p.options))
			}
			var ops []uint16
			for _, o := range p.options {
				ops = append(ops, letter(where, o.name))
			}
			f.ops = append(f.ops, ops)
		}
	}
	f.inner = append(f.inner, letter("", outputName))
	const most = 64 // of the controller
	if len(steps) > most {
		return fmt.Errorf("%d decisions, the controller takes at most %d", len(steps), most)
	}
	g.fixed(steps)
	f.grammar = g
	f.classify()
	return nil
}
