package conv_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	. "github.com/ctnas/ctnas/kernels/conv"
	"github.com/ctnas/ctnas/kernels/conv/internal/split"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/kernels/tensor"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func cases() []Conv {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	return []Conv{
		{In: shape(1, 1, 1, 1), Out: 1, KH: 1, KW: 1},
		{In: shape(1, 1, 1, 5), Out: 3, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(2, 5, 7, 17), Out: 33, KH: 1, KW: 1},
		{In: shape(3, 9, 8, 24), Out: 40, KH: 1, KW: 1, Stride: 2},
		{In: shape(2, 8, 9, 33), Out: 17, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(1, 16, 15, 48), Out: 70, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(2, 13, 12, 3), Out: 19, KH: 3, KW: 3, Stride: 2, PadH: 1, PadW: 1},
		{In: shape(1, 12, 13, 31), Out: 12, KH: 3, KW: 3, Stride: 2, PadH: 0, PadW: 1, OutH: 6, OutW: 7},
		{In: shape(1, 9, 11, 40), Out: 8, KH: 5, KW: 5, Stride: 3, PadH: 2, PadW: 2},
		{In: shape(1, 10, 9, 13), Out: 14, KH: 7, KW: 7, Stride: 2, PadH: 3, PadW: 3},
		{In: shape(1, 8, 9, 20), Out: 21, KH: 1, KW: 7, PadW: 3},
		{In: shape(1, 8, 9, 37), Out: 21, KH: 7, KW: 1, PadH: 3},
		{In: shape(2, 9, 9, 34), Out: 16, KH: 3, KW: 3, PadH: 2, PadW: 2, Dilation: 2},
		{In: shape(2, 7, 6, 12), Out: 18, KH: 3, KW: 3, PadH: 1, PadW: 1, Groups: 3},
		{In: shape(1, 7, 7, 300), Out: 70, KH: 1, KW: 1},
		{In: shape(1, 4, 4, 150), Out: 140, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(2, 9, 11, 40), Out: 70, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(3, 8, 7, 140), Out: 33, KH: 3, KW: 3, PadH: 2},
		{In: shape(1, 24, 24, 16), Out: 16, KH: 1, KW: 1},
		// The odd rows and columns, zeros behind the last.
		{In: shape(2, 7, 6, 20), Out: 9, KH: 1, KW: 1, Stride: 2, PadH: -1, PadW: -1, OutH: 4, OutW: 3},
		{In: shape(1, 9, 10, 33), Out: 35, KH: 3, KW: 3, PadH: -2, PadW: -1, OutH: 5, OutW: 8},
		{In: shape(2, 9, 8, 17), Out: 20, KH: 1, KW: 7, Stride: 1, StrideW: 2, PadW: 3},
		{In: shape(2, 8, 9, 40), Out: 11, KH: 7, KW: 1, Stride: 2, StrideW: 1, PadH: 3},
		{In: shape(1, 11, 13, 12), Out: 8, KH: 5, KW: 3, Stride: 2, StrideW: 3, PadH: 2, PadW: 1, Groups: 4},
	}
}

// each runs f over the cases and some kinds of inputs, without testdata.All half as many.
func each(t *testing.T, f func(t *testing.T, d *exec.Device, i, k int, c Conv, kind kerneltest.Case)) {
	every := 6
	if testdata.All() {
		every = 3
	}
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			for k, kind := range kerneltest.Cases {
				if d.Accelerated() && !kerneltest.Shared(d, i+k, every) || i > 4 && c.Groups < 2 && (i+k)%every != 0 &&
					!d.Accelerated() {
					continue
				}
				t.Run(fmt.Sprintf("%+v/%+v", c, kind), func(t *testing.T) {
					if (i+k)/3%2 == 1 {
						defer split.Small()()
					}
					f(t, d, i, k, c, kind)
				})
			}
		}
	})
}

// factors are numbers as they are multiplied: rounded to bfloat16 where tensor cores do that.
func factors(d *exec.Device, x []float64) []float64 {
	if d.Precision() != exec.BF16 {
		return x
	}
	out := make([]float64, len(x))
	for i, v := range x {
		u := math.Float32bits(float32(v))
		out[i] = float64(math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff))
	}
	return out
}

// tolerance of a sum of n products. A factor halfway between two neighbours may be rounded to the other one than in the
// reference.
func tolerance(d *exec.Device, n int) float64 {
	tol := 1e-6 * math.Sqrt(float64(n))
	if d.Precision() == exec.BF16 {
		tol += 0x1p-8
	}
	return tol
}

func TestForward(t *testing.T) {
	each(t, func(t *testing.T, d *exec.Device, i, k int, c Conv, kind kerneltest.Case) {
		forward(t, d, c, kind, k%2 == 1, fmt.Sprint(i, k), uint32(10*i))
	})
}

