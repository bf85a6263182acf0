// Package onnx writes networks with their weights as ONNX files (github.com/onnx/onnx), opset 17.
//
// The graph computes the prediction in evaluation: dropout and auxiliary heads are gone. Its input is "images", [N,
// channels, height, width] with any N, its output "logits", [N, classes]. Nodes bear the names that they have here,
// weights those of PyTorch. Run computes what a written file says, for a check.
package onnx

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/trainer/nn"
)

const (
	irVersion = 8
	opset     = 17

	inputName, outputName = InputName, "logits"
)

// InputName is what an exported network's input is called.
const InputName = "images"

// Options of an export.
type Options struct {
	FoldNorms bool              // multiply batch norms into the convolutions and linear layers before them
	Version   string            // of this program, noted in the file
	Metadata  map[string]string // what the file says of itself, as metadata_props
}

// Write writes a network with the values of its variables, in the layout of memory, into a file, which appears whole or
// not at all.
func Write(path string, net *nn.Network, values [][]float32, o Options) error {
	text, err := Encode(net, values, o)
	if err != nil {
		return err
	}
	return files.Write(path, text)
}

// Encode is the content of the file.
func Encode(net *nn.Network, values [][]float32, o Options) ([]byte, error) {
	g := newGraph(net, values, o)
	for i := range net.Nodes[1:] {
		if g.needed[i+1] {
			if err := g.node(i + 1); err != nil {
				return nil, fmt.Errorf("%s: node %s: %w", net.Name, net.Nodes[i+1].Name, err)
			}
		}
	}
	prediction := net.Outputs[0].Node
	g.emit("Identity", outputName, []string{g.flat(prediction)}, outputName)

	in := net.Input()
	return g.model([]message{valueInfo(inputName, in.C, in.H, in.W)},
		[]message{valueInfo(outputName, net.Nodes[prediction].Shape.C)})
}

// model is the file of what has been emitted, with its inputs and outputs.
func (g *graph) model(inputs, outputs []message) ([]byte, error) {
	var graph message // GraphProto: node = 1, name = 2, initializer = 5, input = 11, output = 12
	for _, n := range g.nodes {
		graph.bytes(1, n)
	}
	graph.text(2, g.net.Name)
	for _, t := range g.initializers {
		graph.bytes(5, t)
	}
	for _, in := range inputs {
		graph.bytes(11, in)
	}
	for _, out := range outputs {
		graph.bytes(12, out)
	}
	o := g.options
	// OperatorSetIdProto: version = 2. ModelProto: ir_version = 1, producer_name = 2, producer_version = 3, graph = 7,
	// opset_import = 8.
	var set, model message
	// metadata_props = 14
	set.integer(2, opset)
	model.integer(1, irVersion)
	model.text(2, "ctnas")
	model.text(3, o.Version)
	model.bytes(7, graph)
	model.bytes(8, set)
	for _, key := range slices.Sorted(maps.Keys(o.Metadata)) { // StringStringEntryProto: key = 1, value = 2
		var property message
		property.text(1, key)
		property.text(2, o.Metadata[key])
		model.bytes(14, property)
	}
	if len(model) > math.MaxInt32 {
		return nil, fmt.Errorf("%s: %d bytes, and a protobuf message holds at most %d", g.net.Name, len(model),
			math.MaxInt32)
	}
	return model, nil
}

// graph is a graph in the making.
type graph struct {
	net          *nn.Network
	options      Options
	variables    []nn.Variable
	values       [][]float32
	first        []int  // of each node: its first variable
	needed       []bool // of each node: the prediction depends on it
	folded       []int  // of each node: the batch norm that is multiplied into it, 0 for none
	outputs      []string
	vector       []bool // of each node: its output has no height and width
	nodes        []message
	initializers []message
	constants    map[string]bool
}

func newGraph(net *nn.Network, values [][]float32, o Options) *graph {
	n := len(net.Nodes)
	g := &graph{net: net, options: o, variables: net.Variables(), values: values, first: make([]int, n),
		folded: make([]int, n), outputs: make([]string, n), vector: make([]bool, n),
		needed: net.Ancestors(net.Outputs[0].Node), constants: map[string]bool{}}
	for i := len(g.variables) - 1; i >= 0; i-- {
		g.first[g.variables[i].Node] = i
	}
	g.outputs[0] = inputName
	if !o.FoldNorms {
		return g
	}
	readers := make([]int, n)
	for i, node := range net.Nodes {
		if g.needed[i] {
			for _, in := range node.In {
				readers[in]++
			}
		}
	}
	readers[net.Outputs[0].Node]++
	for i, node := range net.Nodes {
		if _, ok := node.Op.(nn.BatchNorm); !ok || readers[node.In[0]] > 1 {
			continue
		}
		switch net.Nodes[node.In[0]].Op.(type) {
		case nn.Conv, nn.Linear:
			g.folded[node.In[0]] = i
		}
	}
	return g
}

