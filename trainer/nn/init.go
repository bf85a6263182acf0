package nn

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/kernels/philox"
)

// Fan is the size of a layer as initializers see it: In is how many products are added up in one output, Out how many
// outputs one input enters at stride 1. For a convolution they are kernel height * width * channels / groups, of the
// input and of the output.
type Fan struct{ In, Out int }

// Initializer says how weights and biases start: it draws one element of a variable of a layer, linear or convolution.
// Batch norms start with scale and variance 1, shift and mean 0 under every initializer.
type Initializer func(role Role, fan Fan, linear bool, s *philox.Stream) float64

// HeFanOut is the start of the MobileNet family (timm): convolutions are normal with variance 2 / fan-out, linear
// layers uniform within 1/sqrt(fan-out), biases 0.
func HeFanOut(role Role, fan Fan, linear bool, s *philox.Stream) float64 {
	switch {
	case role == Bias:
		return 0
	case linear:
		return uniform(s, 1/math.Sqrt(float64(fan.Out)))
	}
	return math.Sqrt(2/float64(fan.Out)) * s.NormFloat64()
}

// TorchDefault is what PyTorch's modules start with and the DARTS family keeps: weights and biases are uniform within
// 1/sqrt(fan-in).
func TorchDefault(_ Role, fan Fan, _ bool, s *philox.Stream) float64 {
	return uniform(s, 1/math.Sqrt(float64(fan.In)))
}

// NASBench is the start of NAS-Bench-101's networks (nasbench/lib/base_ops.py, model_builder.py and TensorFlow's
// defaults): convolutions are normal, cut at two standard deviations, with variance 1 / fan-in after the cut; the
// linear layer is uniform within sqrt(6 / (fan-in + fan-out)); biases are 0.
func NASBench(role Role, fan Fan, linear bool, s *philox.Stream) float64 {
	switch {
	case role == Bias:
		return 0
	case linear:
		return uniform(s, math.Sqrt(6/float64(fan.In+fan.Out)))
	}
	const deviation = 0.87962566103423978 // of a standard normal cut at 2
	for {
		if x := s.NormFloat64(); math.Abs(x) <= 2 {
			return x / deviation / math.Sqrt(float64(fan.In))
		}
	}
}

func uniform(s *philox.Stream, bound float64) float64 { return (2*s.Float64() - 1) * bound }

// Initialize returns the first values of Variables(), each in the layout of memory. Values are drawn in PyTorch's order
// from a stream of the seed and the variable's index, so they do not depend on the layout; they are rounded to float32.
func (n *Network) Initialize(init Initializer, seed uint64) [][]float32 {
	return initialize(n.Variables(), init, seed)
}

// Initialize returns the first values of the shared variables as a network's: a layer starts as the largest of its
// paths has it, matrices as identities.
func (s Shared) Initialize(init Initializer, seed uint64) [][]float32 {
	return initialize(s.Variables, init, seed)
}

// ZeroBranches sets the scales at the ends of branches (Shared.Branches) to 0, so that a residual block starts as its
// shortcut (Goyal et al. 2017).
func (s Shared) ZeroBranches(values [][]float32) {
	for _, i := range s.Branches {
		clear(values[i])
	}
}

func initialize(variables []Variable, init Initializer, seed uint64) [][]float32 {
	values := make([][]float32, len(variables))
	for i, v := range variables {
		x := make([]float32, v.Len())
		switch {
		case v.identity:
			for k := range v.Shape[0] {
				x[k*v.Shape[0]+k] = 1
			}
		case v.Role == Scale || v.Role == Variance:
			for k := range x {
				x[k] = 1
			}
		case v.Role == Weight || v.Role == Bias:
			s := philox.New(seed, philox.PurposeInit, uint32(i))
			for k := range x {
				x[k] = float32(init(v.Role, v.layer.fan, v.layer.linear, s))
			}
			x = FromTorch(v, x)
		}
		values[i] = x
	}
	return values
}

// layer is a node's: one with weights.
func (n *Network) layer(node int) layer {
	in := n.Inputs(node)[0].C
	switch op := n.Nodes[node].Op.(type) {
	case Conv:
		pixels := op.Kernel.H * op.Kernel.W
		return layer{Fan{pixels * in / op.Groups, pixels * op.Out / op.Groups}, false}
	case Linear:
		return layer{Fan{in, op.Out}, true}
	}
	panic(fmt.Sprintf("nn: node %d is no layer with weights", node))
}