// forward holds a convolution against the reference; name is that of the case.
func forward(t *testing.T, d *exec.Device, c Conv, kind kerneltest.Case, biased bool, name string, stream uint32) {
	ar := d.NewArena()
	defer ar.Free()
	x := kerneltest.NewTensor(ar, c.In, kind, stream)
	w, w64 := kerneltest.Random(c.WeightLen(), stream+1)
	z := kerneltest.Room(ar, c.Shape().Pixels()*(c.Out+kind.Pad))
	f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: z, ZStride: c.Out + kind.Pad, Sums: true}
	var bias64 []float64
	if biased {
		var bias []float32
		bias, bias64 = kerneltest.Random(c.Out, stream+2)
		f.Bias = ar.Floats(bias)
	}
	p := ar.NewProgram("forward")
	stats := f.Record(p)
	p.Run(2)
	got := kerneltest.Dense(t, f.Z, c.Shape(), f.ZStride)
	want := kerneltest.Once(fmt.Sprint("forward ", name, d.Precision()), func() []float64 {
		return ConvReference(c, factors(d, x.A), factors(d, w64), bias64)
	})
	kerneltest.Close(t, want, got, kerneltest.Stored(d, tolerance(d, c.KH*c.KW*c.In.C)), "z")
	kerneltest.CheckForwardSums(t, stats, got, c.Out, 1e-5)
}

func TestGradients(t *testing.T) {
	each(t, func(t *testing.T, d *exec.Device, i, k int, c Conv, kind kerneltest.Case) {
		gradients(t, d, c, kind, fmt.Sprint(i, k), uint32(10*i))
	})
}

// gradients holds both gradients against the reference.
func gradients(t *testing.T, d *exec.Device, c Conv, kind kerneltest.Case, name string, stream uint32) {
	ar := d.NewArena()
	defer ar.Free()
	x := kerneltest.NewTensor(ar, c.In, kind, stream)
	w, w64 := kerneltest.Random(c.WeightLen(), stream+1)
	grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), kind.Norm, kind.Pad, stream+2)
	both := kerneltest.Once(fmt.Sprint("gradients ", name, d.Precision()), func() [2][]float64 {
		din, dweight := ConvBackwardReference(c, factors(d, x.A), factors(d, w64), factors(d, dz64))
		return [2][]float64{din, dweight}
	})
	din, dweight := both[0], both[1]
	weight := ar.Floats(w)
	kerneltest.TestSink(t, d, c.In, kind, 2*tolerance(d, c.KH*c.KW*c.Out), din, stream+3,
		func(p *exec.Program, sink tensor.Sink) tensor.Stats {
			return InputGradient{Conv: c, Grad: grad, Weight: weight, Sink: sink}.Record(p)
		})
	old, old64 := kerneltest.Random(c.WeightLen(), stream+4)
	for _, accumulate := range []bool{false, true} {
		g := WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen()), Accumulate: accumulate}
		want := append([]float64(nil), dweight...)
		if accumulate {
			g.DWeight.WriteF32(0, old)
			for i := range want {
				want[i] += old64[i]
			}
		}
		p := ar.NewProgram("weight")
		g.Record(p)
		p.Run(1)
		kerneltest.Close(t, want, g.DWeight.Values(), tolerance(d, c.Shape().Pixels()+16), "dweight")
	}
}

// A weight that is a part of a larger one gives the bits that a dense copy of it gives, and of a gradient's larger one
// only the part is written.
func TestViews(t *testing.T) {
	shape := func(n, h, w, c int) tensor.Shape { return tensor.Shape{N: n, H: h, W: w, C: c} }
	cases := []Conv{
		{In: shape(2, 5, 7, 17), Out: 33, KH: 1, KW: 1},
		{In: shape(1, 24, 24, 15), Out: 43, KH: 1, KW: 1},
		{In: shape(3, 9, 8, 24), Out: 41, KH: 1, KW: 1, Stride: 2},
		{In: shape(1, 7, 7, 301), Out: 71, KH: 1, KW: 1},
		{In: shape(2, 13, 12, 3), Out: 19, KH: 3, KW: 3, Stride: 2, PadH: 1, PadW: 1},
		{In: shape(1, 9, 9, 5), Out: 7, KH: 3, KW: 3, PadH: 1, PadW: 1}, // tiles of a gathered row across taps
		{In: shape(2, 15, 15, 11), Out: 37, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(2, 8, 9, 33), Out: 17, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(1, 11, 9, 43), Out: 21, KH: 3, KW: 3, Stride: 2, PadH: 1, PadW: 1},
		{In: shape(2, 9, 11, 43), Out: 71, KH: 3, KW: 3, PadH: 1, PadW: 1}, // by Winograd's algorithm, as the next
		{In: shape(1, 4, 4, 151), Out: 141, KH: 3, KW: 3, PadH: 1, PadW: 1},
		{In: shape(1, 9, 11, 40), Out: 9, KH: 5, KW: 5, Stride: 3, PadH: 2, PadW: 2},
		{In: shape(2, 7, 6, 12), Out: 18, KH: 3, KW: 3, PadH: 1, PadW: 1, Groups: 3},
	}
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases {
			for k, kind := range []kerneltest.Case{{}, {Norm: true, Act: tensor.HSwish, Gate: true, Pad: 3}} {
				if d.Accelerated() && (!kerneltest.Shared(d, i+k, 3) || c.WeightLen() > 30000) {
					continue
				}
				t.Run(fmt.Sprintf("%+v/%+v", c, kind), func(t *testing.T) {
					if i%2 == 1 {
						defer split.Small()()
					}
					same(t, d, c, kind, [2]int{7 - i%3, i % 4 * 3}, uint32(10*i))
				})
			}
		}
	})
}

