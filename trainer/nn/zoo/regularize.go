package zoo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Regularize is a network with another probability of its dropouts, and with drop paths on the branches of its residual
// blocks in the last two units: of the i-th of n blocks, counted from 0, with probability dropConnect i/n (Wang et al.
// 2021, AttentiveNAS: set_dropout_rate, which trains the largest path of a supernet so and no other). A unit begins
// with a block that adds no input. Variables stay as they are.
func Regularize(net *nn.Network, dropout, dropConnect float64) *nn.Network {
	blocks, last := residuals(net)
	out := *net
	out.Nodes = make([]nn.Node, 0, len(net.Nodes))
	at := make([]int, len(net.Nodes)) // where each node has gone
	for i, node := range net.Nodes {
		node.In = slices.Clone(node.In)
		for k, in := range node.In {
			node.In[k] = at[in]
		}
		if _, is := node.Op.(nn.Dropout); is {
			node.Op = nn.Dropout{P: dropout}
		}
		if block := slices.Index(blocks, i); block >= last && dropConnect > 0 {
			end := len(node.In) - 1 // Builder's blocks add the branch to their input
			out.Nodes = append(out.Nodes, nn.Node{Name: strings.TrimSuffix(node.Name, "sum") + "drop",
				Op: nn.DropPath{P: dropConnect * float64(block) / float64(len(blocks))}, In: []int{node.In[end]},
				Shape: node.Shape})
			node.In[end] = len(out.Nodes) - 1
		}
		at[i] = len(out.Nodes)
		out.Nodes = append(out.Nodes, node)
	}
	out.Outputs = slices.Clone(net.Outputs)
	for k := range out.Outputs {
		out.Outputs[k].Node = at[out.Outputs[k].Node]
	}
	return &out
}

// residuals lists the sum of every block, -1 where it has none, and says where the last two units begin.
func residuals(net *nn.Network) (sums []int, last int) {
	var units []int
	for block := 0; ; block++ {
		name := fmt.Sprintf("block%d/", block+1)
		if !slices.ContainsFunc(net.Nodes, func(n nn.Node) bool { return strings.HasPrefix(n.Name, name) }) {
			break
		}
		sums = append(sums, net.Find(name+"sum"))
		if sums[block] < 0 {
			units = append(units, block)
		}
	}
	if len(units) == 0 {
		return sums, 0
	}
	return sums, units[max(0, len(units)-2)]
}
