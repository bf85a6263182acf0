package zoo

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// DARTSSupernet is the network that DARTS searches in (quark0/darts, cnn/model_search.py; of images of ImageNet's size
// the one that PC-DARTS does, model_search_imagenet.py): on each edge of a cell, from an earlier node to a node, lie
// all operations, with weights of their own in each cell. The published one has 16 channels, 8 cells and 3 stacks.
// Norms behind the first layers have no scale and shift, a norm stands behind each pooling, and there is no auxiliary
// head. Its DARTSNetwork's Genotype is not looked at.
type DARTSSupernet struct{ DARTSNetwork }

// dartsOperations are the operations that the supernet has on each edge but none, in the order of the published code.
var dartsOperations = []string{max3, avg3, skip, sep3, sep5, dil3, dil5}

// dartsOwnNodes is how many nodes a cell has besides its inputs.
const dartsOwnNodes = 4

// Shared are the supernet's variables: those of a network in which a node is the sum of all operations on all of its
// edges.
func (d DARTSSupernet) Shared() (nn.Shared, error) {
	net, err := d.around(nil, func(b *nn.Builder, nodes []nn.Tensor, _ string, at dartsPlace) nn.Tensor {
		return b.Apply("sum", nn.Add{}, at.operations(b, nodes)...)
	})
	if err != nil {
		return nn.Shared{}, err
	}
	return nn.Shared{Name: "supernet of darts", Variables: net.Variables()}, nil
}

// DARTSRows are those of DARTSSupernet.Mixture: the edges of the normal cell, then those of the reduction cell, node by
// node and in the order of what they read. Each chooses from the eight operations, the first of which is none.
func DARTSRows() (rows []nn.Row) {
	choices := append([]string{none}, dartsOperations...)
	for _, cell := range []string{"normal", "reduce"} {
		for n := range dartsOwnNodes {
			for from := range n + 2 {
				rows = append(rows, nn.Row{Name: fmt.Sprintf("%s/node%d/from%d", cell, n+2, from), Choices: choices})
			}
		}
	}
	return rows
}

// Mixture is the search network itself, over the variables of Shared: a node is the sum of all operations on all of
// its edges, each times its weight. All normal cells read the same rows, and so do all reduction cells.
func (d DARTSSupernet) Mixture(shared nn.Shared) (nn.Path, error) {
	rows := DARTSRows()
	net, err := d.around(rows, func(b *nn.Builder, nodes []nn.Tensor, _ string, at dartsPlace) nn.Tensor {
		first := 0 // of the cell's rows
		if at.stride == 2 {
			first = len(rows) / 2
		}
		for from := 2; from < len(nodes); from++ {
			first += from // as many edges lead to the node of that number
		}
		return b.Apply("sum", nn.Mix{Row: first, Rows: len(nodes), Absent: 1}, at.operations(b, nodes)...)
	})
	if err != nil {
		return nn.Path{}, err
	}
	return bind(net, shared, func(name string) string { return name })
}

// operations are those on all edges to the node behind some others, but none, edge by edge.
func (at dartsPlace) operations(b *nn.Builder, nodes []nn.Tensor) (all []nn.Tensor) {
	for from, x := range nodes {
		for _, op := range dartsOperations {
			all = append(all, searched(b.Scope("%s", dartsSlot(from, op)), op, x, at.strideFrom(from)))
		}
	}
	return all
}

// Path is the network of a genotype of four nodes a cell, all of which are concatenated, over the variables of Shared.
// Where both operations of a node are the same one on the same node, they share their weights.
func (d DARTSSupernet) Path(g Genotype, shared nn.Shared) (nn.Path, error) {
	slots := map[string]string{} // an operation's place in the path, and in the supernet
	for _, c := range []CellGraph{g.Normal, g.Reduce} {
		if len(c.Nodes) != dartsOwnNodes {
			return nn.Path{}, fmt.Errorf("a cell of %d nodes, and those of the supernet have %d", len(c.Nodes),
				dartsOwnNodes)
		}
	}
	net, err := d.around(nil, func(b *nn.Builder, nodes []nn.Tensor, name string, at dartsPlace) nn.Tensor {
		node := g.Normal.Nodes[len(nodes)-2]
		if at.stride == 2 {
			node = g.Reduce.Nodes[len(nodes)-2]
		}
		apply := func(side, op string, from int) nn.Tensor {
			if from < 0 || from >= len(nodes) {
				b.Fail("an operation on node %d", from)
				return nn.Tensor{}
			}
			slots[name+"."+side] = name + "." + strings.ReplaceAll(dartsSlot(from, op), "/", ".")
			return searched(b.Scope("%s", side), op, nodes[from], at.strideFrom(from))
		}
		return b.Apply("sum", nn.Add{}, apply("left", node.Left, node.LeftFrom),
			apply("right", node.Right, node.RightFrom))
	})
	if err != nil {
		return nn.Path{}, err
	}
	return bind(net, shared, func(name string) string {
		if parts := strings.SplitN(name, ".", 4); len(parts) == 4 {
			if slot, found := slots[strings.Join(parts[:3], ".")]; found {
				return slot + "." + parts[3]
			}
		}
		return name
	})
}

// dartsSlot names the place of an operation on an edge, below the node that it leads to.
func dartsSlot(from int, op string) string { return fmt.Sprintf("from%d/%s", from, op) }

// around is the network, with some rows, around the cells' nodes: node makes one of the nodes before it, in a scope of
// a name.
func (d DARTSSupernet) around(rows []nn.Row, node func(b *nn.Builder, nodes []nn.Tensor, name string,
	at dartsPlace) nn.Tensor) (*nn.Network, error) {
	b, before, x := d.stem()
	for _, r := range rows {
		b.Row(r)
	}
	b.Norm.NoAffine = true
	i := 0
	x = d.stack(b, before, x, func(b *nn.Builder, before, x nn.Tensor, at dartsPlace) nn.Tensor {
		nodes := at.inputs(b, before, x)
		for n := range dartsOwnNodes {
			nodes = append(nodes, node(b.Scope("node%d", n+2), nodes, fmt.Sprintf("cell%d.node%d", i, n+2), at))
		}
		i++
		return b.Apply("concat", nn.Concat{}, nodes[2:]...)
	}, func(nn.Tensor) {})
	b.Output(b.Apply("classifier", nn.Linear{Out: d.Classes, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	return b.Build()
}

// searched is an operation as it is searched for: a pooling is followed by a norm.
func searched(b *nn.Builder, op string, x nn.Tensor, stride int) nn.Tensor {
	y := dartsOperation(b, op, x, stride)
	if op == max3 || op == avg3 {
		return b.Apply("bn", b.Norm, y)
	}
	return y
}