// same compares the operations on a weight that lies among `more` input and output channels with those on a dense one.
func same(t *testing.T, d *exec.Device, c Conv, kind kerneltest.Case, more [2]int, stream uint32) {
	ar := d.NewArena()
	defer ar.Free()
	ld, taps, depth := c.Out+more[1], c.KH*c.KW, c.In.C/max(1, c.Groups)
	tap := (depth + more[0]) * ld
	x := kerneltest.NewTensor(ar, c.In, kind, stream)
	grad, _ := kerneltest.NewGradient(ar, c.Shape(), kind.Norm, kind.Pad, stream+1)
	dense, _ := kerneltest.Random(c.WeightLen(), stream+2)
	old, _ := kerneltest.Random(c.WeightLen(), stream+3)
	// spread puts a dense weight among numbers that are none; gather takes it out again and requires them to be as they
	// were.
	span := (taps-1)*tap + (depth-1)*ld + c.Out
	nan := float32(math.NaN())
	spread := func(w []float32) *exec.Buffer {
		out := slices.Repeat([]float32{nan}, span+5)
		for r := range taps * depth {
			copy(out[r/depth*tap+r%depth*ld:], w[r*c.Out:(r+1)*c.Out])
		}
		return ar.Floats(out).Slice(0, span)
	}
	gather := func(b *exec.Buffer) (w []float32) {
		all := b.Values()
		for r := range taps * depth {
			row := all[r/depth*tap+r%depth*ld:]
			w = append(w, row[:c.Out]...)
			copy(row, slices.Repeat([]float32{nan}, c.Out))
		}
		for _, v := range all {
			require.True(t, v != v, "a gap was written")
		}
		return w
	}
	bits := func(at [2]int, weight, dweight, added *exec.Buffer) (all [][]float32) {
		p := ar.NewProgram("views")
		f := Forward{Conv: c, In: x.Input, Weight: weight, WeightLD: at[0], TapLD: at[1],
			Z: kerneltest.Room(ar, c.Shape().Len()), Sums: true}
		stats := f.Record(p)
		sink := tensor.Sink{D: kerneltest.Room(ar, c.In.Len())}
		InputGradient{Conv: c, Grad: grad, Weight: weight, WeightLD: at[0], TapLD: at[1], Sink: sink}.Record(p)
		WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: dweight, WeightLD: at[0], TapLD: at[1]}.Record(p)
		WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: added, WeightLD: at[0], TapLD: at[1],
			Accumulate: true}.Record(p)
		p.Run(1)
		return [][]float32{f.Z.Values(), stats.Rows.Values(), sink.D.Values()}
	}
	dweight, added := ar.F32(c.WeightLen()), ar.Floats(old)
	want := append(bits([2]int{}, ar.Floats(dense), dweight, added), dweight.Values(), added.Values())
	dweight, added = spread(old), spread(old)
	got := append(bits([2]int{ld, tap}, spread(dense), dweight, added), gather(dweight), gather(added))
	for i, what := range []string{"z", "sums", "gradient in the input", "gradient in the weight", "added to it"} {
		require.Equal(t, want[i], got[i], what) // a NaN is not equal to itself
	}
}

func TestBadViewsPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	c := Conv{In: tensor.Shape{N: 1, H: 4, W: 4, C: 3}, Out: 5, KH: 3, KW: 3}
	record := func(n, ld, tap int) {
		Forward{Conv: c, In: tensor.Input{Shape: c.In, Z: ar.F32(c.In.Len())}, Weight: ar.F32(n), WeightLD: ld,
			TapLD: tap, Z: ar.F32(c.Shape().Len())}.Record(ar.NewProgram("view"))
	}
	const span = 8*40 + 2*7 + 5
	require.NotPanics(t, func() { record(span, 7, 40) })
	require.Panics(t, func() { record(span-1, 7, 40) }, "the last element lies behind the buffer")
	require.Panics(t, func() { record(span, 4, 40) }, "rows overlap")
	require.Panics(t, func() { record(span, 7, 18) }, "taps overlap")
}

func TestReferenceGradients(t *testing.T) {
	c := Conv{In: tensor.Shape{N: 2, H: 5, W: 4, C: 4}, Out: 2, KH: 3, KW: 2, Stride: 2, PadH: 1, PadW: 1, Groups: 2}
	_, x := kerneltest.Random(c.In.Len(), 1)
	_, w := kerneltest.Random(c.WeightLen(), 2)
	_, dz := kerneltest.Random(c.Shape().Len(), 3)
	loss := func([]float64) float64 {
		sum := 0.0
		for i, z := range ConvReference(c, x, w, nil) {
			sum += z * dz[i]
		}
		return sum
	}
	dx, dw := ConvBackwardReference(c, x, w, dz)
	kerneltest.Gradient(t, loss, x, dx, 1e-7, "x")
	kerneltest.Gradient(t, loss, w, dw, 1e-7, "w")
}

// Winograd's sums are not much further from the truth than the direct ones.
func TestWinogradError(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	c := Conv{In: tensor.Shape{N: 1, H: 16, W: 16, C: 128}, Out: 64, KH: 3, KW: 3, PadH: 1, PadW: 1}
	require.True(t, c.Winograd())
	x := kerneltest.NewTensor(ar, c.In, kerneltest.Cases[1], 1)
	w, w64 := kerneltest.Random(c.WeightLen(), 2)
	grad, dz64 := kerneltest.NewGradient(ar, c.Shape(), false, 0, 3)
	want := ConvReference(c, x.A, w64, nil)
	wantIn, wantWeight := ConvBackwardReference(c, x.A, w64, dz64)
	var errors [2][3]float64
	for i, direct := range []bool{true, false} {
		c.Direct = direct
		z, din := ar.F32(c.Shape().Len()), ar.F32(c.In.Len())
		p := ar.NewProgram("error")
		Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: z}.Record(p)
		InputGradient{Conv: c, Grad: grad, Weight: ar.Floats(w), Sink: tensor.Sink{D: din}}.Record(p)
		dw := ar.F32(c.WeightLen())
		WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: dw}.Record(p)
		p.Run(1)
		for j, v := range dw.Values() {
			errors[i][2] += math.Pow(float64(v)-wantWeight[j], 2)
		}
		for j, v := range z.Values() {
			errors[i][0] += math.Pow(float64(v)-want[j], 2)
		}
		for j, v := range din.Values() {
			errors[i][1] += math.Pow(float64(v)-wantIn[j], 2)
		}
	}
	for k, what := range []string{"output", "gradient in the input", "gradient in the weight"} {
		t.Logf("%s: Winograd's root mean square error is %.2f times the direct one", what,
			math.Sqrt(errors[1][k]/errors[0][k]))
		require.Positive(t, errors[1][k])
		require.LessOrEqual(t, errors[1][k], 4*errors[0][k])
	}
}

// The same bits on one thread and on three, and in every order of the simulator.
func TestSameBits(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		ar := d.NewArena()
		defer ar.Free()
		c := Conv{In: tensor.Shape{N: 2, H: 20, W: 20, C: 40}, Out: 70, KH: 3, KW: 3, PadH: 1, PadW: 1}
		x := kerneltest.NewTensor(ar, c.In, kerneltest.Cases[1], 1)
		w, _ := kerneltest.Random(c.WeightLen(), 2)
		grad, _ := kerneltest.NewGradient(ar, c.Shape(), true, 0, 3)
		p := ar.NewProgram("bits")
		f := Forward{Conv: c, In: x.Input, Weight: ar.Floats(w), Z: ar.F32(c.Shape().Len()), Sums: true}
		stats := f.Record(p)
		sink := tensor.Sink{D: ar.F32(c.In.Len()), Of: &x.Input, Mean: x.Mean, InvStd: x.InvStd}
		back := InputGradient{Conv: c, Grad: grad, Weight: f.Weight, Sink: sink}.Record(p)
		dw := WeightGradient{Conv: c, In: x.Input, Grad: grad, DWeight: ar.F32(c.WeightLen())}
		dw.Record(p)
		p.Run(1)
		return slices.Concat(f.Z.Values(), stats.Rows.Values(), sink.D.Values(), back.Rows.Values(),
			dw.DWeight.Values())
	})
}
