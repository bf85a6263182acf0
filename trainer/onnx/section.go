package onnx

import (
	"fmt"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Port is an input or an output of a file.
type Port struct {
	Name string `json:"name"`
	Dims []int  `json:"dims"` // behind that of the batch: channels, height and width, or channels alone
}

// EncodeSection is the content of a file with the part of a network that section[i] == k says of node i, to be timed by
// itself: what it reads of other nodes are inputs, called in/NODE, and what others read of it, or the prediction, are
// outputs, called out/NODE. A batch norm is folded only into a layer of the same section.
func EncodeSection(net *nn.Network, values [][]float32, section []int, k int, o Options) (text []byte, inputs,
	outputs []Port, err error) {
	if len(section) != len(net.Nodes) {
		return nil, nil, nil, fmt.Errorf("%s: sections of %d nodes, there are %d", net.Name, len(section),
			len(net.Nodes))
	}
	g := newGraph(net, values, o)
	for i, norm := range g.folded {
		if norm != 0 && section[norm] != section[i] {
			g.folded[i] = 0
		}
	}
	vector := vectors(net)
	port := func(side string, i int) Port {
		s := net.Nodes[i].Shape
		dims := []int{s.C, s.H, s.W}
		if vector[i] {
			dims = dims[:1]
		}
		return Port{side + "/" + net.Nodes[i].Name, dims}
	}
	read := make([]bool, len(net.Nodes)) // by another section, or the prediction
	prediction := net.Outputs[0].Node
	read[prediction] = true
	given := map[int]bool{}
	give := func(i int) {
		if !given[i] {
			p := port("in", i)
			given[i], g.outputs[i], g.vector[i] = true, p.Name, vector[i]
			inputs = append(inputs, p)
		}
	}
	if section[0] == k {
		give(0) // the images, of which a first section may only make something
	}
	for i, node := range net.Nodes {
		if i == 0 || !g.needed[i] {
			continue
		}
		for _, in := range node.In {
			if section[in] != section[i] {
				read[in] = true
				if section[i] == k {
					give(in)
				}
			}
		}
		if section[i] != k {
			continue
		}
		if err := g.node(i); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: node %s: %w", net.Name, node.Name, err)
		}
	}
	var in, out []message
	for _, p := range inputs {
		in = append(in, valueInfo(p.Name, p.Dims...))
	}
	for i := range net.Nodes {
		if i > 0 && g.needed[i] && section[i] == k && read[i] {
			p := port("out", i)
			g.emit("Identity", p.Name, []string{g.outputs[i]}, p.Name)
			out, outputs = append(out, valueInfo(p.Name, p.Dims...)), append(outputs, p)
		}
	}
	if len(inputs) == 0 || len(outputs) == 0 {
		return nil, nil, nil, fmt.Errorf("%s: section %d reads or writes nothing", net.Name, k)
	}
	text, err = g.model(in, out)
	return text, inputs, outputs, err
}

// vectors tells of which nodes the outputs have no height and width, as graph.node makes them.
func vectors(net *nn.Network) []bool {
	v := make([]bool, len(net.Nodes))
	for i, node := range net.Nodes {
		switch node.Op.(type) {
		case nn.Linear:
			v[i] = true
		case nn.BatchNorm, nn.Activation, nn.Dropout, nn.DropPath, nn.Slice:
			v[i] = v[node.In[0]]
		}
	}
	return v
}
