package trainer

import (
	"fmt"

	"github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/elementwise"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
	"github.com/ctnas/ctnas/trainer/nn"
)

// mode says what a program is for.
type mode int

const (
	train       mode = iota // batch statistics, dropout, loss, backward
	evaluate                // running statistics, loss
	recalibrate             // batch statistics, whose means become the running ones
	transient               // batch statistics, which nothing keeps, loss
	inspect                 // as train, forward only; nothing that outlives the program changes
)

// lowering turns a network into a program in three passes. It first lists the steps, each with the values that it
// touches. Then it is known how long each value lives, and plan gives each its memory. Then the steps are recorded.
type lowering struct {
	m          *Model
	name       string
	mode       mode
	accumulate bool // add to the gradient
	to         **exec.Program
	// bucket cuts the program behind every so many floats of the gradient that are whole; 0: nowhere. rest is what
	// follows the first cut.
	bucket int
	rest   []segment

	steps    []func(p *exec.Program)
	nodes    []int // of each step: the node that it computes; the number of nodes for what follows them all
	node     int   // the node of the steps that are added next
	values   []*value
	outputs  map[int]*output
	order    []*output // as they are computed
	operands map[nn.View]*operand
	reads    map[int][]*operand // of each stored node: what its operation reads
	flows    []bool             // of each node: a parameter or a mixture's weight that learns comes before it or in it
	live     []bool             // of each node: the loss depends on its output
	inside   map[int]inside     // of the nodes that write straight into a concatenation: where

	patches map[conv.Conv]*value // of the images, by the convolution that reads them
	packing *conv.Packing        // of the weights that the program's convolutions read
	sums    *partial.Sums        // of the gradients that operations leave in parts; nil: they add them up themselves
	summed  []*value             // values that sums reads
	weights waitingWeights
}

// lower lists the steps of the program.
func (l *lowering) lower() {
	f := l.m.fusion
	l.outputs, l.operands, l.reads = map[int]*output{}, map[nn.View]*operand{}, map[int][]*operand{}
	l.patches = map[conv.Conv]*value{}
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
	if l.mode == recalibrate && l.m.Options.teach {
		l.teach(l.read(nn.View{Node: l.m.Net.Outputs[0].Node}, false))
	}
	if l.mode == train {
		l.backward()
	}
}

// flow finds the nodes that gradients flow through: what learns comes before them, and the loss depends on them.
func (l *lowering) flow() {
	net := l.m.Net
	l.flows, l.live = make([]bool, len(net.Nodes)), make([]bool, len(net.Nodes))
	for i, node := range net.Nodes {
		f := l.m.ops[i].facts()
		l.flows[i] = f.trained && !l.m.fixedWeights || f.mixes && !l.m.fixedMixture
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

// reading lists the views that the operation of a stored node reads.
func (l *lowering) reading(i int) []nn.View {
	views := l.m.fusion.Reads(i)
	if o, ok := l.m.ops[i].(viewed); ok {
		return []nn.View{o.view(i, l.m.Net.Nodes[i], views[0])}
	}
	return views
}

// forward adds the steps that compute a stored node.
func (l *lowering) forward(i int) {
	out, op := &output{node: i, shape: l.shape(i), norms: map[int]*normed{}}, l.m.ops[i]
	l.outputs[i] = out
	l.order = append(l.order, out)
	var in []*operand
	for _, v := range l.reading(i) {
		in = append(in, l.read(v, l.mode == train && l.live[i] && !op.facts().cut))
	}
	l.reads[i] = in
	sums := l.m.fusion.Summed[i] && l.mode != evaluate
	if summed := op.forward(l, out, in, sums); sums && !summed {
		l.step(l.touches(out, in), func(p *exec.Program) {
			out.sums = elementwise.Sum{Terms: []elementwise.Term{{In: out.plain()}}, Out: out.buffer(),
				Sums: true}.Record(p)
		})
	}
}

// allocate gives the output of an operation memory of its own, or its part of a concatenation, and lists the values
// that the operation touches.
func (l *lowering) allocate(out *output, in []*operand) []*value {
	if part, ok := l.inside[out.node]; ok {
		out.z, out.at, out.stride = part.whole, part.at, part.stride
	} else {
		out.z = l.value(out.shape.Len())
	}
	return l.touches(out, in)
}

// touches lists the values that an operation with these operands touches.
func (l *lowering) touches(out *output, in []*operand) []*value {
	touched := out.touched()
	for _, x := range in {
		touched = append(touched, x.touched()...)
	}
	return touched
}

func (l *lowering) shape(node int) tensor.Shape {
	s := l.m.Net.Nodes[node].Shape
	return tensor.Shape{N: l.m.Batch, H: s.H, W: s.W, C: s.C}
}

// check finds the operations that run a network's nodes; it is an error if the kernels have none for a node.
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
