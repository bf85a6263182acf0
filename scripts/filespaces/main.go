// filespaces writes spaces as files with tables of labels, on which the comparator of such spaces is measured
// (docs/comparator.md):
//
//	go run ./scripts/filespaces -out DIR [-cells ecnas_4epoch.csv]
//
// cell.yaml is a cell like NAS-Bench-201's and chain.yaml a chain of 8 blocks with 3 operations each; the labels of
// both come from the formulas below, with noise. cells.yaml describes the cells of at most five vertices of
// NAS-Bench-101, operations on nodes and ten optional edges, with the validation accuracies after 4 epochs of 600 of
// them that the given table of EC-NAS-Bench has; the same 600 stand in builtin.csv as --space nasbench101-v5 reads
// them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

const cellYAML = `space: cell
nodes: [in, a, b, out]
absent: none
identity: skip
operations: [none, skip, avgpool, conv1x1, conv3x3]
edges: [[in, a], [in, b], [a, b], [in, out], [a, out], [b, out]]
`

const chainYAML = `space: chain
operations: [k3, k5, k7]
blocks: [{name: b1}, {name: b2}, {name: b3}, {name: b4}, {name: b5}, {name: b6}, {name: b7}, {name: b8}]
`

const cellsYAML = `space: cells
on: nodes
operations: [conv3x3, conv1x1, maxpool]
nodes: [in, a, b, c, out]
edges:
`

func main() {
	out := flag.String("out", "", "folder to write into")
	cells := flag.String("cells", "", "table of EC-NAS-Bench, ecnas_4epoch.csv")
	flag.Parse()
	if err := run(*out, *cells); err != nil {
		fmt.Fprintln(os.Stderr, "filespaces:", err)
		os.Exit(1)
	}
}

