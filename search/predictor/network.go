package predictor

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/format"
)

// network is a multilayer perceptron with ReLU between its layers. Its one output, plus base, is the accuracy.
type network struct {
	layers      []layer
	base        float64
	resolutions []int // that it knows, in the order of their inputs
	// Where inputs begin; blocks are in the order of slots, a block's choices in ascending order.
	kernels, expansions, sizes int
}

type layer struct {
	in, out int
	weight  []float64 // out x in
	bias    []float64
}

// The inputs have two orders. In once-for-all's tutorial (ofa/tutorial/accuracy_predictor.py), of which the authors
// published weights: kernels, expansions, and one of eight resolutions. In its package (ofa/nas/accuracy_predictor:
// AccuracyPredictor over MobileNetArchEncoder): the resolutions that the encoder was made with, kernels, expansions.
func (n *network) tutorial() {
	n.kernels, n.expansions, n.sizes = 0, slots*kinds, 2*slots*kinds
	n.resolutions = []int{112, 128, 144, 160, 176, 192, 208, 224}
}

func (n *network) packaged() {
	n.sizes, n.kernels, n.expansions = 0, 1, 1+slots*kinds
	n.resolutions = []int{224} // the encoder's default; files do not say
}

func (n *network) inputs() int { return 2*slots*kinds + len(n.resolutions) }

// rawWidths are those of the published network, whose float32 numbers may stand in a file by themselves.
var rawWidths = [...]int{128, 400, 400, 400, 1}

// decode reads a network: a state_dict of PyTorch, or safetensors with its names; or for each layer of the published
// network its weights, a row an output, then its biases, all little-endian float32 and nothing else.
func decode(data []byte) (network, error) {
	raw := 0
	for i, in := range rawWidths[:len(rawWidths)-1] {
		raw += 4 * (in + 1) * rawWidths[i+1]
	}
	if len(data) == raw {
		return decodeRaw(data)
	}
	tensors, err := format.Decode(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return network{},
			fmt.Errorf("%d bytes are not the accuracy predictor's float32 numbers (%v), which are %d, nor a file of "+
				"tensors: %w", len(data), rawWidths, raw, err)
	}
	return ofTensors(tensors)
}

func decodeRaw(data []byte) (n network, err error) {
	n.tutorial()
	at := 0
	take := func(count int) []float64 {
		out := make([]float64, count)
		for i := range out {
			out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[at:])))
			if v := out[i]; err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
				err = fmt.Errorf("the number at offset %d is %v", at, v)
			}
			at += 4
		}
		return out
	}
	for i, in := range rawWidths[:len(rawWidths)-1] {
		l := layer{in: in, out: rawWidths[i+1]}
		l.weight = take(l.in * l.out)
		l.bias = take(l.out)
		n.layers = append(n.layers, l)
	}
	return n, err
}

// Names of tensors: 0.weight, 0.bias, 2.weight, ... of the tutorial; layers.0.0.weight, layers.0.0.bias, ...,
// layers.3.weight and base_acc of the package, whose last layer has no bias.
var (
	layerName = regexp.MustCompile(`^(layers\.)?(\d{1,3})(?:\.0)?\.(weight|bias)$`)
	baseName  = "base_acc"
)

// ofTensors makes a network of the tensors of a file.
func ofTensors(tensors []format.Tensor) (n network, err error) {
	byNumber := map[int]*layer{}
	var numbers []int
	packaged := false
	for _, t := range tensors {
		values := make([]float64, len(t.Data))
		for i, v := range t.Data {
			if values[i] = float64(v); math.IsNaN(values[i]) || math.IsInf(values[i], 0) {
				return n, fmt.Errorf("tensor %q: number %d is %v", t.Name, i, v)
			}
		}
		if t.Name == baseName {
			if len(values) != 1 {
				return n, fmt.Errorf("tensor %q: shape %v, want one number", t.Name, t.Shape)
			}
			n.base, packaged = values[0], true
			continue
		}
		part := layerName.FindStringSubmatch(t.Name)
		if part == nil {
			return n,
				fmt.Errorf("tensor %q: an accuracy predictor of once-for-all has 0.weight, 0.bias, 2.weight, ... or "+
					"layers.0.0.weight, ... and %s", t.Name, baseName)
		}
		packaged = packaged || part[1] != ""
		number, _ := strconv.Atoi(part[2]) // digits
		l := byNumber[number]
		if l == nil {
			l = &layer{}
			byNumber[number] = l
			numbers = append(numbers, number)
		}
		switch {
		case part[3] == "weight" && len(t.Shape) == 2 && l.weight == nil:
			l.out, l.in, l.weight = t.Shape[0], t.Shape[1], values
		case part[3] == "bias" && len(t.Shape) == 1 && l.bias == nil:
			l.bias = values
		default:
			return n, fmt.Errorf("tensor %q: shape %v of a linear layer's %s", t.Name, t.Shape, part[3])
		}
	}
	slices.SortFunc(numbers, cmp.Compare)
	if n.tutorial(); packaged {
		n.packaged()
	}
	width := n.inputs()
	for i, number := range numbers {
		l := byNumber[number]
		last := i == len(numbers)-1
		if l.bias == nil && last {
			l.bias = make([]float64, l.out)
		}
		switch {
		case l.weight == nil || len(l.bias) != l.out:
			return n, fmt.Errorf("layer %d: a weight of %d x %d and %d biases", number, l.out, l.in, len(l.bias))
		case i == 0 && l.in != width && packaged:
			return n,
				fmt.Errorf("layer %d has %d inputs, want %d: with more than one resolution nothing says which they are",
					number, l.in, width)
		case l.in != width:
			return n, fmt.Errorf("layer %d has %d inputs, want %d", number, l.in, width)
		case last && l.out != 1:
			return n, fmt.Errorf("layer %d has %d outputs, want 1, the accuracy", number, l.out)
		}
		width = l.out
		n.layers = append(n.layers, *l)
	}
	if len(n.layers) == 0 {
		return n, errors.New("there is no layer")
	}
	return n, nil
}

// ones lists which inputs are 1.
func (n *network) ones(m space.MobileNet) []int {
	var on []int
	for _, part := range []struct {
		from            int
		values, choices []int
	}{{n.kernels, m.Kernels(), []int{3, 5, 7}}, {n.expansions, m.Expansions(), []int{3, 4, 6}}} {
		for slot, v := range part.values {
			if v != 0 {
				on = append(on, part.from+slot*kinds+slices.Index(part.choices, v))
			}
		}
	}
	return append(on, n.sizes+slices.Index(n.resolutions, m.Resolution()))
}

func (n *network) predict(m space.MobileNet) float64 {
	on := n.ones(m)
	var x []float64
	for k, l := range n.layers {
		y := slices.Clone(l.bias)
		for o := range y {
			row := l.weight[o*l.in : (o+1)*l.in]
			if k == 0 {
				for _, i := range on {
					y[o] += row[i]
				}
			} else {
				for i, v := range x {
					y[o] += row[i] * v
				}
			}
			if k < len(n.layers)-1 {
				y[o] = max(y[o], 0)
			}
		}
		x = y
	}
	return x[0] + n.base
}
