package space

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Columned is a space whose architectures may be written as a table with a column a decision.
type Columned interface {
	Space
	// Columns are the names of the columns: for a block that may be absent too, whose field is then empty.
	Columns() []string
	// FromColumns makes an architecture of the fields in the order of Columns.
	FromColumns(fields []string) (Arch, error)
}

var (
	_ Columned = MobileNetV3{}
	_ Columned = Darts{}
	_ Columned = (*FileSpace)(nil)
	_ Columned = listedSpace{}
)

// wholeField is a small number as programs write it: 3, 3.0, or empty, nan or none for 0.
func wholeField(name, field string) (int, error) {
	text := strings.ToLower(strings.TrimSpace(field))
	if slices.Contains([]string{"", "nan", "none", "-"}, text) {
		return 0, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v != float64(uint8(v)) {
		return 0, fmt.Errorf("column %s: %.40q is not a small whole number", name, field)
	}
	return int(v), nil
}

// Columns are depth1 to depth5 and, for each slot, expand1.1 and kernel1.1 to expand5.4 and kernel5.4, as Grammar
// calls the decisions.
func (MobileNetV3) Columns() []string {
	var names []string
	for u := range mobileUnits {
		names = append(names, fmt.Sprintf("depth%d", u+1))
		for b := range mobileMaxDepth {
			names = append(names, fmt.Sprintf("expand%d.%d", u+1, b+1), fmt.Sprintf("kernel%d.%d", u+1, b+1))
		}
	}
	return names
}

// FromColumns reads numbers of blocks, expansions and kernels.
func (sp MobileNetV3) FromColumns(fields []string) (Arch, error) {
	numbers := make([]string, len(fields))
	for i, name := range sp.Columns() {
		v, err := wholeField(name, fields[i])
		if err != nil {
			return nil, err
		}
		numbers[i] = strconv.Itoa(v)
	}
	const each = 1 + 2*mobileMaxDepth
	var depths, kernels, expansions []string
	for u := range mobileUnits {
		unit := numbers[u*each : (u+1)*each]
		depths = append(depths, unit[0])
		for b := range mobileMaxDepth {
			expansions, kernels = append(expansions, unit[1+2*b]), append(kernels, unit[2+2*b])
		}
	}
	return sp.NewMobileNet(strings.Join(depths, ","), strings.Join(kernels, ","), strings.Join(expansions, ","))
}

// Columns are normal2.op0, normal2.from0, normal2.op1 and so on to reduce5.from1: of each node's two operations the
// name and what it reads.
func (Darts) Columns() []string {
	var names []string
	for _, cell := range []string{"normal", "reduce"} {
		for n := range dartsNodes {
			for k := range 2 {
				names = append(names, fmt.Sprintf("%s%d.op%d", cell, n+dartsInputs, k),
					fmt.Sprintf("%s%d.from%d", cell, n+dartsInputs, k))
			}
		}
	}
	return names
}

// FromColumns reads names of operations and numbers of what they read.
func (sp Darts) FromColumns(fields []string) (Arch, error) {
	g := Genotype{macro: sp.macro}
	names := sp.Columns()
	for i := range 2 * dartsEdges {
		op := slices.Index(dartsOps[:], strings.TrimSpace(fields[2*i]))
		if op < 0 {
			return nil, fmt.Errorf("column %s: unknown operation %.40q; known: %s", names[2*i], fields[2*i],
				strings.Join(dartsOps[:], ", "))
		}
		from, err := wholeField(names[2*i+1], fields[2*i+1])
		if err != nil {
			return nil, err
		}
		edge := i % dartsEdges
		if most := dartsInputs + edge/2 - 1; from > most {
			return nil, fmt.Errorf("column %s: node %d may read 0..%d, not %d", names[2*i+1], edge/2+dartsInputs, most,
				from)
		}
		g.cells[i/dartsEdges][edge] = dartsEdge{uint8(op), uint8(from)}
	}
	for i := range g.cells {
		g.cells[i] = g.cells[i].canonical()
	}
	return g, nil
}

// Columns are the names of the file's places; of a row of blocks NAME.1 to NAME.MOST.
func (f *FileSpace) Columns() []string {
	var names []string
	f.each(func(p *choice, _ int) {
		for b := range p.high {
			if p.high == 1 {
				names = append(names, p.name)
			} else {
				names = append(names, fmt.Sprintf("%s.%d", p.name, b+1))
			}
		}
	})
	return names
}

// FromColumns reads the names of the operations; those of absent blocks, the last of a row, are empty.
func (f *FileSpace) FromColumns(fields []string) (Arch, error) {
	var texts []string
	at := 0
	f.each(func(p *choice, _ int) {
		row := slices.Clone(fields[at : at+p.high])
		at += p.high
		for b := range row {
			row[b] = strings.TrimSpace(row[b])
		}
		if p.when != nil && strings.Join(row, "") == "" { // it is not there
			row = []string{missingEdge}
		}
		for len(row) > p.low && row[len(row)-1] == "" {
			row = row[:len(row)-1]
		}
		texts = append(texts, strings.Join(row, "+"))
	})
	return f.Parse(strings.Join(texts, "|"))
}
