package nn

import (
	"fmt"
	"slices"
	"strings"
)

// Tensor is a node's output while a network is built.
type Tensor struct {
	Shape
	node int
}

// Builder makes a network node by node. The first error is kept and returned by Build; what is applied after it is
// ignored.
type Builder struct {
	*building
	scope string
}

// building is what the builders of all scopes share.
type building struct {
	// Norm is the batch norm that ConvNorm and FactorizedReduce use.
	Norm  BatchNorm
	net   Network
	names map[string]bool
	err   error
}

// NewBuilder starts a network of a name over images of a shape and returns its input. Batch norms are PyTorch's, eps
// 1e-5 and momentum 0.1, until Norm is set.
func NewBuilder(name string, image Shape) (*Builder, Tensor) {
	b := &Builder{building: &building{Norm: BatchNorm{Eps: 1e-5, Momentum: 0.1}, net: Network{Name: name},
		names: map[string]bool{}}}
	return b, b.Apply("input", Input{image})
}

// Scope returns a builder of the same network whose nodes are named under name.
func (b *Builder) Scope(name string, args ...any) *Builder {
	return &Builder{b.building, b.scope + fmt.Sprintf(name, args...) + "/"}
}

// Fail records an error of the scope.
func (b *Builder) Fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%s: %s: %s", b.net.Name, strings.TrimSuffix(b.scope, "/"), fmt.Sprintf(format, args...))
	}
}

// Apply adds a node and returns its output.
func (b *Builder) Apply(name string, op Op, in ...Tensor) Tensor {
	if b.err != nil {
		return Tensor{}
	}
	node := Node{Name: b.scope + name, Op: op}
	shapes := make([]Shape, len(in))
	for k, t := range in {
		shapes[k] = t.Shape
		node.In = append(node.In, t.node)
	}
	var err error
	if least, most := arity(op); len(in) < least || len(in) > most {
		err = fmt.Errorf("of %d tensors", len(in))
	} else if most == 0 && len(b.net.Nodes) > 0 {
		err = fmt.Errorf("besides the first")
	} else if node.Shape, err = op.infer(shapes); err == nil && tooLarge(node.Shape) {
		err = fmt.Errorf("to %s: more than %d elements", node.Shape, maxElements)
	} else if mix, ok := op.(Mix); ok && err == nil {
		err = b.net.checkMix(mix, len(in))
	}
	switch {
	case err != nil:
		b.err = fmt.Errorf("%s: %s: %s %w", b.net.Name, node.Name, op, err)
	case b.names[node.Name]:
		b.err = fmt.Errorf("%s: there are two nodes %s", b.net.Name, node.Name)
	}
	b.names[node.Name] = true
	b.net.Nodes = append(b.net.Nodes, node)
	return Tensor{node.Shape, len(b.net.Nodes) - 1}
}

// ConvNorm is a convolution, a batch norm and an activation, in the nodes conv, bn and act of the scope.
func (b *Builder) ConvNorm(x Tensor, c Conv, act Activation) Tensor {
	x = b.Apply("bn", b.Norm, b.Apply("conv", c, x))
	if act == Identity {
		return x
	}
	return b.Apply("act", act, x)
}

// SqueezeExcite gates each channel of x with gate(W2 act(W1 mean(x) + b1) + b2), W1 to mid channels (Hu et al. 2018),
// in nodes under se.
func (b *Builder) SqueezeExcite(x Tensor, mid int, act, gate Activation) Tensor {
	b = b.Scope("se")
	s := b.Apply("pool", GlobalPool{}, x)
	s = b.Apply("act", act, b.Apply("reduce", Conv2D(1, mid).Biased(), s))
	s = b.Apply("gate", gate, b.Apply("expand", Conv2D(1, x.C).Biased(), s))
	return b.Apply("scale", Gate{}, x, s)
}

// FactorizedReduce halves height and width (rounding up) without leaving out pixels: half of the out channels are a 1x1
// convolution of the even rows and columns, half of the odd ones; ReLU comes before and batch norm after (DARTS).
func (b *Builder) FactorizedReduce(x Tensor, out int) Tensor {
	x = b.Apply("act", ReLU, x)
	half := Conv2D(1, out/2).Strided(2)
	even := b.Apply("even", half, x)
	half.Out = out - out/2
	odd := b.Apply("odd", half.Padded(Pad{-1, 1, -1, 1}), x)
	return b.Apply("bn", b.Norm, b.Apply("concat", Concat{}, even, odd))
}

// Output makes a tensor of logits an output: the first is the prediction, with weight 1, any other an auxiliary head
// with a weight of its loss.
func (b *Builder) Output(logits Tensor, weight float64) {
	if logits.H != 1 || logits.W != 1 {
		b.Fail("output of %s, want a vector", logits.Shape)
	}
	b.net.Outputs = append(b.net.Outputs, Output{logits.node, weight})
}

// Build returns the network, or the first error.
func (b *Builder) Build() (*Network, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case len(b.net.Outputs) == 0:
		return nil, fmt.Errorf("%s: no output", b.net.Name)
	case b.net.Outputs[0].Weight != 1:
		return nil, fmt.Errorf("%s: the prediction's weight is %v, want 1", b.net.Name, b.net.Outputs[0].Weight)
	}
	net := b.net
	net.Nodes, net.Mixture = slices.Clone(net.Nodes), slices.Clone(net.Mixture)
	net.price()
	return &net, nil
}
