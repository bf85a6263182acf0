package conv_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/conv/internal/split"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// hopperCase is a convolution for the kernels of compute capability 9.0 and the tile that computes it.
type hopperCase struct {
	Conv
	pad  int // elements between pixels
	tile int // of hopperTiles, from 1
}

// hopperCases are few pixels and many: images smaller than a tile and larger, several tiles a part, channels that are
// no multiple of 64, of which every test takes one for each tile, and all with testdata.All.
func hopperCases() []hopperCase {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	all := []hopperCase{
		{Conv{In: shape(1, 5, 7, 64), Out: 72, KH: 3, KW: 3, PadH: 1, PadW: 1}, 0, 1},
		{Conv{In: shape(3, 9, 11, 72), Out: 64, KH: 1, KW: 1}, 8, 2},
		{Conv{In: shape(2, 17, 16, 64), Out: 130, KH: 1, KW: 1}, 16, 3},
		{Conv{In: shape(5, 4, 7, 136), Out: 200, KH: 1, KW: 1}, 0, 4},
	}
	if testdata.All() {
		all = append(all, []hopperCase{
			{Conv{In: shape(7, 3, 3, 66), Out: 67, KH: 3, KW: 3, PadH: 1, PadW: 1}, 6, 2},
			{Conv{In: shape(1, 1, 1, 64), Out: 64, KH: 3, KW: 3, PadH: 1, PadW: 1}, 0, 3},
			{Conv{In: shape(3, 14, 9, 80), Out: 264, KH: 3, KW: 3, PadH: 1, PadW: 1}, 8, 4},
			{Conv{In: shape(2, 8, 9, 128), Out: 70, KH: 3, KW: 3, PadH: 0, PadW: 2}, 0, 1},
			{Conv{In: shape(1, 6, 9, 72), Out: 64, KH: 1, KW: 7, PadW: 3}, 8, 1},
			{Conv{In: shape(2, 12, 13, 64), Out: 64, KH: 5, KW: 3, PadH: -1, PadW: 1, OutH: 6, OutW: 14}, 0, 2},
		}...)
	}
	return all
}

func eachHopper(t *testing.T, f func(t *testing.T, d *exec.Device, i int, c hopperCase)) {
	kerneltest.EachHopper(t, func(t *testing.T, d *exec.Device) {
		for i, c := range hopperCases() {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				defer split.Small()()
				split.Target.Tile = c.tile
				f(t, d, i, c)
			})
		}
	})
}

// onHopper requires a program to have launched kernels of compute capability 9.0.
func onHopper(t *testing.T, p *exec.Program) {
	for _, l := range p.Launches() {
		if strings.Contains(l.Entry, "hopper") {
			return
		}
	}
	t.Fatalf("%s launches none of the kernels: %+v", p.Name, p.Launches())
}

func TestHopperForward(t *testing.T) {
	eachHopper(t, func(t *testing.T, d *exec.Device, i int, c hopperCase) {
		ar := d.NewArena()
		defer ar.Free()
		stream := uint32(1000 + 10*i)
		x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{Pad: c.pad}, stream)
		w, w64 := kerneltest.Random(c.WeightLen(), stream+1)
		f := Forward{Conv: c.Conv, In: x.Input, Weight: ar.Floats(w), ZStride: c.Out + c.pad,
			Z: kerneltest.Room(ar, c.Shape().Pixels()*(c.Out+c.pad)), Sums: i%3 != 2}
		var bias64 []float64
		if i%2 == 1 {
			var bias []float32
			bias, bias64 = kerneltest.Random(c.Out, stream+2)
			f.Bias = ar.Floats(bias)
		}
		p := ar.NewProgram("forward")
		stats := f.Record(p)
		onHopper(t, p)
		p.Run(2)
		got := kerneltest.Dense(t, f.Z, c.Shape(), f.ZStride)
		want := kerneltest.Once(fmt.Sprint("hopper forward ", c), func() []float64 {
			return ConvReference(c.Conv, factors(d, x.A), factors(d, w64), bias64)
		})
		kerneltest.Close(t, want, got, kerneltest.Stored(d, 1e-6*float64(c.KH*c.KW)), "z")
		if f.Sums {
			kerneltest.CheckForwardSums(t, stats, got, c.Out, 1e-5)
		}
	})
}

func TestHopperInputGradient(t *testing.T) {
	kinds := []kerneltest.Case{{Norm: true, Act: tensor.ReLU}, {Norm: true, Act: tensor.HSwish, Pad: 8},
		{Act: tensor.ReLU6, Pad: 3}, {Norm: true, Pad: 16}}
	eachHopper(t, func(t *testing.T, d *exec.Device, i int, c hopperCase) {
		ar := d.NewArena()
		defer ar.Free()
		c.In.C, c.Out = c.Out, c.In.C // the tile is that of what is written
		stream := uint32(2000 + 10*i)
		w, w64 := kerneltest.Random(c.WeightLen(), stream+1)
		grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), false, c.pad, stream+2)
		want := kerneltest.Once(fmt.Sprint("hopper input ", c), func() []float64 {
			din, _ := ConvBackwardReference(c.Conv, make([]float64, c.In.Len()), factors(d, w64), factors(d, dz64))
			return din
		})
		weight := ar.Floats(w)
		kerneltest.TestSink(t, d, c.In, kinds[i%len(kinds)], 2e-6*float64(c.KH*c.KW), want, stream+3,
			func(p *exec.Program, sink tensor.Sink) tensor.Stats {
				stats := InputGradient{Conv: c.Conv, Grad: grad, Weight: weight, Sink: sink}.Record(p)
				onHopper(t, p)
				return stats
			})
	})
}

