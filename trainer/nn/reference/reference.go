// Package reference runs networks in plain float64: forward as in training and in evaluation, and backward. It is
// written to be read, and it is what the kernels' training steps are compared with.
package reference

import (
	"fmt"
	"slices"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Model is a network with the values of its variables.
type Model struct {
	Net    *nn.Network
	Values [][]float64 // of Net.Variables(), in the layout of memory
	// Mixture are the weights of the choices of Net.Mixture's rows, at first the same for all choices of a row.
	Mixture [][]float64
	first   []int // of each node: the index of its first variable
}

// New gives a network values, which it copies; they are those of Net.Variables() in the layout of memory.
func New(net *nn.Network, values [][]float32) *Model {
	m := &Model{Net: net, first: make([]int, len(net.Nodes))}
	variables := net.Variables()
	if len(values) != len(variables) {
		panic(fmt.Sprintf("reference: values of %d variables, want %d", len(values), len(variables)))
	}
	for i := len(variables) - 1; i >= 0; i-- {
		m.first[variables[i].Node] = i
	}
	for i, v := range variables {
		if len(values[i]) != v.Len() {
			panic(fmt.Sprintf("reference: %d values of %s, want %d", len(values[i]), v.Name, v.Len()))
		}
		x := make([]float64, v.Len())
		for k := range x {
			x[k] = float64(values[i][k])
		}
		m.Values = append(m.Values, x)
	}
	for _, row := range net.Mixture {
		n := len(row.Choices)
		m.Mixture = append(m.Mixture, slices.Repeat([]float64{1 / float64(n)}, n))
	}
	return m
}

// value is the k-th variable of a node.
func (m *Model) value(node, k int) []float64 { return m.Values[m.first[node]+k] }

// Mode says how a network runs.
type Mode struct {
	Train bool   // batch statistics, dropout and drop path
	Seed  uint64 // of dropout and drop path
	Step  uint32 // of training, for dropout and drop path
	// PathsOff is the part of drop paths' probabilities that is not in force: their schedule.
	PathsOff float64
}

// Pass is a forward pass: everything that the backward pass needs.
type Pass struct {
	*Model
	Mode
	Batch   int
	Outputs [][]float64       // of each node, NHWC
	stats   map[int]statistic // of batch norms
}

// Forward runs a batch of images, NHWC.
func (m *Model) Forward(images []float64, batch int, mode Mode) *Pass {
	if len(images) != batch*m.Net.Input().Len() {
		panic(fmt.Sprintf("reference: %d numbers for %d images of %s", len(images), batch, m.Net.Input()))
	}
	p := &Pass{Model: m, Mode: mode, Batch: batch, Outputs: make([][]float64, len(m.Net.Nodes)),
		stats: map[int]statistic{}}
	p.Outputs[0] = images
	for i := range m.Net.Nodes[1:] {
		p.Outputs[i+1] = p.forward(i + 1)
	}
	return p
}

// Logits are the values of the network's k-th output.
func (p *Pass) Logits(k int) []float64 { return p.Outputs[p.Net.Outputs[k].Node] }

func (p *Pass) forward(i int) []float64 {
	node := &p.Net.Nodes[i]
	x := p.Outputs[node.In[0]]
	y := make([]float64, p.Batch*node.Shape.Len())
	switch op := node.Op.(type) {
	case nn.Conv:
		p.conv(i, op).forward(y, x, p.value(i, 0))
		if op.Bias {
			addBias(y, p.value(i, 1))
		}
	case nn.Linear:
		linearForward(y, x, p.value(i, 0), p.Batch)
		if op.Bias {
			addBias(y, p.value(i, 1))
		}
	case nn.BatchNorm:
		p.stats[i] = p.statistic(i, op)
		scale, shift := p.affine(i, op)
		p.stats[i].forward(y, x, scale, shift)
	case nn.Activation:
		for k := range y {
			y[k] = op.Apply(x[k])
		}
	case nn.MaxPool:
		p.window(i, op.Kernel, op.Stride, op.Pad).max(func(out, in int) { y[out] = x[in] })
	case nn.AvgPool:
		p.window(i, op.Kernel, op.Stride, op.Pad).mean(op.CountPad, func(out, in int, share float64) {
			y[out] += share * x[in]
		})
	case nn.GlobalPool:
		p.global(i, func(out, in int, share float64) { y[out] += share * x[in] })
	case nn.Dropout, nn.DropPath:
		for k := range y {
			y[k] = x[k] * p.kept(i, k)
		}
	case nn.Add:
		for _, in := range node.In {
			addTo(y, p.Outputs[in])
		}
	case nn.Mix:
		for k, c := range p.Net.Choices(op) {
			for j, v := range p.Outputs[node.In[k]] {
				y[j] += p.Mixture[c.Row][c.Choice] * v
			}
		}
	case nn.Gate:
		g := p.Outputs[node.In[1]]
		p.gated(i, func(k, gate int) { y[k] = x[k] * g[gate] })
	case nn.Concat, nn.Shuffle, nn.Slice:
		p.moved(i, func(out, source, in int) { y[out] = p.Outputs[node.In[source]][in] })
	case nn.Zero:
	default:
		panic(fmt.Sprintf("reference: node %s: %s", node.Name, node.Op))
	}
	return y
}

// Gradients are derivatives of a loss.
type Gradients struct {
	Values [][]float64 // by the variables, as Model.Values; nil for running statistics
	Nodes  [][]float64 // by the nodes' outputs; nil where the loss does not depend on one. Nodes[0] is by the images
	// Mixture are by the weights of the mixture, as Model.Mixture.
	Mixture [][]float64
}

// Backward passes the derivatives of a loss by the network's outputs, in the order of Net.Outputs, back to all
// variables and nodes. In a pass of evaluation batch norms are constant scales and shifts.
func (p *Pass) Backward(outputs ...[]float64) *Gradients {
	g := &Gradients{Values: make([][]float64, len(p.Values)), Nodes: make([][]float64, len(p.Outputs))}
	for i, v := range p.Net.Variables() {
		if v.Role.Trainable() {
			g.Values[i] = make([]float64, v.Len())
		}
	}
	for _, row := range p.Mixture {
		g.Mixture = append(g.Mixture, make([]float64, len(row)))
	}
	for k, out := range p.Net.Outputs {
		addTo(g.node(p, out.Node), outputs[k])
	}
	for i := len(p.Outputs) - 1; i > 0; i-- {
		if g.Nodes[i] != nil {
			p.backward(i, g)
		}
	}
	return g
}

// node is the gradient by a node's output, so far.
func (g *Gradients) node(p *Pass, i int) []float64 {
	if g.Nodes[i] == nil {
		g.Nodes[i] = make([]float64, len(p.Outputs[i]))
	}
	return g.Nodes[i]
}

// backward adds to the gradients of a node's inputs and variables.
func (p *Pass) backward(i int, g *Gradients) {
	node := &p.Net.Nodes[i]
	x, dx, dy := p.Outputs[node.In[0]], g.node(p, node.In[0]), g.Nodes[i]
	value := func(k int) []float64 { return g.Values[p.first[i]+k] }
	switch op := node.Op.(type) {
	case nn.Conv:
		p.conv(i, op).backward(dx, value(0), dy, x, p.value(i, 0))
		if op.Bias {
			sumBias(value(1), dy)
		}
	case nn.Linear:
		linearBackward(dx, value(0), dy, x, p.value(i, 0), p.Batch)
		if op.Bias {
			sumBias(value(1), dy)
		}
	case nn.BatchNorm:
		scale, dscale := p.affine(i, op) // gradients in what are no variables go nowhere
		dshift := make([]float64, len(scale))
		if !op.NoAffine {
			dscale, dshift = value(0), value(1)
		}
		p.stats[i].backward(dx, dscale, dshift, dy, x, scale)
	case nn.Activation:
		for k := range dx {
			dx[k] += dy[k] * op.Slope(x[k])
		}
	case nn.MaxPool:
		p.window(i, op.Kernel, op.Stride, op.Pad).max(func(out, in int) { dx[in] += dy[out] })
	case nn.AvgPool:
		p.window(i, op.Kernel, op.Stride, op.Pad).mean(op.CountPad, func(out, in int, share float64) {
			dx[in] += share * dy[out]
		})
	case nn.GlobalPool:
		p.global(i, func(out, in int, share float64) { dx[in] += share * dy[out] })
	case nn.Dropout, nn.DropPath:
		for k := range dx {
			dx[k] += dy[k] * p.kept(i, k)
		}
	case nn.Add:
		for _, in := range node.In {
			addTo(g.node(p, in), dy)
		}
	case nn.Mix:
		for k, c := range p.Net.Choices(op) {
			x, dx := p.Outputs[node.In[k]], g.node(p, node.In[k])
			for j, d := range dy {
				dx[j] += p.Mixture[c.Row][c.Choice] * d
				g.Mixture[c.Row][c.Choice] += d * x[j]
			}
		}
	case nn.Gate:
		gate, dgate := p.Outputs[node.In[1]], g.node(p, node.In[1])
		p.gated(i, func(k, c int) {
			dx[k] += dy[k] * gate[c]
			dgate[c] += dy[k] * x[k]
		})
	case nn.Concat, nn.Shuffle, nn.Slice:
		p.moved(i, func(out, source, in int) { g.node(p, node.In[source])[in] += dy[out] })
	case nn.Zero:
	}
}

func addTo(y, x []float64) {
	for k := range y {
		y[k] += x[k]
	}
}
