package nn

import (
	"cmp"
	"fmt"
	"strings"
)

// Role says what a variable is to its operation.
type Role uint8

// Roles. A convolution or linear layer has a weight and perhaps a bias, a batch norm the other four.
const (
	Weight Role = iota
	Bias
	Scale
	Shift
	Mean
	Variance
)

// torchNames are the names that PyTorch's modules give their parameters and buffers.
var torchNames = [...]string{Weight: "weight", Bias: "bias", Scale: "weight", Shift: "bias", Mean: "running_mean",
	Variance: "running_var"}

// Trainable tells whether gradients exist: running statistics have none.
func (r Role) Trainable() bool { return r != Mean && r != Variance }

// Variable is an array of numbers that belongs to a network, a parameter or a running statistic.
//
// In memory the output channels of a weight come last, next to each other as those of an NHWC tensor:
//
//	convolution  [kernel height, kernel width, input channels / groups, output channels]
//	linear       [inputs, outputs]
//
// so that a depthwise weight is [kernel height, kernel width, channels] and a dense one a matrix that an im2col matrix
// is multiplied with. Files have PyTorch's names and order: ToTorch and FromTorch convert.
type Variable struct {
	Node  int
	Name  string // PyTorch's: the module's, then what it is: "block3.conv2.weight"
	Role  Role
	Shape []int // in memory

	linear   bool // in files, whatever Shape is
	layer    layer
	identity bool // starts as the identity: KernelMatrix
}

// layer is that of a weight or bias, as initializers see it.
type layer struct {
	fan    Fan
	linear bool
}

// KernelMatrix is the variable that makes a kernel of as many taps of the inner part of one that is two taps larger
// each way: y = M x, of the channels of a depthwise convolution. It starts as the identity; files hold [out, in].
func KernelMatrix(name string, taps int) Variable {
	return Variable{Name: name, Role: Weight, Shape: []int{taps, taps}, identity: true}
}

// Len is the number of elements.
func (v Variable) Len() int {
	n := 1
	for _, d := range v.Shape {
		n *= d
	}
	return n
}

// TorchShape is the shape in PyTorch's order: [output channels, input channels / groups, kernel height, kernel width]
// for a convolution, [outputs, inputs] for a linear layer, one dimension otherwise.
func (v Variable) TorchShape() []int {
	switch s := v.Shape; len(s) {
	case 4:
		if v.linear {
			return []int{s[3], s[2]}
		}
		return []int{s[3], s[2], s[0], s[1]}
	case 2:
		return []int{s[1], s[0]}
	}
	return v.Shape
}

// ToTorch returns the values in PyTorch's order. FromTorch is its inverse.
func ToTorch[T any](v Variable, values []T) []T {
	out := make([]T, len(values))
	v.reorder(func(memory, torch int) { out[torch] = values[memory] })
	return out
}

// FromTorch returns values in PyTorch's order in that of memory.
func FromTorch[T any](v Variable, values []T) []T {
	out := make([]T, len(values))
	v.reorder(func(memory, torch int) { out[memory] = values[torch] })
	return out
}

// reorder visits every element with its index in memory and in PyTorch's order: both see a weight as a matrix of pixels
// by input channels by outputs.
func (v Variable) reorder(visit func(memory, torch int)) {
	pixels, in, out := 1, 1, v.Len()
	switch s := v.Shape; len(s) {
	case 4:
		pixels, in, out = s[0]*s[1], s[2], s[3]
	case 2:
		in, out = s[0], s[1]
	}
	for p := range pixels {
		for i := range in {
			for o := range out {
				visit((p*in+i)*out+o, (o*in+i)*pixels+p)
			}
		}
	}
}

// Variables lists all variables, in the order of their nodes; those of a node in the order of Role.
func (n *Network) Variables() []Variable {
	var all []Variable
	for i, node := range n.Nodes {
		op, ok := node.Op.(parametric)
		if !ok {
			continue
		}
		for _, v := range op.variables(n.Inputs(i)) {
			v.Node, v.linear = i, node.Vector
			if v.Role == Weight || v.Role == Bias {
				v.layer = n.layer(i)
			}
			v.Name = fmt.Sprintf("%s.%s", cmp.Or(node.Module, strings.ReplaceAll(node.Name, "/", ".")),
				torchNames[v.Role])
			all = append(all, v)
		}
	}
	return all
}

func (c Conv) variables(in []Shape) []Variable {
	return weights(c.Bias, c.Kernel.H, c.Kernel.W, in[0].C/c.Groups, c.Out)
}

func (l Linear) variables(in []Shape) []Variable { return weights(l.Bias, in[0].C, l.Out) }

// weights is a weight of a shape whose last dimension is the outputs, and a bias for each of them.
func weights(bias bool, shape ...int) []Variable {
	v := []Variable{{Role: Weight, Shape: shape}}
	if bias {
		v = append(v, Variable{Role: Bias, Shape: shape[len(shape)-1:]})
	}
	return v
}

func (b BatchNorm) variables(in []Shape) []Variable {
	c := []int{in[0].C}
	all := []Variable{{Role: Scale, Shape: c}, {Role: Shift, Shape: c}, {Role: Mean, Shape: c},
		{Role: Variance, Shape: c}}
	return all[2-b.Statistics():]
}