func TestHopperWeightGradient(t *testing.T) {
	eachHopper(t, func(t *testing.T, d *exec.Device, i int, c hopperCase) {
		ar := d.NewArena()
		defer ar.Free()
		split.Target.Resident = 2 + 80*(i%2) // one split, and several
		stream := uint32(3000 + 10*i)
		x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{Pad: c.pad}, stream)
		grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), false, (8-c.Out%8)%8, stream+1)
		want := kerneltest.Once(fmt.Sprint("hopper weight ", c), func() []float64 {
			_, dw := ConvBackwardReference(c.Conv, factors(d, x.A), make([]float64, c.WeightLen()), factors(d, dz64))
			return dw
		})
		// The weight lies among more channels, whose gradients are left alone.
		ld, depth, taps := c.Out+i%3, c.In.C, c.KH*c.KW
		tap := (depth + i%2) * ld
		old, old64 := kerneltest.Random(taps*tap, stream+2)
		for _, accumulate := range []bool{false, true} {
			g := WeightGradient{Conv: c.Conv, In: x.Input, Grad: grad, DWeight: ar.Floats(old), WeightLD: ld,
				TapLD: tap, Accumulate: accumulate}
			p := ar.NewProgram("weight")
			g.Record(p)
			onHopper(t, p)
			p.Run(1)
			all, expect := g.DWeight.Values(), append([]float64(nil), old64...)
			for r := range taps * depth {
				for j := range c.Out {
					at := r/depth*tap + r%depth*ld + j
					if !accumulate {
						expect[at] = 0
					}
					expect[at] += want[r*c.Out+j]
				}
			}
			kerneltest.Close(t, expect, all, 1e-6*float64(4+c.Shape().Pixels()/64), "dweight")
		}
	})
}

// Operands that are not multiplied as they are stored, and devices of other generations, have the other kernels.
func TestHopperChoice(t *testing.T) {
	c := Conv{In: tensor.Shape{N: 1, H: 3, W: 3, C: 64}, Out: 64, KH: 1, KW: 1}
	entries := func(device string, precision exec.Precision, c Conv, kind kerneltest.Case) (all []string) {
		d, err := exec.Open(exec.Config{Device: device, Precision: precision})
		require.NoError(t, err)
		defer d.Close()
		ar := d.NewArena()
		defer ar.Free()
		x := kerneltest.NewTensor(ar, c.In, kind, 1)
		p := ar.NewProgram("choice")
		weight, z := ar.F32(c.WeightLen()), kerneltest.Room(ar, c.Shape().Len())
		Forward{Conv: c, In: x.Input, Weight: weight, Z: z}.Record(p)
		grad, _ := kerneltest.NewGradient(ar, c.Shape(), kind.Norm, kind.Pad, 2)
		InputGradient{Conv: c, Grad: grad, Weight: weight,
			Sink: tensor.Sink{D: kerneltest.Room(ar, c.In.Len())}}.Record(p)
		WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen())}.Record(p)
		for _, l := range p.Launches() {
			if strings.Contains(l.Entry, "hopper") {
				all = append(all, l.Entry[:strings.LastIndex(l.Entry, "_")])
			}
		}
		return all
	}
	require.Equal(t, []string{"cu_conv_hopper", "cu_conv_input_hopper", "cu_conv_weight_hopper"},
		entries("sim90:ascending", exec.BF16, c, kerneltest.Case{}))
	require.Empty(t, entries("sim90:ascending", exec.FP32, c, kerneltest.Case{}))
	require.Empty(t, entries("sim:ascending", exec.BF16, c, kerneltest.Case{}))
	for _, kind := range []kerneltest.Case{{Norm: true}, {Pad: 4}} {
		require.Empty(t, entries("sim90:ascending", exec.BF16, c, kind), kind)
	}
	require.Equal(t, []string{"cu_conv_input_hopper"},
		entries("sim90:ascending", exec.BF16, c, kerneltest.Case{Act: tensor.ReLU}))
	for _, change := range []func(c *Conv){func(c *Conv) { c.Stride = 2 }, func(c *Conv) { c.Groups = 2 },
		func(c *Conv) { c.In.C = 56 }, func(c *Conv) { c.KH, c.PadH, c.Dilation = 3, 2, 2 }} {
		other := c
		change(&other)
		require.Empty(t, entries("sim90:ascending", exec.BF16, other, kerneltest.Case{}), other)
	}
}

// The same bits in every order of the simulator.
func TestHopperSameBits(t *testing.T) {
	var first []float32
	for _, name := range []string{"sim90:ascending", "sim90:descending", "sim90:random"} {
		d, err := exec.Open(exec.Config{Device: name, Precision: exec.BF16})
		require.NoError(t, err)
		ar := d.NewArena()
		c := Conv{In: tensor.Shape{N: 2, H: 12, W: 12, C: 72}, Out: 64, KH: 3, KW: 3, PadH: 1, PadW: 1}
		x := kerneltest.NewTensor(ar, c.In, kerneltest.Case{}, 1)
		w, _ := kerneltest.Random(c.WeightLen(), 2)
		p := ar.NewProgram("bits")
		f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: kerneltest.Room(ar, c.Shape().Len()), Sums: true}
		stats := f.Record(p)
		p.Run(1)
		got := slices.Concat(f.Z.Values(), stats.Rows.Values())
		if first == nil {
			first = got
		}
		require.Equal(t, first, got)
		ar.Free()
		d.Close()
	}
}