// emit adds a node and returns the name of its output.
func (g *graph) emit(op, name string, in []string, out string, attributes ...message) string {
	g.nodes = append(g.nodes, nodeProto(op, name, in, out, attributes...))
	return out
}

// floats and ints add an initializer and return its name; one that is there already is not added again.
func (g *graph) floats(name string, shape []int, values ...float32) string {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return g.constant(name, typeFloat, shape, raw)
}

func (g *graph) ints(values ...int) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return g.constant("const/"+strings.ReplaceAll(fmt.Sprint(values), " ", ","), typeInt64, []int{len(values)}, raw)
}

func (g *graph) constant(name string, kind int64, shape []int, raw []byte) string {
	if !g.constants[name] {
		g.constants[name] = true
		g.initializers = append(g.initializers, tensorProto(name, kind, shape, raw))
	}
	return name
}

// flat is a node's output as [N, channels], deep as [N, channels, height, width].
func (g *graph) flat(i int) string {
	if g.vector[i] {
		return g.outputs[i]
	}
	return g.once("Flatten", g.outputs[i]+"/flat", []string{g.outputs[i]}, attribute("axis", 1))
}

func (g *graph) deep(i int) string {
	if !g.vector[i] {
		return g.outputs[i]
	}
	return g.once("Unsqueeze", g.outputs[i]+"/deep", []string{g.outputs[i], g.ints(2, 3)})
}

// once is emit, unless the output is there.
func (g *graph) once(op, out string, in []string, attributes ...message) string {
	if g.constants[out] {
		return out
	}
	g.constants[out] = true
	return g.emit(op, out, in, out, attributes...)
}

// node adds what computes a node.
func (g *graph) node(i int) error {
	node := g.net.Nodes[i]
	name, input := node.Name, node.In[0]
	emit := func(op string, in []string, attributes ...message) {
		g.outputs[i] = g.emit(op, name, in, name, attributes...)
	}
	same := func() string { // the input of an operation that keeps the rank
		g.vector[i] = g.vector[input]
		return g.outputs[input]
	}
	switch op := node.Op.(type) {
	case nn.Conv:
		x, pad := g.deep(input), op.Pad
		if pad.Top < 0 || pad.Bottom < 0 || pad.Left < 0 || pad.Right < 0 { // a Conv has none of these, a Pad has
			x = g.emit("Pad", name+"/pad", []string{x, g.ints(0, 0, pad.Top, pad.Left, 0, 0, pad.Bottom, pad.Right)},
				name+"/pad")
			pad = nn.Pad{}
		}
		emit("Conv", append([]string{x}, g.layer(i, op.Bias)...),
			attribute("kernel_shape", []int{op.Kernel.H, op.Kernel.W}), strides(op.Stride), pads(pad),
			attribute("dilations", []int{op.Dilation, op.Dilation}), attribute("group", op.Groups))
	case nn.Linear:
		emit("Gemm", append([]string{g.flat(input)}, g.layer(i, op.Bias)...), attribute("transB", 1))
		g.vector[i] = true
	case nn.BatchNorm:
		x := same()
		if g.folded[input] == i {
			g.outputs[i] = x
			return nil
		}
		in := []string{x}
		names, values := g.norm(i, op)
		for k, v := range values {
			in = append(in, g.floats(names[k], []int{len(v)}, v...))
		}
		emit("BatchNormalization", in, attribute("epsilon", op.Eps))
	case nn.Activation:
		return g.activation(i, op, same())
	case nn.MaxPool:
		emit("MaxPool", []string{g.deep(input)}, attribute("kernel_shape", []int{op.Kernel.H, op.Kernel.W}),
			strides(op.Stride), pads(op.Pad))
	case nn.AvgPool:
		counted := 0
		if op.CountPad {
			counted = 1
		}
		emit("AveragePool", []string{g.deep(input)}, attribute("kernel_shape", []int{op.Kernel.H, op.Kernel.W}),
			strides(op.Stride), pads(op.Pad), attribute("count_include_pad", counted))
	case nn.GlobalPool:
		emit("GlobalAveragePool", []string{g.deep(input)})
	case nn.Dropout, nn.DropPath:
		g.outputs[i] = same()
	case nn.Add:
		emit("Sum", g.all(node.In))
	case nn.Gate:
		emit("Mul", g.all(node.In))
	case nn.Concat:
		emit("Concat", g.all(node.In), attribute("axis", 1))
	case nn.Shuffle:
		s := node.Shape
		x := g.emit("Reshape", name+"/groups", []string{g.deep(input), g.ints(0, op.Groups, s.C/op.Groups, s.H, s.W)},
			name+"/groups")
		x = g.emit("Transpose", name+"/transpose", []string{x}, name+"/transpose",
			attribute("perm", []int{0, 2, 1, 3, 4}))
		emit("Reshape", []string{x, g.ints(0, s.C, s.H, s.W)})
	case nn.Slice:
		emit("Slice", []string{same(), g.ints(op.From), g.ints(op.To), g.ints(1)})
	case nn.Zero:
		s := node.Shape
		batch := g.emit("Shape", name+"/batch", []string{g.outputs[input]}, name+"/batch", attribute("start", 0),
			attribute("end", 1))
		shape := g.emit("Concat", name+"/shape", []string{batch, g.ints(s.C, s.H, s.W)}, name+"/shape",
			attribute("axis", 0))
		emit("ConstantOfShape", []string{shape},
			attribute("value", tensorProto("", typeFloat, []int{1}, make([]byte, 4))))
	default:
		return fmt.Errorf("there is no ONNX form of a %s", node.Op)
	}
	return nil
}