func run(out, cells string) error {
	if out == "" {
		return errors.New("say with -out into which folder")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	effects := chainEffects()
	for _, s := range []struct {
		name, text string
		label      func(a space.Arch) float64
	}{{"cell", cellYAML, cellWorth}, {"chain", chainYAML, effects.worth}} {
		if err := write(out, s.name+".yaml", s.text); err != nil {
			return err
		}
		sp, err := space.ParseFile(s.name+".yaml", []byte(s.text))
		if err != nil {
			return err
		}
		all, err := sp.(space.Enumerable).All(context.Background(), nil)
		if err != nil {
			return err
		}
		var b strings.Builder
		b.WriteString("arch,validation_accuracy\n")
		for _, a := range all {
			fmt.Fprintf(&b, "%v,%.6f\n", a, noisy(s.label(a), a))
		}
		if err := write(out, s.name+".csv", b.String()); err != nil {
			return err
		}
	}
	if cells == "" {
		return nil
	}
	return writeCells(out, cells)
}

func write(folder, name, text string) error {
	return files.Write(filepath.Join(folder, name), []byte(text))
}

// noisy adds what another seed of a training would change: more, the worse a network is.
func noisy(worth float64, a space.Arch) float64 {
	var seed uint64
	if _, err := fmt.Sscanf(a.Hash()[:16], "%x", &seed); err != nil {
		panic(err)
	}
	s := philox.New(seed, philox.PurposeTest, 7)
	return min(max(worth+(0.002+0.03*(0.94-worth))*s.NormFloat64(), 0), 1)
}

// cellWorth is the made-up accuracy of a cell: what reaches the output is worked out node by node. A convolution adds
// depth, which pays less the more there is; what passes convolutions only loses signal; a pooling takes from both. Sums
// mix what they get by its signal.
func cellWorth(a space.Arch) float64 {
	choices := strings.Split(strings.SplitN(a.String(), ":", 2)[1], "|")
	type flow struct{ signal, depth, pooled float64 }
	gain := map[string]flow{"skip": {1, 0, 0}, "avgpool": {0.7, 0.1, 1}, "conv1x1": {0.85, 0.6, 0},
		"conv3x3": {0.8, 1, 0}}
	nodes := [4]flow{{signal: 1}}
	for e, ends := range [][2]int{{0, 1}, {0, 2}, {1, 2}, {0, 3}, {1, 3}, {2, 3}} {
		from, to := nodes[ends[0]], &nodes[ends[1]]
		g, present := gain[choices[e]]
		if !present || from.signal == 0 {
			continue
		}
		s := from.signal * g.signal
		share := s / (s + to.signal)
		to.depth += share*(from.depth+g.depth-to.depth) + 0.12*min(from.depth+g.depth, to.depth)
		to.pooled += share * (from.pooled + g.pooled - to.pooled)
		to.signal = math.Hypot(to.signal, s)
	}
	end := nodes[3]
	if end.signal == 0 {
		return 0.1
	}
	return 0.94 - 0.45*math.Exp(-1.1*end.depth) - 0.02*end.pooled - 0.03*math.Pow(math.Log(end.signal), 2)
}

// effects are what operations are worth in the chain.
type effects struct{ alone, beside [8][3]float64 }

// chainEffects draws them: of an operation's worth a third is the same at all places, the rest is the place's own; and
// at each place an operation is worth something else behind each operation of the block before.
func chainEffects() *effects {
	s := philox.New(8, philox.PurposeTest, 3)
	var shared [3]float64
	for o := range shared {
		shared[o] = s.NormFloat64()
	}
	e := &effects{}
	for p := range e.alone {
		for o := range shared {
			e.alone[p][o] = 0.6*shared[o] + s.NormFloat64()
			e.beside[p][o] = 0.5 * s.NormFloat64()
		}
	}
	return e
}

func (e *effects) worth(a space.Arch) float64 {
	sum, before := 0.0, 0
	for p, name := range strings.Split(strings.SplitN(a.String(), ":", 2)[1], "|") {
		o := strings.Index("k3k5k7", name) / 2
		sum += e.alone[p][o] + e.beside[p][(o+before)%3]
		before = o
	}
	return 0.94 - 0.06/(1+math.Exp(0.5*sum))
}

// writeCells writes 600 cells as a space's file and as the built-in space reads them.
func writeCells(out, path string) error {
	names := []string{"in", "a", "b", "c", "out"}
	text := cellsYAML
	for v := range names {
		for _, to := range names[v+1:] {
			text += fmt.Sprintf("  - {from: %s, to: %s, optional: true}\n", names[v], to)
		}
	}
	if err := write(out, "cells.yaml", text); err != nil {
		return err
	}
	small, err := space.Open("nasbench101-v5")
	if err != nil {
		return err
	}
	t, err := table.Open(context.Background(), path, table.Options{Space: small})
	if err != nil {
		return err
	}
	view, err := t.View(table.Query{Epochs: 4})
	if err != nil {
		return err
	}
	const count = 600
	if t.Len() < count {
		return fmt.Errorf("%s: %d cells of at most five vertices, want %d", path, t.Len(), count)
	}
	own, builtin := "arch,validation_accuracy\n", "arch,validation_accuracy\n"
	for _, row := range philox.New(5, philox.PurposeTest, 1).Perm(t.Len())[:count] {
		a, accuracy := t.Arch(row), view.Seen(row)
		own += fmt.Sprintf("%s,%.6f\n", choicesOf(a), accuracy)
		builtin += fmt.Sprintf("%v,%.6f\n", a, accuracy)
	}
	if err := write(out, "cells.csv", own); err != nil {
		return err
	}
	return write(out, "builtin.csv", builtin)
}

// choicesOf is a NAS-Bench-101 cell in the words of cells.yaml: the nodes that it has not got are joined to nothing.
func choicesOf(a space.Arch) string {
	g, names := a.Graph(), space.NASBench101{}.Alphabet()
	inner := len(g.Ops) - 2
	at := func(v uint8) int {
		if int(v) == inner+1 {
			return 4
		}
		return int(v)
	}
	chosen := []string{"conv3x3", "conv3x3", "conv3x3"}
	for v := range inner {
		chosen[v] = map[string]string{"conv3x3-bn-relu": "conv3x3", "conv1x1-bn-relu": "conv1x1",
			"maxpool3x3": "maxpool"}[names[g.Ops[v+1]]]
	}
	joined := map[[2]int]bool{}
	for _, e := range g.Edges {
		joined[[2]int{at(e[0]), at(e[1])}] = true
	}
	for u := range 5 {
		for v := u + 1; v < 5; v++ {
			if joined[[2]int{u, v}] {
				chosen = append(chosen, "edge")
			} else {
				chosen = append(chosen, "-")
			}
		}
	}
	return strings.Join(chosen, "|")
}
