package reference

import (
	"fmt"
	"math"

	"github.com/ctnas/ctnas/trainer/nn"
)

// Path gives a path its parts of a supernet's values, which are those of s.Variables in the layout of memory. Smaller
// kernels are made in float64.
func Path(s nn.Shared, p nn.Path, values [][]float32) *Model {
	if err := s.Check(p); err != nil {
		panic(fmt.Sprintf("reference: %v", err))
	}
	if len(values) != len(s.Variables) {
		panic(fmt.Sprintf("reference: values of %d variables, want %d", len(values), len(s.Variables)))
	}
	variables := p.Variables()
	m := New(p.Network, zeros(variables))
	for i, b := range p.Bindings {
		shape := s.Variables[b.Shared].Shape
		x := make([]float64, len(values[b.Shared]))
		for k, v := range values[b.Shared] {
			x[k] = float64(v)
		}
		for _, at := range b.Through {
			x = smaller(x, shape[0], values[at])
			shape = []int{shape[0] - 2, shape[1] - 2, shape[2], shape[3]}
		}
		eachPart(shape, variables[i].Shape, func(whole, part int) { m.Values[i][part] = x[whole] })
	}
	return m
}

func zeros(variables []nn.Variable) [][]float32 {
	values := make([][]float32, len(variables))
	for i, v := range variables {
		values[i] = make([]float32, v.Len())
	}
	return values
}

// smaller multiplies the inner part of depthwise kernels [side, side, 1, channels] with a matrix [taps, taps], in
// memory [in, out].
func smaller(kernel []float64, side int, matrix []float32) []float64 {
	channels := len(kernel) / (side * side)
	inner := side - 2
	out := make([]float64, inner*inner*channels)
	taps := int(math.Sqrt(float64(len(matrix))))
	for in := range taps {
		from := ((in/inner+1)*side + in%inner + 1) * channels
		for o := range taps {
			for c := range channels {
				out[o*channels+c] += kernel[from+c] * float64(matrix[in*taps+o])
			}
		}
	}
	return out
}

// eachPart visits the elements of the part of a tensor with the first indices of every dimension, in its order.
func eachPart(shape, part []int, visit func(whole, part int)) {
	n := 1
	for _, d := range part {
		n *= d
	}
	for i := range n {
		at, rest, stride := 0, i, 1
		for k := len(shape) - 1; k >= 0; k-- {
			at += rest % part[k] * stride
			rest /= part[k]
			stride *= shape[k]
		}
		visit(at, i)
	}
}
