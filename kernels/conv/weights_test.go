package conv_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Gradients in weights that are made together, of all kernels and sizes, have the bits of those that are made one by
// one, and of two into one weight the second comes after the first.
func TestWeightsTogether(t *testing.T) {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	var convs []Conv
	for i := range 9 { // more than a launch makes
		convs = append(convs, Conv{In: shape(1+i%3, 3, 2+i, 8), Out: 8 + 8*i, KH: 1, KW: 1})
	}
	convs = append(convs, Conv{In: shape(2, 5, 4, 12), Out: 18, KH: 3, KW: 2, PadH: 1, Groups: 3},
		Conv{In: shape(1, 4, 5, 72), Out: 64, KH: 1, KW: 1},
		Conv{In: shape(1, 3, 4, 70), Out: 33, KH: 3, KW: 3, PadH: 1, PadW: 1},
		Conv{In: shape(2, 3, 3, 64), Out: 64, KH: 3, KW: 3, PadH: 1, PadW: 1, Stride: 2},
		Conv{In: shape(1, 3, 5, 136), Out: 72, KH: 3, KW: 1, PadH: 1})
	twice := len(convs) - 1 // into one weight
	each := func(t *testing.T, d *exec.Device) {
		if !d.Accelerated() {
			t.Skip("the CPU makes them one by one")
		}
		ar := d.NewArena()
		defer ar.Free()
		var bits [2][]float32
		for k := range bits {
			p := ar.NewProgram("weights")
			var weights *Weights
			var sums *partial.Sums
			if k == 1 {
				weights, sums = &Weights{}, &partial.Sums{}
			}
			var out []*exec.Buffer
			alone := map[string]int{} // launches that make gradients, by entry
			for i, c := range append(convs, convs[twice]) {
				x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{}, uint32(10*i))
				grad, _ := kerneltest.NewGradient(ar, c.Shape(), false, 0, uint32(10*i+1))
				g := WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen()),
					Later: sums, Together: weights}
				if i > twice {
					g.DWeight, g.Accumulate = out[twice], true
				}
				g.Record(p)
				out = append(out, g.DWeight)
			}
			if k == 1 {
				require.Empty(t, p.Launches())
				weights.Record(p)
				before := len(p.Launches())
				sums.Record(p)
				for _, l := range p.Launches()[:before] {
					alone[l.Entry]++
				}
				// Two rounds; of 1x1 with few channels there are more than a launch takes.
				require.Less(t, before, len(convs)/2+len(alone), "%v", alone)
			}
			p.Run(1)
			for _, b := range out {
				bits[k] = append(bits[k], b.Values()...)
			}
		}
		require.Equal(t, bits[0], bits[1]) // a NaN is not equal to itself
	}
	kerneltest.EachStorage(t, each)
	kerneltest.EachHopper(t, each)
}

// A gradient whose splits would be added up before they are there is refused.
func TestWeightsTogetherWantLater(t *testing.T) {
	d, err := exec.Open(exec.Config{Device: "sim:ascending"})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	c := Conv{In: tensor.Shape{N: 4, H: 16, W: 16, C: 4}, Out: 4, KH: 1, KW: 1}
	x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{}, 1)
	grad, _ := kerneltest.NewGradient(ar, c.Shape(), false, 0, 2)
	g := WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen())}
	p := ar.NewProgram("weights")
	g.Record(p)
	require.True(t, strings.HasPrefix(p.Launches()[1].Entry, "cu_partial"), "it has splits")
	g.Together = &Weights{}
	require.Panics(t, func() { g.Record(p) })
}
