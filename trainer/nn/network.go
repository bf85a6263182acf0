package nn

import (
	"fmt"
	"slices"
)

// Shape is an example's height, width and channels. A vector has height and width 1.
type Shape struct{ H, W, C int }

// Len is the number of elements.
func (s Shape) Len() int { return s.H * s.W * s.C }

// String is for example "14x14x96".
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%d", s.H, s.W, s.C) }

// maxElements bounds an example's elements, so that no product of sizes overflows.
const maxElements = 1 << 31

// Node applies an operation to the outputs of earlier nodes.
type Node struct {
	Name   string // unique; parts are joined with "/", the outermost first: "block3/conv2"
	Op     Op
	In     []int  // indices of earlier nodes
	Shape  Shape  // of the output
	Module string // its name in files of weights; empty: Name with dots
	Vector bool   // a 1x1 convolution of a vector that is a linear layer in files of weights
}

// Network is a directed acyclic graph of nodes in topological order. Node 0 is the input and no other node is one.
// Networks are made by a Builder and, but for the modules' names, not changed afterwards.
type Network struct {
	Name    string
	Nodes   []Node
	Outputs []Output // the prediction first, then auxiliary heads
	Mixture []Row    // whose weights nodes mix by; none: an ordinary network
}

// Output is a node whose value enters the loss, as logits of classes.
type Output struct {
	Node   int
	Weight float64 // of its loss; 1 for the prediction
}

// Input is the shape of an input image.
func (n *Network) Input() Shape { return n.Nodes[0].Shape }

// Inputs lists the shapes of a node's inputs.
func (n *Network) Inputs(node int) []Shape {
	shapes := make([]Shape, len(n.Nodes[node].In))
	for k, i := range n.Nodes[node].In {
		shapes[k] = n.Nodes[i].Shape
	}
	return shapes
}

// Find returns the index of the node of a name, or -1.
func (n *Network) Find(name string) int {
	return slices.IndexFunc(n.Nodes, func(node Node) bool { return node.Name == name })
}

// Ancestors marks the nodes that some of the given nodes depend on, themselves included.
func (n *Network) Ancestors(of ...int) []bool {
	marked := make([]bool, len(n.Nodes))
	for _, i := range of {
		marked[i] = true
	}
	for i := len(n.Nodes) - 1; i >= 0; i-- {
		if marked[i] {
			for _, in := range n.Nodes[i].In {
				marked[in] = true
			}
		}
	}
	return marked
}

// Branches lists, of Variables(), the scales of batch norms that end the branch of a residual block: a sum adds what
// they give to something that the branch itself begins with.
func (n *Network) Branches() []int {
	ends := map[int]bool{}
	for _, node := range n.Nodes {
		if _, isSum := node.Op.(Add); !isSum {
			continue
		}
		for _, end := range node.In {
			if _, isNorm := n.Nodes[end].Op.(BatchNorm); !isNorm {
				continue
			}
			before := n.Ancestors(end)
			if slices.ContainsFunc(node.In, func(in int) bool { return in != end && before[in] }) {
				ends[end] = true
			}
		}
	}
	var scales []int
	for i, v := range n.Variables() {
		if v.Role == Scale && ends[v.Node] {
			scales = append(scales, i)
		}
	}
	return scales
}

// Regularized is the network with other probabilities of its drop paths, of which the largest is dropPath and the
// others keep their ratios to it, and with other weights of its auxiliary heads. Zeros leave them as they are, and a
// network without drop paths or heads stays as it is.
func (n *Network) Regularized(dropPath, auxiliary float64) *Network {
	out := *n
	out.Nodes, out.Outputs = slices.Clone(n.Nodes), slices.Clone(n.Outputs)
	most := 0.0
	for _, node := range n.Nodes {
		if op, ok := node.Op.(DropPath); ok {
			most = max(most, op.P)
		}
	}
	for i, node := range n.Nodes {
		if op, ok := node.Op.(DropPath); ok && dropPath > 0 {
			ratio := 1.0
			if most > 0 {
				ratio = op.P / most
			}
			out.Nodes[i].Op = DropPath{ratio * dropPath}
		}
	}
	for k := range out.Outputs {
		if k > 0 && auxiliary > 0 {
			out.Outputs[k].Weight = auxiliary
		}
	}
	return &out
}

// Cost is what a network or a node takes for one image.
type Cost struct {
	MAdds  int64 // multiply-accumulates of convolution and linear layers
	Params int64 // trainable parameters, batch norm included, running statistics not
}

// NodeCost is the cost of one node.
func (n *Network) NodeCost(node int) Cost {
	var c Cost
	op, ok := n.Nodes[node].Op.(parametric)
	if !ok {
		return c
	}
	in := n.Inputs(node)
	c.MAdds = op.madds(in, n.Nodes[node].Shape)
	for _, v := range op.variables(in) {
		if v.Role.Trainable() {
			c.Params += int64(v.Len())
		}
	}
	return c
}

// Cost is the sum over all nodes but those that auxiliary heads alone depend on. Squeeze-and-excitation is counted, and
// so is what no output depends on, such as the layer behind an input of a cell that the cell does not read: other
// programs' networks have it too.
func (n *Network) Cost() Cost {
	var total Cost
	needed := n.Ancestors(n.Outputs[0].Node)
	var heads []int
	for _, o := range n.Outputs[1:] {
		heads = append(heads, o.Node)
	}
	auxiliary := n.Ancestors(heads...)
	for i := range n.Nodes {
		if needed[i] || !auxiliary[i] {
			c := n.NodeCost(i)
			total.MAdds += c.MAdds
			total.Params += c.Params
		}
	}
	return total
}