// all are the outputs of nodes, with height and width.
func (g *graph) all(nodes []int) []string {
	var names []string
	for _, i := range nodes {
		names = append(names, g.deep(i))
	}
	return names
}

func (g *graph) activation(i int, op nn.Activation, x string) error {
	name := g.net.Nodes[i].Name
	switch op {
	case nn.Identity:
		g.outputs[i] = x
	case nn.ReLU:
		g.outputs[i] = g.emit("Relu", name, []string{x}, name)
	case nn.ReLU6:
		g.outputs[i] = g.emit("Clip", name, []string{x, g.floats("const/0", nil, 0), g.floats("const/6", nil, 6)}, name)
	case nn.HSigmoid:
		g.outputs[i] = g.emit("HardSigmoid", name, []string{x}, name, attribute("alpha", 1.0/6), attribute("beta", 0.5))
	case nn.HSwish:
		g.outputs[i] = g.emit("HardSwish", name, []string{x}, name)
	case nn.Sigmoid:
		g.outputs[i] = g.emit("Sigmoid", name, []string{x}, name)
	case nn.Swish:
		s := g.emit("Sigmoid", name+"/sigmoid", []string{x}, name+"/sigmoid")
		g.outputs[i] = g.emit("Mul", name, []string{x, s}, name)
	case nn.GELU: // Opset 20 has it as an operator.
		part := func(op, suffix string, in ...string) string { return g.emit(op, name+suffix, in, name+suffix) }
		erf := part("Erf", "/erf", part("Mul", "/scaled", x, g.floats("const/sqrt0.5", nil, math.Sqrt2/2)))
		half := part("Mul", "/half", x, g.floats("const/0.5", nil, 0.5))
		g.outputs[i] = part("Mul", "", half, part("Sum", "/sum", erf, g.floats("const/1", nil, 1)))
	default:
		return fmt.Errorf("there is no ONNX form of %s", op)
	}
	return nil
}

// layer adds the weight and the bias of a convolution or linear layer, with the batch norm that is folded into it: w *
// s and (b - mean) * s + shift with s = scale / sqrt(variance + eps).
func (g *graph) layer(i int, biased bool) []string {
	k := g.first[i]
	weight := g.variables[k]
	w := nn.ToTorch(weight, g.values[k])
	name := strings.TrimSuffix(weight.Name, "weight") + "bias"
	var bias []float32
	if biased {
		name, bias = g.variables[k+1].Name, g.values[k+1]
	}
	if n := g.folded[i]; n != 0 {
		op := g.net.Nodes[n].Op.(nn.BatchNorm)
		_, norm := g.norm(n, op)
		out := len(norm[0])
		folded := make([]float32, out)
		for c := range out {
			s := float64(norm[0][c]) / math.Sqrt(float64(norm[3][c])+op.Eps)
			b := -float64(norm[2][c])
			if biased {
				b += float64(bias[c])
			}
			folded[c] = float32(b*s + float64(norm[1][c]))
			row := w[c*len(w)/out : (c+1)*len(w)/out]
			for j := range row {
				row[j] = float32(float64(row[j]) * s)
			}
		}
		bias = folded
	}
	names := []string{g.floats(weight.Name, weight.TorchShape(), w...)}
	if bias != nil {
		names = append(names, g.floats(name, []int{len(bias)}, bias...))
	}
	return names
}

// norm is a batch norm's scale, shift, mean and variance by name. Without scale and shift these are constants, ones and
// zeros, which all norms of as many channels share.
func (g *graph) norm(i int, op nn.BatchNorm) (names [4]string, values [4][]float32) {
	at := g.first[i] - 2 + op.Statistics()
	for k := 2 - op.Statistics(); k < 4; k++ {
		names[k], values[k] = g.variables[at+k].Name, g.values[at+k]
	}
	if op.NoAffine {
		c := g.net.Nodes[i].Shape.C
		names[0], names[1] = fmt.Sprintf("const/ones/%d", c), fmt.Sprintf("const/zeros/%d", c)
		values[0], values[1] = slices.Repeat([]float32{1}, c), make([]float32, c)
	}
	return names, values
}

func strides(s nn.Size) message { return attribute("strides", []int{s.H, s.W}) }

func pads(p nn.Pad) message { return attribute("pads", []int{p.Top, p.Left, p.Bottom, p.Right}) }
