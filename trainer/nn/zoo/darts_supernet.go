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

// dartsWeighted are the operations that the supernet has on each edge, but none, which has no weights.
var dartsWeighted = []string{max3, avg3, skip, sep3, sep5, dil3, dil5}

// dartsOwnNodes is how many nodes a cell has besides its inputs.
const dartsOwnNodes = 4

// Shared are the supernet's variables: those of a network in which a node is the sum of all operations on all of its
// edges.
func (d DARTSSupernet) Shared() (nn.Shared, error) {
	net, err := d.around(func(b *nn.Builder, nodes []nn.Tensor, _ string, at dartsPlace) nn.Tensor {
		var in []nn.Tensor
		for from, x := range nodes {
			for _, op := range dartsWeighted {
				in = append(in, searched(b.Scope("%s", dartsSlot(from, op)), op, x, at.strideFrom(from)))
			}
		}
		return b.Apply("sum", nn.Add{}, in...)
	})
	if err != nil {
		return nn.Shared{}, err
	}
	return nn.Shared{Name: "supernet of darts", Variables: net.Variables()}, nil
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
	net, err := d.around(func(b *nn.Builder, nodes []nn.Tensor, name string, at dartsPlace) nn.Tensor {
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
	at := map[string]int{}
	for i, v := range shared.Variables {
		at[v.Name] = i
	}
	p := nn.Path{Network: net}
	for _, v := range net.Variables() {
		name := v.Name
		if parts := strings.SplitN(name, ".", 4); len(parts) == 4 {
			if slot, found := slots[strings.Join(parts[:3], ".")]; found {
				name = slot + "." + parts[3]
			}
		}
		i, found := at[name]
		if !found {
			return p, fmt.Errorf("%s: the supernet has no %s", v.Name, name)
		}
		p.Bindings = append(p.Bindings, nn.Binding{Shared: i})
	}
	return p, shared.Check(p)
}

// dartsSlot names the place of an operation on an edge, below the node that it leads to.
func dartsSlot(from int, op string) string { return fmt.Sprintf("from%d/%s", from, op) }

// around is the network around the cells' nodes: node makes one of the nodes before it, in a scope of a name.
func (d DARTSSupernet) around(node func(b *nn.Builder, nodes []nn.Tensor, name string,
	at dartsPlace) nn.Tensor) (*nn.Network, error) {
	b, before, x := d.stem()
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
