package nn

// View says how a tensor is read when it is not stored itself: the stored output of a node, then batch norm, activation
// and gate, applied to each element as it is loaded. Norm and Act are nodes; 0, which is the input, stands for none.
type View struct {
	Node int // a node whose output is stored
	Norm int // a BatchNorm: the scale and shift that its statistics and parameters come to
	Act  int // an Activation
	Gate int // a node, whose own view gives each channel's factor
}

// plain tells whether a view is a stored tensor with nothing pending.
func (v View) plain() bool { return v.Norm == 0 && v.Act == 0 && v.Gate == 0 }

// Fusion is a network as fused kernels run it: only the outputs of some nodes are stored, raw, and batch norms,
// activations and gates are applied when a later kernel loads them. A batch norm's statistics are summed by the kernel
// that writes what it normalises.
type Fusion struct {
	*Network
	Views   []View // of each node's output
	Stored  []int  // the nodes that are stored, in order, node 0 first
	Summed  []bool // of each node: a batch norm reads its stored output and wants sums over each channel
	Reached []bool // of each node: an output depends on it; the others are not stored
}

// Fuse finds the fusions. A batch norm fuses with a stored tensor; an activation with a stored tensor that may be
// normalised; a gate with all of that. Where the order is another, such as a second activation, the tensor in between
// is stored. An activation that is Identity is nothing, and so is a dropout or drop path that never drops. Outputs are
// stored.
func Fuse(n *Network) *Fusion {
	outputs := make([]int, len(n.Outputs))
	for i, out := range n.Outputs {
		outputs[i] = out.Node
	}
	f := &Fusion{Network: n, Views: make([]View, len(n.Nodes)), Summed: make([]bool, len(n.Nodes)),
		Reached: n.Ancestors(outputs...)}
	stored := make([]bool, len(n.Nodes))
	store := func(i int) View {
		stored[i] = true
		f.Views[i] = View{Node: i}
		return f.Views[i]
	}
	for i, node := range n.Nodes {
		if !f.Reached[i] {
			continue
		}
		var v View
		if len(node.In) > 0 {
			v = f.Views[node.In[0]]
		}
		switch op := node.Op.(type) {
		case BatchNorm:
			if !v.plain() {
				v = store(node.In[0])
			}
			v.Norm = i
			f.Summed[v.Node] = f.Summed[v.Node] || !op.Frozen
		case Activation:
			if op == Identity {
				break
			}
			if v.Act != 0 || v.Gate != 0 {
				v = store(node.In[0])
			}
			v.Act = i
		case Gate:
			if v.Gate != 0 {
				v = store(node.In[0])
			}
			v.Gate = node.In[1]
		case Dropout:
			if op.P > 0 {
				v = store(i)
			}
		case DropPath:
			if op.P > 0 {
				v = store(i)
			}
		default:
			v = store(i)
		}
		f.Views[i] = v
	}
	for _, i := range outputs {
		store(i)
	}
	for i, s := range stored {
		if s {
			f.Stored = append(f.Stored, i)
		}
	}
	return f
}

// Reads lists the views of what the kernel of a stored node loads.
func (f *Fusion) Reads(node int) []View {
	views := make([]View, len(f.Nodes[node].In))
	for k, i := range f.Nodes[node].In {
		views[k] = f.Views[i]
	}
	return views
}
