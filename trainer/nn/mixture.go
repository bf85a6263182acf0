package nn

import (
	"fmt"
	"math"
)

// Row is a decision of a mixture. Its choices have weights that sum to 1, the softmax of numbers that are learned, and
// any number of Mix nodes read them.
type Row struct {
	Name    string   // unique among the network's
	Choices []string // their names; MostChoices at most
	// Cost is what each choice costs in all places that read the row. Where a Builder is given none, it is the
	// multiply-accumulates of what only that choice needs.
	Cost []float64
	// Start are the numbers whose softmax the weights are at the beginning; nil: all are 0.
	Start []float64
}

// MostChoices is how many choices a row may have: Mix.Absent has a bit for each.
const MostChoices = 32

// Row adds a row to the network's mixture and returns its number.
func (b *Builder) Row(r Row) int {
	switch n := len(r.Choices); {
	case n < 1 || n > MostChoices:
		b.Fail("row %s of %d choices: want 1 to %d", r.Name, n, MostChoices)
	case r.Cost != nil && len(r.Cost) != n:
		b.Fail("row %s of %d choices has %d costs", r.Name, n, len(r.Cost))
	case r.Start != nil && len(r.Start) != n:
		b.Fail("row %s of %d choices has %d starts", r.Name, n, len(r.Start))
	}
	for _, c := range r.Cost {
		if !(c >= 0 && c < math.Inf(1)) {
			b.Fail("row %s has a choice that costs %v", r.Name, c)
		}
	}
	for _, other := range b.net.Mixture {
		if other.Name == r.Name {
			b.Fail("there are two rows %s", r.Name)
		}
	}
	b.net.Mixture = append(b.net.Mixture, r)
	return len(b.net.Mixture) - 1
}

// Choice is a choice of a row, whose weight multiplies an input of a Mix.
type Choice struct{ Row, Choice int }

// Choices lists those whose weights multiply the inputs of a Mix, in their order.
func (n *Network) Choices(m Mix) []Choice {
	var all []Choice
	for row := m.Row; row < m.Row+m.Rows; row++ {
		for k := range n.Mixture[row].Choices {
			if m.Absent>>k&1 == 0 {
				all = append(all, Choice{row, k})
			}
		}
	}
	return all
}

// checkMix tells why rows of a network do not weigh so many inputs.
func (n *Network) checkMix(m Mix, inputs int) error {
	if m.Row < 0 || m.Rows < 1 || m.Row+m.Rows > len(n.Mixture) {
		return fmt.Errorf("by %d rows from row %d, of %d", m.Rows, m.Row, len(n.Mixture))
	}
	if want := len(n.Choices(m)); inputs != want {
		return fmt.Errorf("of %d tensors, want %d, one a choice", inputs, want)
	}
	return nil
}

// price gives rows without costs the multiply-accumulates of each choice: in all mixtures that read the row, those of
// the nodes that nothing would read if the choice had no weight.
func (n *Network) price() {
	uses := make([]int, len(n.Nodes)) // of each node: inputs of needed nodes, and outputs of the network
	for _, o := range n.Outputs {
		uses[o.Node]++
	}
	for i := len(n.Nodes) - 1; i >= 0; i-- {
		for _, in := range n.Nodes[i].In {
			if uses[i] > 0 {
				uses[in]++
			}
		}
	}
	known := make([]bool, len(n.Mixture))
	for r := range n.Mixture {
		row := &n.Mixture[r]
		if known[r] = row.Cost != nil; !known[r] {
			row.Cost = make([]float64, len(row.Choices))
		}
	}
	for i, node := range n.Nodes {
		mix, ok := node.Op.(Mix)
		if !ok || uses[i] == 0 {
			continue
		}
		for k, c := range n.Choices(mix) {
			if !known[c.Row] {
				n.Mixture[c.Row].Cost[c.Choice] += float64(n.alone(node.In[k], uses, map[int]int{}))
			}
		}
	}
}

// alone is the multiply-accumulates of a node and of what is needed for it alone, where one of the node's readers is
// left out. dropped counts the readers that are left out of each node.
func (n *Network) alone(node int, uses []int, dropped map[int]int) int64 {
	if dropped[node]++; dropped[node] < uses[node] {
		return 0
	}
	madds := n.NodeCost(node).MAdds
	for _, in := range n.Nodes[node].In {
		madds += n.alone(in, uses, dropped)
	}
	return madds
}
