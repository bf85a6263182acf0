package space

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

var _ Strict = NASBench101{}

// StrictPaths are a topology, that of a cell drawn uniformly, with the operations of each vertex dealt out in an order
// of its own: one path for each operation (kcyu2014/eval-nas, its FairNAS). Their vertices stand in the order of that
// cell, so that a slot of the supernet has each of its operations once.
func (sp NASBench101) StrictPaths(s *philox.Stream) []string {
	c := sp.Sample(s).(Cell)
	text := c.String()
	edges := text[:strings.LastIndexByte(text, ':')+1]
	digits := make([][]byte, len(opNames))
	for range c.Vertices() - 2 {
		for i, op := range s.Perm(len(opNames)) {
			digits[i] = append(digits[i], '0'+byte(op))
		}
	}
	out := make([]string, len(digits))
	for i, d := range digits {
		out[i] = edges + string(d)
	}
	return out
}

// WrittenPath is the path of a cell's text as it is written: its i-th vertex has the weights of slot i, also where
// vertices before it lie on no path from input to output.
func (sp NASBench101) WrittenPath(text string, size NetworkSize) (nn.Path, error) {
	d, err := writtenCell(text)
	if err != nil {
		return nn.Path{}, fmt.Errorf("%.300q is not in the supernet of %s: %w", text, sp.Name(), err)
	}
	return sp.path(d, text, size)
}

// writtenCell is a cell with all of its vertices in the order of a text.
func writtenCell(text string) (dag, error) {
	if _, err := parseCell(text); err != nil {
		return dag{}, err
	}
	fields := strings.Split(text, ":")
	if len(fields) != 4 {
		return dag{}, fmt.Errorf("want %s:<vertices>:<upper triangle>:<operations>", nasbench101Name)
	}
	d, i := dag{n: len(fields[3]) + 2}, 0
	for from := range d.n {
		for to := from + 1; to < d.n; to++ {
			d.in[to] |= (fields[2][i] - '0') << from
			i++
		}
	}
	for v := range d.n - 2 {
		d.op[v+1] = fields[3][v] - '0'
	}
	return d, nil
}
