// Package torchmodule writes networks as source of Python: a file with one torch.nn.Module that needs torch and nothing
// else. Its parameters have the names and shapes of this program's files of weights, so that load_state_dict takes
// them.
package torchmodule

import (
	"fmt"
	"strings"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Encode is the content of the file. A network that is a mixture is none that a module can be written of.
func Encode(net *nn.Network) ([]byte, error) {
	w := &writer{net: net}
	main := net.Ancestors(net.Outputs[0].Node)
	var every []int
	for _, o := range net.Outputs {
		every = append(every, o.Node)
	}
	all := net.Ancestors(every...)
	var forward, heads []string
	for i, node := range net.Nodes[1:] {
		if !all[i+1] {
			continue
		}
		expression, err := w.node(i + 1)
		if err != nil {
			return nil, fmt.Errorf("%s: node %s: %w", net.Name, node.Name, err)
		}
		line := fmt.Sprintf("x%d = %s  # %s", i+1, expression, node.Name)
		if main[i+1] {
			forward = append(forward, line)
		} else {
			heads = append(heads, line)
		}
	}
	in := net.Input()
	var out strings.Builder
	fmt.Fprintf(&out, head, net.Name, in.C, in.H, in.W, net.Nodes[net.Outputs[0].Node].Shape.Len())
	for _, line := range w.modules {
		fmt.Fprintf(&out, "        %s\n", line)
	}
	if len(w.modules) == 0 {
		out.WriteString("        pass\n")
	}
	out.WriteString("\n    def forward(self, x0, heads=False):\n")
	for _, line := range forward {
		fmt.Fprintf(&out, "        %s\n", line)
	}
	fmt.Fprintf(&out, "        logits = x%d.flatten(1)\n        if not heads:\n            return logits\n",
		net.Outputs[0].Node)
	for _, line := range heads {
		fmt.Fprintf(&out, "        %s\n", line)
	}
	var list []string
	for _, o := range net.Outputs[1:] {
		list = append(list, fmt.Sprintf("(x%d.flatten(1), %v)", o.Node, o.Weight))
	}
	fmt.Fprintf(&out, "        return logits, [%s]\n", strings.Join(list, ", "))
	return []byte(out.String()), nil
}

const head = `"""%s

Written by ctnas. Network() is a torch.nn.Module whose input is [N, %d, %d, %d] and whose output [N, %d]: logits. With
heads=True it also returns the logits of auxiliary heads, each with the weight of its loss.
"""

import torch
from torch import nn
from torch.nn import functional as F


def put(parent, name, module):
    """Makes a module a part of another, in parts that its name goes through."""
    *path, last = name.split(".")
    for part in path:
        if part not in parent._modules:
            parent.add_module(part, nn.Module())
        parent = parent._modules[part]
    parent.add_module(last, module)


def drop_path(x, p, training):
    """Sets whole examples to zero."""
    if not training or p == 0:
        return x
    return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - p) / (1 - p)


def linear(module, x):
    return module(x.flatten(1))[:, :, None, None]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
`

type writer struct {
	net     *nn.Network
	modules []string // lines of the constructor
}

// node is the expression of a node, whose module is made if it has one.
func (w *writer) node(i int) (string, error) {
	node, in := w.net.Nodes[i], w.net.Inputs(i)
	x := make([]string, len(node.In))
	for k, n := range node.In {
		x[k] = fmt.Sprintf("x%d", n)
	}
	switch op := node.Op.(type) {
	case nn.Conv:
		return w.conv(node, op, in[0], x[0]), nil
	case nn.Linear:
		return fmt.Sprintf("linear(%s, %s)", w.module(node, "nn.Linear(%d, %d, bias=%s)", in[0].C, op.Out,
			truth(op.Bias)), x[0]), nil
	case nn.BatchNorm:
		m := w.module(node, "nn.BatchNorm2d(%d, eps=%v, momentum=%v, affine=%s)", in[0].C, op.Eps, op.Momentum,
			truth(!op.NoAffine))
		if op.Frozen {
			return fmt.Sprintf("F.batch_norm(%s, %s.running_mean, %s.running_var, %s.weight, %s.bias, False, 0, %v)",
				x[0], m, m, m, m, op.Eps), nil
		}
		return fmt.Sprintf("%s(%s)", m, x[0]), nil
	case nn.MaxPool:
		from, pad := padded(x[0], op.Pad, op.Kernel, "value=float('-inf')")
		return fmt.Sprintf("F.max_pool2d(%s, %s, %s, %s)", from, pair(op.Kernel), pair(op.Stride), pad), nil
	case nn.AvgPool:
		return average(op, x[0]), nil
	case nn.GlobalPool:
		return fmt.Sprintf("%s.mean((2, 3), keepdim=True)", x[0]), nil
	case nn.Activation:
		f, ok := activations[op]
		if !ok {
			return "", fmt.Errorf("%v has no form here", op)
		}
		return fmt.Sprintf(f, x[0]), nil
	case nn.Dropout:
		return fmt.Sprintf("F.dropout(%s, %v, self.training)", x[0], op.P), nil
	case nn.DropPath:
		return fmt.Sprintf("drop_path(%s, %v, self.training)", x[0], op.P), nil
	case nn.Add:
		return strings.Join(x, " + "), nil
	case nn.Gate:
		return x[0] + " * " + x[1], nil
	case nn.Concat:
		return fmt.Sprintf("torch.cat([%s], 1)", strings.Join(x, ", ")), nil
	case nn.Shuffle:
		return fmt.Sprintf("%s.unflatten(1, (%d, %d)).transpose(1, 2).flatten(1, 2)", x[0], op.Groups,
			in[0].C/op.Groups), nil
	case nn.Slice:
		return fmt.Sprintf("%s[:, %d:%d]", x[0], op.From, op.To), nil
	case nn.Zero:
		return fmt.Sprintf("torch.zeros_like(%s[:, :, ::%d, ::%d])", x[0], op.Stride, op.Stride), nil
	}
	return "", fmt.Errorf("%v has no form here", node.Op)
}

var activations = map[nn.Activation]string{nn.Identity: "%s", nn.ReLU: "F.relu(%s)", nn.ReLU6: "F.relu6(%s)",
	nn.HSigmoid: "F.hardsigmoid(%s)", nn.HSwish: "F.hardswish(%s)", nn.Sigmoid: "torch.sigmoid(%s)",
	nn.Swish: "F.silu(%s)", nn.GELU: "F.gelu(%s)"}

func (w *writer) conv(node nn.Node, op nn.Conv, in nn.Shape, x string) string {
	if node.Vector {
		return fmt.Sprintf("linear(%s, %s)", w.module(node, "nn.Linear(%d, %d, bias=%s)", in.C, op.Out,
			truth(op.Bias)), x)
	}
	from, pad := x, "0"
	if p := op.Pad; p.Top == p.Bottom && p.Left == p.Right && p.Top >= 0 && p.Left >= 0 {
		pad = fmt.Sprintf("(%d, %d)", p.Top, p.Left)
	} else {
		from = surrounded(x, p, "")
	}
	return fmt.Sprintf("%s(%s)", w.module(node, "nn.Conv2d(%d, %d, %s, %s, %s, %d, %d, bias=%s)", in.C, op.Out,
		pair(op.Kernel), pair(op.Stride), pad, op.Dilation, op.Groups, truth(op.Bias)), from)
}

// average is an average pooling.
func average(op nn.AvgPool, x string) string {
	shape := pair(op.Kernel) + ", " + pair(op.Stride)
	from, pad := padded(x, op.Pad, op.Kernel, "")
	if from == x {
		return fmt.Sprintf("F.avg_pool2d(%s, %s, %s, count_include_pad=%s)", x, shape, pad, truth(op.CountPad))
	}
	sum := fmt.Sprintf("F.avg_pool2d(%s, %s)", from, shape)
	if op.CountPad {
		return sum
	}
	ones := surrounded("torch.ones_like("+x+"[:1, :1])", op.Pad, "")
	return fmt.Sprintf("%s / F.avg_pool2d(%s, %s)", sum, ones, shape)
}

// padded is an input and the padding of a pooling: PyTorch's takes the same on both sides, at most half a window.
func padded(x string, p nn.Pad, kernel nn.Size, value string) (from, pad string) {
	if p.Top == p.Bottom && p.Left == p.Right && 2*p.Top <= kernel.H && 2*p.Left <= kernel.W {
		return x, fmt.Sprintf("(%d, %d)", p.Top, p.Left)
	}
	return surrounded(x, p, value), "0"
}

// surrounded is an input with padding around it, or with rows and columns left out.
func surrounded(x string, p nn.Pad, value string) string {
	if value != "" {
		value = ", " + value
	}
	return fmt.Sprintf("F.pad(%s, (%d, %d, %d, %d)%s)", x, p.Left, p.Right, p.Top, p.Bottom, value)
}

// module makes a node's module, and is the expression for it.
func (w *writer) module(node nn.Node, format string, args ...any) string {
	name := node.Module
	if name == "" {
		name = strings.ReplaceAll(node.Name, "/", ".")
	}
	w.modules = append(w.modules, fmt.Sprintf("put(self, %q, %s)", name, fmt.Sprintf(format, args...)))
	return fmt.Sprintf("self.get_submodule(%q)", name)
}

func pair(s nn.Size) string { return fmt.Sprintf("(%d, %d)", s.H, s.W) }

func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
