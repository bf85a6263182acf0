package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// mode says what a program is for.
type mode int

const (
	train       mode = iota // batch statistics, dropout, loss, backward
	evaluate                // running statistics, loss
	recalibrate             // batch statistics, whose means become the running ones
	inspect                 // as train, forward only; nothing that outlives the program changes
)

// lowering turns a network into a program. It first lists the steps, each with the values it touches; then, when it is known how long each value lives, their
// memory is placed; then the steps are recorded.
type lowering struct {
	m          *Model
	name       string
	mode       mode
	accumulate bool // add to the gradient
	to         **exec.Program

	steps  []func(p *exec.Program)
	nodes  []int // of each step: the node that it computes, or the number of nodes for what follows them
	node   int   // of the steps that are added next
	values []*value
	raws   map[int]*raw
	order  []*raw
	ports  map[nn.View]*port
	reads  map[int][]*port // of each stored node
	flows  []bool          // of each node: a parameter comes before or in it
	live   []bool          // of each node: the loss depends on its output
	inside map[int]inside  // nodes that write where a concatenation wants them
}

// lower lists the steps of the program.
func (l *lowering) lower() {
	f := l.m.fusion
	l.raws, l.ports, l.reads = map[int]*raw{}, map[nn.View]*port{}, map[int][]*port{}
	l.flow()
	l.join()
	for _, i := range f.Stored {
		l.node = i
		l.forward(i)
	}
	l.node = len(l.m.Net.Nodes)
	if l.mode != inspect && l.mode != recalibrate {
		l.loss()
	}
	if l.mode == train {
		l.backward()
	}
}

// flow finds where gradients flow.
func (l *lowering) flow() {
	net := l.m.Net
	l.flows, l.live = make([]bool, len(net.Nodes)), make([]bool, len(net.Nodes))
	for i, node := range net.Nodes {
		f := l.m.ops[i].facts()
		l.flows[i] = f.trained
		for _, in := range node.In {
			l.flows[i] = l.flows[i] || l.flows[in] && !f.cut
		}
	}
	for _, out := range net.Outputs {
		l.live[out.Node] = true
	}
	for i := len(net.Nodes) - 1; i > 0; i-- {
		if l.live[i] && !l.m.ops[i].facts().cut {
			for _, in := range net.Nodes[i].In {
				l.live[in] = true
			}
		}
	}
}

// reading lists the views that the kernel of a stored node reads.
func (l *lowering) reading(i int) []nn.View {
	views := l.m.fusion.Reads(i)
	if o, ok := l.m.ops[i].(viewed); ok {
		return []nn.View{o.view(i, l.m.Net.Nodes[i], views[0])}
	}
	return views
}

// forward adds the steps that compute a stored node.
func (l *lowering) forward(i int) {
	r, op := &raw{node: i, shape: l.shape(i), norms: map[int]*normed{}}, l.m.ops[i]
	l.raws[i] = r
	l.order = append(l.order, r)
	var in []*port
	for _, v := range l.reading(i) {
		in = append(in, l.read(v, l.mode == train && l.live[i] && !op.facts().cut))
	}
	l.reads[i] = in
	sums := l.m.fusion.Summed[i] && l.mode != evaluate
	if summed := op.forward(l, r, in, sums); sums && !summed {
		l.step(l.touches(r, in), func(p *exec.Program) {
			r.sums = elementwise.Sum{Terms: []elementwise.Term{{In: r.plain()}}, Out: r.buffer(), Sums: true}.Record(p)
		})
	}
}

// output decides where an operation writes its output, in memory of its own or within a concatenation, and lists all that it touches.
func (l *lowering) output(r *raw, in []*port) []*value {
	if place, ok := l.inside[r.node]; ok {
		r.z, r.at, r.stride = place.whole, place.at, place.stride
	} else {
		r.z = l.value(r.shape.Len())
	}
	return l.touches(r, in)
}

// touches lists what an operation with these inputs touches.
func (l *lowering) touches(r *raw, in []*port) []*value {
	touched := r.touched()
	for _, q := range in {
		touched = append(touched, q.touched()...)
	}
	return touched
}

func (l *lowering) shape(node int) tensor.Shape {
	s := l.m.Net.Nodes[node].Shape
	return tensor.Shape{N: l.m.Batch, H: s.H, W: s.W, C: s.C}
}

// check tells what of a network the kernels do not run, and finds the operations of its nodes.
func (m *Model) check() (err error) {
	outputs := map[int]bool{}
	for _, out := range m.Net.Outputs {
		if outputs[out.Node] || out.Node == 0 {
			return fmt.Errorf("node %s is an output twice, or the input", m.Net.Nodes[out.Node].Name)
		}
		outputs[out.Node] = true
	}
	m.ops = make([]operation, len(m.Net.Nodes))
	for i, node := range m.Net.Nodes {
		if m.ops[i], err = lower(node.Op); err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	return nil
}
