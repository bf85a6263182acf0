package conv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Weights that are packed together, before everything else, give the bits of weights that are packed one by one.
func TestPacking(t *testing.T) {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	each := func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		var bits [2][]float32
		for k := range bits {
			p := ar.NewProgram("pack")
			var together *Packing
			if k == 1 {
				together = &Packing{}
			}
			var out []*exec.Buffer
			for i, c := range []Conv{
				{In: shape(1, 3, 3, 1), Out: 1, KH: 1, KW: 1},
				{In: shape(1, 3, 4, 70), Out: 33, KH: 3, KW: 3, PadH: 1, PadW: 1},
				{In: shape(2, 3, 2, 130), Out: 140, KH: 1, KW: 1},
				{In: shape(1, 5, 4, 12), Out: 18, KH: 3, KW: 2, PadH: 1, Groups: 3},
				{In: shape(1, 2, 3, 72), Out: 136, KH: 1, KW: 3, PadW: 1},
			} {
				x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{}, uint32(10*i))
				w, _ := kerneltest.Random(c.WeightLen(), uint32(10*i+1))
				grad, _ := kerneltest.NewGradient(ar, c.Shape(), false, 0, uint32(10*i+2))
				f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Packing: together,
					Z: kerneltest.Room(ar, c.Shape().Len())}
				f.Record(p)
				dx := kerneltest.Room(ar, c.In.Len())
				InputGradient{Conv: c, Grad: grad, Weight: f.Weight, Packing: together,
					Sink: tensor.Sink{D: dx}}.Record(p)
				out = append(out, f.Z, dx)
			}
			if k == 1 {
				before := len(p.Launches())
				p.First(func() { together.Record(p) })
				if d.Accelerated() {
					require.Len(t, p.Launches(), before+1)
					require.Equal(t, "cu_conv_pack", p.Launches()[0].Entry)
				}
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
