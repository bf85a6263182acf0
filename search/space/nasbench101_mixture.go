package space

import (
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

// Derive chooses for each vertex what it reads and its operation so that the product of the weights is the largest of
// those whose cell the benchmark holds: five vertices that live have two edges more than it allows. Of equal ones the
// first choices are taken. The text has a place for each vertex that does not live.
func (sp NASBench101) Derive(weights [][]float32) (string, error) {
	if err := checkWeights(sp, sp.supernet(NetworkSize{}).Rows(), weights); err != nil {
		return "", err
	}
	var derived dag
	most := 0.0
	var choose func(d dag, v int, live uint8, product float64)
	choose = func(d dag, v int, live uint8, product float64) {
		if v == d.n-1 {
			d.in[v] = live
			if _, err := d.cell(); err == nil && product > most {
				most, derived = product, d
			}
			return
		}
		d.op[v] = uint8(largest(weights[2*v-1]))
		for k, w := range weights[2*v-2] {
			reading, reached := reads(d, v, k, live)
			choose(reading, v+1, reached, product*max(float64(w), leastWeight))
		}
	}
	choose(dag{n: sp.MaxNodes()}, 1, 1, 1)
	return derived.text(), nil
}

// reads lets vertex v read by choice k of its row, where some vertices live: the first is none, then comes the input.
func reads(d dag, v, k int, live uint8) (reading dag, reached uint8) {
	if k == 0 || live>>(k-1)&1 == 0 {
		return d, live
	}
	d.in[v] = 1 << (k - 1)
	return d, live | 1<<v
}

// Drawn draws n cells by the weights and returns the one that the benchmark holds and that came most often, of equal
// ones the first, and how many were outside of the benchmark (the pick of kcyu2014/eval-nas). Where all of them were,
// as of weights that have learned little, it is what Derive says.
func (sp NASBench101) Drawn(weights [][]float32, n int, s *philox.Stream) (a Arch, outside int, err error) {
	if err := checkWeights(sp, sp.supernet(NetworkSize{}).Rows(), weights); err != nil {
		return nil, 0, err
	}
	times := map[Cell]int{}
	var drawn []Cell // each as often as it came
	for range n {
		d, live := dag{n: sp.MaxNodes()}, uint8(1)
		for v := 1; v < d.n-1; v++ {
			d, live = reads(d, v, drawnChoice(weights[2*v-2], s), live)
			d.op[v] = uint8(drawnChoice(weights[2*v-1], s))
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
		text, err := sp.Derive(weights)
		if err != nil {
			return nil, outside, err
		}
		a, err := sp.Parse(text)
		return a, outside, err
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
