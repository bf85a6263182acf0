package space

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Layer is a part of a network that is a chain, as people draw it. What is 0 or empty is not said.
type Layer struct {
	Stage     string  // of layers that belong together: "3"; empty of what stands around the stages
	Name      string  // what it is: "block", "k3e6"
	Kind      string  // one of the space's Kinds; empty of what is no choice
	Kernel    int     // side of the largest kernel of a convolution
	Expansion float64 // channels in the midst, as a multiple of those that it gets
	Channels  int     // of its output
	Stride    int
	Side      int // of its output, in pixels
}

// Layered is an architecture whose network is a chain of layers.
type Layered interface {
	Arch
	// Layers are those of the network that costs are of, from the image on; nil where there is none.
	Layers() []Layer
}

// LayeredSpace is a space of such architectures.
type LayeredSpace interface {
	Space
	// Kinds are what tells layers apart at a glance, such as the sizes of their kernels; nil where architectures have
	// no layers.
	Kinds() []string
}

var (
	_ Layered      = MobileNet{}
	_ Layered      = BlockChain{}
	_ Layered      = FileArch{}
	_ LayeredSpace = MobileNetV3{}
	_ LayeredSpace = BlockChains{}
	_ LayeredSpace = (*FileSpace)(nil)
)

// Kinds are the sizes of kernels.
func (MobileNetV3) Kinds() (kinds []string) {
	for _, k := range mobileKernels {
		kinds = append(kinds, kernelKind(int(k)))
	}
	return kinds
}

func kernelKind(k int) string { return fmt.Sprintf("kernel %d", k) }

// Kinds are the last parts of the blocks: sizes of kernels where these are a decision by themselves.
func (sp BlockChains) Kinds() (kinds []string) {
	for _, layer := range sp.layers() {
		for _, block := range layer {
			if kind := block.Parts[len(block.Parts)-1]; !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// Kinds are the names of operations, each once, however many places have it.
func (f *FileSpace) Kinds() (kinds []string) {
	if f.nodes > 0 {
		return nil
	}
	for _, p := range f.choices {
		for _, o := range p.options {
			if !o.absent && !slices.Contains(kinds, o.name) {
				kinds = append(kinds, o.name)
			}
		}
	}
	return kinds
}

// Layers are the stem, the blocks of the five units and the head. The first block, which is no choice, is in the stem.
func (m MobileNet) Layers() []Layer {
	sp := MobileNetV3{width: m.width, stride: m.stride, resolutions: []uint16{m.resolution}}
	layers := dissected(sp, m)
	i := 0
	for slot := range mobileSlots {
		if m.has(slot) && i+1 < len(layers) {
			i++
			layers[i].Stage, layers[i].Name = strconv.Itoa(slot/mobileMaxDepth+1), "block"
			layers[i].Expansion = float64(m.expand[slot]) // before channels are rounded
			layers[i].Kind = kernelKind(layers[i].Kernel)
		}
	}
	return layers
}

// Layers are the stem, the blocks under their names, and the head. Layers with the same number of channels are a stage.
func (c BlockChain) Layers() []Layer {
	layers := dissected(c.of, c)
	stage := 0
	for i, block := range c.Blocks() {
		if i+1 >= len(layers) {
			return nil
		}
		x := &layers[i+1]
		if i == 0 || x.Channels != layers[i].Channels {
			stage++
		}
		b := c.of.layers()[i][block]
		x.Stage, x.Name, x.Kind = strconv.Itoa(stage), b.Name, b.Parts[len(b.Parts)-1]
	}
	return layers
}

// Layers are the blocks of a space from a file under their names, which is all that the file says of them; nil of a
// cell.
func (a FileArch) Layers() []Layer {
	if a.of.nodes > 0 {
		return nil
	}
	layers := []Layer{{Name: inputName}}
	a.of.each(func(p *choice, at int) {
		for _, o := range []byte(a.blocks(p, at)) {
			if !p.options[o].absent {
				layers = append(layers, Layer{Stage: p.name, Name: p.options[o].name, Kind: p.options[o].name})
			}
		}
	})
	return append(layers, Layer{Name: outputName})
}

// dissected are the sections of an architecture's network as layers: their largest kernels, their outputs and by what
// they divide the sides of their inputs.
func dissected(sp Measurable, a Arch) []Layer {
	net, section, part, err := sp.Dissect(a)
	if err != nil {
		return nil
	}
	layers := make([]Layer, len(part))
	for i := range layers {
		layers[i].Name = "head"
	}
	layers[0].Name = "stem"
	side, channels, last := net.Input().H, net.Input().C, -1
	middle := 0 // the most channels of a section's convolutions
	for i, node := range net.Nodes {
		x := &layers[section[i]]
		if section[i] != last {
			last, middle = section[i], 0
			x.Side = side // of what it gets, until its end
			x.Channels = channels
		}
		if conv, ok := node.Op.(nn.Conv); ok {
			x.Kernel, middle = max(x.Kernel, conv.Kernel.H, conv.Kernel.W), max(middle, conv.Out)
		}
		if i+1 == len(net.Nodes) || section[i+1] != last {
			before := *x
			side, channels = node.Shape.H, node.Shape.C
			x.Side, x.Channels = side, channels
			if x.Stride = 1; side > 0 {
				x.Stride = (before.Side + side - 1) / side
			}
			if middle > 0 && before.Channels > 0 {
				x.Expansion = float64(middle) / float64(before.Channels)
			}
		}
	}
	for _, i := range []int{0, len(layers) - 1} { // around the blocks there is nothing to expand
		layers[i].Expansion = 0
	}
	return layers
}
