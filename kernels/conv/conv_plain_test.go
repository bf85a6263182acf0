package conv_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/conv/internal/split"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Tensors that lie as they are multiplied have kernels of their own on tensor cores: borders of all kinds, taps that
// end within a step, tiles and steps that are not whole, groups, several tiles a block and several splits.
func TestPlain(t *testing.T) {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	cases := []Conv{
		{In: shape(2, 5, 7, 64), Out: 72, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(2, 9, 8, 72), Out: 136, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(5, 17, 15, 72), Out: 64, KH: 1, KW: 1},
		{In: shape(2, 8, 9, 80), Out: 64, KH: 3, KW: 3, Stride: 2, PadH: 1, PadW: 1},
		{In: shape(1, 9, 7, 128), Out: 128, KH: 3, KW: 2, PadH: 2, PadW: 1, Dilation: 2, Groups: 2},
		{In: shape(2, 8, 6, 64), Out: 64, KH: 1, KW: 1, Stride: 2, PadH: -1, PadW: -1, OutH: 4, OutW: 3},
		{In: shape(130, 1, 1, 136), Out: 64, KH: 1, KW: 1},
		{In: shape(1, 6, 8, 64), Out: 64, KH: 7, KW: 1, PadH: 3},
	}
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				if i%2 == 1 {
					defer split.Small()()
				}
				plain(t, d, c, kerneltest.Cases[(3*i+1)%len(kerneltest.Cases)], i%3*8, uint32(20*i))
			})
		}
	})
}

// plain holds the three directions against the reference. The sink alone has something before it.
func plain(t *testing.T, d *exec.Device, c Conv, behind kerneltest.Case, pad int, stream uint32) {
	ar := d.NewArena()
	defer ar.Free()
	x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{Pad: pad}, stream)
	w, w64 := kerneltest.Random(c.WeightLen(), stream+1)
	bias, bias64 := kerneltest.Random(c.Out, stream+2)
	grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), false, pad, stream+3)
	type reference struct{ z, din, dweight []float64 }
	want := kerneltest.Once(fmt.Sprint("plain ", stream), func() (r reference) {
		if pad == 0 {
			bias64 = nil
		}
		r.z = ConvReference(c, factors(d, x.A), factors(d, w64), bias64)
		r.din, r.dweight = ConvBackwardReference(c, factors(d, x.A), factors(d, w64), factors(d, dz64))
		return r
	})
	f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), ZStride: c.Out + pad, Sums: true,
		Z: kerneltest.Room(ar, c.Shape().Pixels()*(c.Out+pad))}
	if pad > 0 {
		f.Bias = ar.Floats(bias)
	}
	p := ar.NewProgram("plain")
	stats := f.Record(p)
	p.Run(1)
	got := kerneltest.Dense(t, f.Z, c.Shape(), f.ZStride)
	kerneltest.Close(t, want.z, got, kerneltest.Stored(d, tolerance(d, c.KH*c.KW*c.In.C)), "z")
	kerneltest.CheckForwardSums(t, stats, got, c.Out, 1e-5)

	behind.Pad = pad
	kerneltest.TestSink(t, d, c.In, behind, 2*tolerance(d, c.KH*c.KW*c.Out), want.din, stream+4,
		func(p *exec.Program, sink tensor.Sink) tensor.Stats {
			return InputGradient{Conv: c, Grad: grad, Weight: f.Weight, Sink: sink}.Record(p)
		})

	g := WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen())}
	p = ar.NewProgram("weight")
	g.Record(p)
	g.Accumulate = true
	g.Record(p)
	p.Run(1)
	dweight := g.DWeight.Values()
	for i := range dweight {
		dweight[i] /= 2
	}
	kerneltest.Close(t, want.dweight, dweight, tolerance(d, c.Shape().Pixels()+16), "dweight")
}

// 1x1 convolutions of few channels and of many, through all that may stand before them.
func TestPoint(t *testing.T) {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	cases := []Conv{
		{In: shape(1, 1, 1, 8), Out: 8, KH: 1, KW: 1},
		{In: shape(2, 7, 5, 16), Out: 64, KH: 1, KW: 1},
		{In: shape(3, 9, 11, 24), Out: 72, KH: 1, KW: 1},
		{In: shape(2, 9, 8, 72), Out: 24, KH: 1, KW: 1},
		{In: shape(2, 5, 13, 120), Out: 40, KH: 1, KW: 1},
		{In: shape(1, 10, 13, 40), Out: 240, KH: 1, KW: 1},
		{In: shape(2, 12, 11, 256), Out: 136, KH: 1, KW: 1},
		{In: shape(1, 5, 9, 264), Out: 136, KH: 1, KW: 1},
		{In: shape(2, 7, 3, 24), Out: 328, KH: 1, KW: 1},
		{In: shape(1, 7, 9, 72), Out: 264, KH: 1, KW: 1},
	}
	kinds := []kerneltest.Case{{}, {Norm: true, Act: tensor.ReLU}, {Norm: true, Act: tensor.HSwish, Gate: true, Pad: 8},
		{Act: tensor.ReLU6, Pad: 16}, {Norm: true, Pad: 8}, {Act: tensor.HSigmoid, Gate: true}}
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases {
			for k, kind := range kinds {
				if i < 7 && !kerneltest.Shared(d, i+k, 3) { // those behind have kernels of their own
					continue
				}
				t.Run(fmt.Sprintf("%+v/%+v", c, kind), func(t *testing.T) {
					if k%2 == 1 {
						defer split.Small()()
					}
					forward(t, d, c, kind, k%2 == 0, fmt.Sprint("point ", i, k), uint32(20*i))
					gradients(t, d, c, kind, fmt.Sprint("point ", i, k), uint32(20*i))
				})
			}
		}
	})
}

// What pays is what its comments say: 3x3 of 64 channels, 1x1 with many of the other side.
func TestWhatPaysToStore(t *testing.T) {
	at := func(in, out, k, stride int) Conv {
		return Conv{In: tensor.Shape{N: 2, H: 8, W: 8, C: in}, Out: out, KH: k, KW: k, PadH: k / 2, PadW: k / 2,
			Stride: stride}
	}
	for _, c := range []struct {
		conv            Conv
		input, gradient bool
	}{
		{at(64, 64, 3, 1), true, true}, {at(56, 64, 3, 1), false, false}, {at(64, 56, 3, 1), false, false},
		{at(128, 128, 1, 1), false, false}, {at(512, 512, 1, 1), true, true}, {at(160, 960, 1, 1), true, false},
		{at(64, 64, 3, 2), false, true},
	} {
		require.Equal(t, [2]bool{c.input, c.gradient}, [2]bool{c.conv.PlainInput(), c.conv.PlainGradient()},
			"%+v", c.conv)
	}
}
