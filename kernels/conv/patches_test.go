package conv_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func patchedConvs() []Conv {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	return []Conv{
		{In: shape(3, 9, 7, 3), Out: 16, KH: 3, KW: 3, PadH: 1, PadW: 1, Stride: 2},
		{In: shape(2, 5, 6, 3), Out: 72, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(1, 11, 12, 3), Out: 64, KH: 7, KW: 7, PadH: 3, PadW: 3, Stride: 2},
		{In: shape(2, 17, 5, 1), Out: 8, KH: 5, KW: 2, PadW: 1},
		{In: shape(1, 8, 9, 4), Out: 40, KH: 3, KW: 3, PadH: 2, PadW: 2, Dilation: 2},
		{In: shape(1, 4, 5, 2), Out: 8, KH: 2, KW: 2, OutH: 6, OutW: 7, PadH: 1, PadW: 2},
	}
}

// Patches are the pixels under the window, rounded, with zeros outside and behind, and nothing else is written.
func TestPatches(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for k, c := range patchedConvs() {
			ar := d.NewArena()
			c.Stride, c.StrideW, c.Dilation = max(1, c.Stride), max(1, c.Stride), max(1, c.Dilation)
			images, images64 := kerneltest.Random(c.In.Len(), uint32(4000+k))
			shape, width := c.Shape(), c.PatchWidth()
			n := shape.Pixels() * width
			all := kerneltest.Room(ar, n+8)
			p := ar.NewProgram("patches")
			Patches{Conv: c, In: ar.Floats(images), Out: all.Slice(0, n)}.Record(p)
			p.Run(1)
			got, after := all.Values(), kerneltest.Room(ar, 8).Values()
			require.Len(t, got, n+8)
			for i := range 8 {
				require.Equal(t, fmt.Sprint(after[i]), fmt.Sprint(got[n+i]), "behind the last patch")
			}
			want := make([]float64, n)
			for i := range want {
				pixel, number := i/width, i%width
				tap, channel := number/c.In.C, number%c.In.C
				y := pixel/shape.W%shape.H*c.Stride + tap/c.KW*c.Dilation - c.PadH
				x := pixel%shape.W*c.Stride + tap%c.KW*c.Dilation - c.PadW
				if tap < c.KH*c.KW && y >= 0 && x >= 0 && y < c.In.H && x < c.In.W {
					want[i] = images64[((pixel/(shape.W*shape.H)*c.In.H+y)*c.In.W+x)*c.In.C+channel]
				}
			}
			kerneltest.Close(t, want, got[:n], kerneltest.Stored(d, 0), fmt.Sprintf("patches of %+v", c))
			ar.Free()
		}
	})
}

// The convolution over patches is the convolution over the images: its output, and the gradient in its weight.
func TestConvolutionsOfPatches(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for k, c := range patchedConvs() {
			require.True(t, c.Patched(0, 0), "%+v", c)
			ar := d.NewArena()
			images, images64 := kerneltest.Random(c.In.Len(), uint32(5000+10*k))
			w, w64 := kerneltest.Random(c.WeightLen(), uint32(5001+10*k))
			grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), k%2 == 1, 0, uint32(5002+10*k))
			patches := kerneltest.Room(ar, c.Shape().Pixels()*c.PatchWidth())
			point, in := c.Pointwise(patches)
			f := Forward{Conv: point, In: in, Weight: ar.Floats(w), Z: kerneltest.Room(ar, c.Shape().Len()), Sums: true}
			g := WeightGradient{Conv: point, In: in, Grad: grad, DWeight: ar.F32(c.WeightLen()), Later: &partial.Sums{}}
			p := ar.NewProgram("patches")
			Patches{Conv: c, In: ar.Floats(images), Out: patches}.Record(p)
			stats := f.Record(p)
			g.Record(p)
			g.Later.Record(p)
			entries := map[string]bool{}
			for _, l := range p.Launches() {
				entries[l.Entry] = true
			}
			require.True(t, entries["cu_conv_point"] && entries["cu_conv_weight_point"], "%v", entries)
			p.Run(2)
			z := f.Z.Values()
			kerneltest.Close(t, ConvReference(c, factors(d, images64), factors(d, w64), nil), z,
				kerneltest.Stored(d, 1e-6*float64(c.KH*c.KW)), fmt.Sprintf("z of %+v", c))
			kerneltest.CheckForwardSums(t, stats, z, c.Out, 1e-5)
			_, want := ConvBackwardReference(c, factors(d, images64), make([]float64, c.WeightLen()), factors(d, dz64))
			kerneltest.Close(t, want, g.DWeight.Values(), 1e-6*float64(4+c.Shape().Pixels()),
				fmt.Sprintf("dweight of %+v", c))
			ar.Free()
		}
	})
}

// What fills vectors by itself, or has a weight of which parts are used, is left as it is.
func TestPatched(t *testing.T) {
	c := patchedConvs()[0]
	for _, change := range []func(c *Conv){func(c *Conv) { c.In.C = 8 }, func(c *Conv) { c.KH, c.KW = 1, 1 },
		func(c *Conv) { c.Out = 20 }, func(c *Conv) { c.KH, c.KW, c.In.C = 8, 8, 7 },
		func(c *Conv) { c.Groups, c.In.C = 2, 4 }} {
		other := c
		change(&other)
		require.False(t, other.Patched(0, 0), "%+v", other)
	}
	require.True(t, c.Patched(24, 72))
	require.False(t, c.Patched(24, 96))
}
