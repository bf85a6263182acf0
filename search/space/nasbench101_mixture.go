package space

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
)

var _ Mixed = NASBench101{}

// Mixture has the weights of all cells in which each vertex reads one vertex before it, or none, and every vertex that
// the input reaches feeds the output, as does the input. Its vertices are as wide as those of the cell in which all
// feed the output: 52, 51, 51, 51 and 51 of 256 channels.
func (sp NASBench101) Mixture(size NetworkSize) (nn.Path, error) {
	n := sp.supernet(size)
	shared, err := n.Shared()
	if err != nil {
		return nn.Path{}, err
	}
	return mixture(sp, func() (nn.Path, error) { return n.Mixture(shared) })
}

// leastWeight stands for smaller weights: products of those of all rows are no zeros.
const leastWeight = 0x1p-100

// Derive is the most probable cell, if what each vertex reads and its operation are drawn by the weights, among those
// that the benchmark holds: five vertices that live have two edges more than it allows. The text is that of its most
// probable drawing, with a place for each vertex that does not live.
func (sp NASBench101) Derive(weights [][]float32) (string, error) {
	if err := checkWeights(sp, sp.supernet(NetworkSize{}).Rows(), weights); err != nil {
		return "", err
	}
	m := cellDrawings{interior: sp.MaxNodes() - 2, weights: weights, at: map[Cell]int{}}
	m.vertex(dag{n: m.interior + 2}, 1, 1, 1)
	best := 0
	for i, c := range m.cells {
		if c.all > m.cells[best].all {
			best = i
		}
	}
	return m.cells[best].written.text(), nil
}

// cellDrawings are all cells that can be drawn by weights, in the order in which they are met.
type cellDrawings struct {
	interior int
	weights  [][]float32
	cells    []drawnCell
	at       map[Cell]int
}

// drawnCell is a cell with its probability and the drawing that gives it most often.
type drawnCell struct {
	all, most float64
	written   dag
}

// vertex draws what vertex v reads and its operation in every way, behind live vertices that were drawn with a
// probability.
func (m *cellDrawings) vertex(d dag, v int, live uint8, probability float64) {
	if v > m.interior {
		m.add(d, live, probability)
		return
	}
	from, ops := m.weights[2*v-2], m.weights[2*v-1] // the first choice of from is none, the others are vertices
	dead := atLeast(from[0])
	for u := range v {
		if live>>u&1 == 0 {
			dead += atLeast(from[u+1])
		}
	}
	m.vertex(d, v+1, live, probability*dead)
	for u := range v {
		if live>>u&1 == 0 {
			continue
		}
		d.in[v] = 1 << u
		for op, w := range ops {
			d.op[v] = uint8(op)
			m.vertex(d, v+1, live|1<<v, probability*atLeast(from[u+1])*atLeast(w))
		}
	}
}

func atLeast(weight float32) float64 { return max(float64(weight), leastWeight) }

// add counts a drawing whose cell the benchmark holds.
func (m *cellDrawings) add(d dag, live uint8, probability float64) {
	d.in[d.n-1] = live
	c, err := d.cell()
	if err != nil {
		return
	}
	i, met := m.at[c]
	if !met {
		i = len(m.cells)
		m.at[c] = i
		m.cells = append(m.cells, drawnCell{})
	}
	found := &m.cells[i]
	found.all += probability
	if probability > found.most {
		found.most, found.written = probability, d
	}
}

// Drawn draws n cells by the weights and returns the one that the benchmark holds and that came most often, of equal
// ones the first, and how many were outside of the benchmark (the pick of kcyu2014/eval-nas).
func (sp NASBench101) Drawn(weights [][]float32, n int, s *philox.Stream) (a Arch, outside int, err error) {
	if err := checkWeights(sp, sp.supernet(NetworkSize{}).Rows(), weights); err != nil {
		return nil, 0, err
	}
	times := map[Cell]int{}
	var drawn []Cell // each as often as it came
	for range n {
		d, live := dag{n: sp.MaxNodes()}, uint8(1)
		for v := 1; v < d.n-1; v++ {
			from := drawnChoice(weights[2*v-2], s)
			d.op[v] = uint8(drawnChoice(weights[2*v-1], s))
			if from > 0 && live>>(from-1)&1 == 1 {
				d.in[v], live = 1<<(from-1), live|1<<v
			}
		}
		d.in[d.n-1] = live
		c, err := d.cell()
		if err != nil {
			outside++
			continue
		}
		times[c]++
		drawn = append(drawn, c)
	}
	if len(drawn) == 0 {
		return nil, outside, fmt.Errorf("%s: none of %d cells that were drawn is in the benchmark", sp.Name(), n)
	}
	best := drawn[0]
	for _, c := range drawn {
		if times[c] > times[best] {
			best = c
		}
	}
	return best, outside, nil
}

// drawnChoice draws a choice with a probability in proportion to its weight, of which some is more than 0.
func drawnChoice(weights []float32, s *philox.Stream) int {
	sum := 0.0
	for _, w := range weights {
		sum += float64(w)
	}
	left, choice := s.Float64()*sum, 0
	for k, w := range weights {
		if w > 0 {
			choice = k
			if left -= float64(w); left < 0 {
				break
			}
		}
	}
	return choice
}
