package kerneltest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/tensor"
)

// Case says what stands before a tensor's consumer.
type Case struct {
	Norm, Gate bool
	Act        tensor.Act
	Pad        int // floats between the channels of a pixel and those of the next
}

// Cases are all kinds of inputs.
var Cases = []Case{{}, {Norm: true, Act: tensor.ReLU}, {Norm: true, Act: tensor.HSwish, Gate: true, Pad: 3},
	{Act: tensor.ReLU6, Pad: 16}, {Norm: true, Act: tensor.Swish}, {Norm: true, Pad: 1},
	{Act: tensor.HSigmoid, Gate: true}, {Norm: true, Act: tensor.Sigmoid, Pad: 2}}

// Store returns a buffer with x as tensors are stored: in float32, or in bfloat16 where the device's precision is that.
// x and x64 are rounded likewise; x64 may be nil.
func Store(a *exec.Arena, x []float32, x64 []float64) *exec.Buffer {
	b := Room(a, len(x))
	b.WriteF32(0, x)
	b.ReadF32(0, x)
	for i := range x64 {
		x64[i] = float64(x[i])
	}
	return b
}

// Room returns a buffer for n elements of a tensor, as Store stores them.
func Room(a *exec.Arena, n int) *exec.Buffer {
	if a.Device().Precision() == exec.BF16 {
		return a.BF16(n)
	}
	return a.F32(n)
}

// Stored is the tolerance of a result that is stored as a tensor, when it is tol before that.
func Stored(d *exec.Device, tol float64) float64 {
	if d.Precision() == exec.BF16 {
		return tol + 0x1p-8 // half a unit in the last of 8 bits
	}
	return tol
}

// spread writes rows of c numbers, ld apart.
func spread(b *exec.Buffer, x []float32, c, ld int) {
	for i := range len(x) / c {
		b.WriteF32(i*ld, x[i*c:(i+1)*c])
	}
}

// Tensor is a random one in the form that kernels read and in float64, dense.
type Tensor struct {
	Input        tensor.Input
	Mean, InvStd *exec.Buffer
	Z            []float64 // raw
	U            []float64 // scale·z + shift
	A            []float64 // gate·act(u)
	Gate         []float64
	Zhat         []float64 // (z - mean)·invstd
}

// NewTensor draws a tensor. Gaps between pixels hold NaN.
func NewTensor(a *exec.Arena, s tensor.Shape, c Case, stream uint32) *Tensor {
	ld := s.C + c.Pad
	t := &Tensor{Input: tensor.Input{Shape: s, Z: Room(a, s.Pixels()*ld), Stride: ld, Act: c.Act}}
	z, z64 := Random(s.Len(), stream)
	Store(a, z, z64)
	t.Z, t.U, t.A, t.Zhat = z64, append([]float64(nil), z64...), make([]float64, s.Len()),
		append([]float64(nil), z64...)
	spread(t.Input.Z, z, s.C, ld)
	if c.Norm {
		scale, scale64 := Random(s.C, stream+1000)
		shift, shift64 := Random(s.C, stream+2000)
		mean, mean64 := Random(s.C, stream+3000)
		inv, inv64 := Random(s.C, stream+4000)
		t.Input.Scale, t.Input.Shift, t.Mean, t.InvStd = a.Floats(scale), a.Floats(shift), a.Floats(mean), a.Floats(inv)
		for i := range t.U {
			t.U[i] = scale64[i%s.C]*z64[i] + shift64[i%s.C]
			t.Zhat[i] = (z64[i] - mean64[i%s.C]) * inv64[i%s.C]
		}
	}
	if c.Gate {
		var gate []float32
		gate, t.Gate = Random(s.N*s.C, stream+5000)
		t.Input.Gate = a.Floats(gate)
	}
	for i, u := range t.U {
		t.A[i], _ = tensor.ActReference(c.Act, u)
		if c.Gate {
			t.A[i] *= t.Gate[i/(s.H*s.W*s.C)*s.C+i%s.C]
		}
	}
	return t
}

// NewGradient draws the gradient in a tensor of shape s, with coefficients or without, and its values in float64.
func NewGradient(a *exec.Arena, s tensor.Shape, normed bool, pad int, stream uint32) (tensor.Gradient, []float64) {
	ld := s.C + pad
	g, g64 := Random(s.Len(), stream)
	Store(a, g, g64)
	out := tensor.Gradient{G: Room(a, s.Pixels()*ld), Stride: ld}
	spread(out.G, g, s.C, ld)
	if !normed {
		return out, g64
	}
	z, z64 := Random(s.Len(), stream+1000)
	out.Z = Store(a, z, z64)
	p, p64 := Random(s.C, stream+2000)
	q, q64 := Random(s.C, stream+3000)
	r, r64 := Random(s.C, stream+4000)
	out.P, out.Q, out.R = a.Floats(p), a.Floats(q), a.Floats(r)
	for i := range g64 {
		c := i % s.C
		g64[i] = p64[c]*g64[i] + q64[c]*z64[i] + r64[c]
	}
	return out, g64
}

// Dense reads a tensor of shape s and stride ld from a buffer, and requires the gaps to be untouched: still NaN.
func Dense(t testing.TB, b *exec.Buffer, s tensor.Shape, ld int) []float32 {
	t.Helper()
	all := b.Values()
	var out []float32
	for i := range s.Pixels() {
		out = append(out, all[i*ld:i*ld+s.C]...)
		for _, v := range all[i*ld+s.C : min(len(all), (i+1)*ld)] {
			require.True(t, v != v, "a gap was written")
		}
	}
	return out
}

// TestSink runs record with the three kinds of sinks for the gradient in x, whose value is want: written; added; and
// added, then finished with the activation's derivative and sums.
func TestSink(t *testing.T, d *exec.Device, s tensor.Shape, c Case, tol float64, want []float64, stream uint32,
	record func(p *exec.Program, sink tensor.Sink) tensor.Stats) {
	t.Helper()
	ar := d.NewArena()
	defer ar.Free()
	x := NewTensor(ar, s, c, stream)
	ld := s.C + c.Pad
	old, old64 := Random(s.Len(), stream+9000)
	Store(ar, old, old64)
	for kind := range 3 {
		sink := tensor.Sink{D: Room(ar, s.Pixels()*ld), Stride: ld, Accumulate: kind > 0}
		expect := append([]float64(nil), want...)
		if kind > 0 {
			spread(sink.D, old, s.C, ld)
			for i := range expect {
				expect[i] += old64[i]
			}
		}
		if kind == 2 {
			of := x.Input
			sink.Of, sink.Mean, sink.InvStd = &of, x.Mean, x.InvStd
			for i := range expect {
				_, slope := tensor.ActReference(c.Act, x.U[i])
				expect[i] *= slope
			}
		}
		p := ar.NewProgram("sink")
		stats := record(p, sink)
		p.Run(1)
		stored := Dense(t, sink.D, s, ld)
		Close(t, expect, stored, Stored(d, tol), fmt.Sprintf("gradient, sink %d", kind))
		if !sink.Sums() {
			continue
		}
		sums := make([]float64, 2*s.C)
		for i, g := range stored {
			sums[i%s.C] += float64(g)
			sums[s.C+i%s.C] += float64(g) * x.Zhat[i]
		}
		got := make([]float32, 2*s.C)
		for i, v := range stats.Rows.Values() {
			got[i%(2*s.C)] += v
		}
		Close(t, sums, got, min(20*tol, 1e-3), "sums of what was stored")
		count := make([]int32, stats.Parts)
		stats.Count.ReadI32(0, count)
		total := int32(0)
		for _, n := range count {
			total += n
		}
		require.EqualValues(t, s.Pixels(), total)
	}
}

// Moments are mean and variance (divided by n) of each channel in float64 in two passes.
func Moments(z []float64, c int) (mean, variance []float64) {
	mean, variance = make([]float64, c), make([]float64, c)
	n := float64(len(z) / c)
	for i, v := range z {
		mean[i%c] += v / n
	}
	for i, v := range z {
		variance[i%c] += (v - mean[i%c]) * (v - mean[i%c]) / n
	}
	return mean, variance
}

// CheckForwardSums requires the sums of an operation that wrote z (dense, of c channels) to give z's mean and variance.
func CheckForwardSums(t testing.TB, stats tensor.Stats, z []float32, c int, tol float64) {
	t.Helper()
	z64 := make([]float64, len(z))
	for i, v := range z {
		z64[i] = float64(v)
	}
	mean, variance := Moments(z64, c)
	rows, count := stats.Rows.Values(), make([]int32, stats.Parts)
	stats.Count.ReadI32(0, count)
	gotMean, gotSquare := make([]float64, c), make([]float64, c)
	total := 0.0
	for _, n := range count {
		total += float64(n)
	}
	require.EqualValues(t, len(z)/c, total)
	for i := range stats.Parts {
		for j := range c {
			near, s1, s2 := float64(rows[(3*i)*c+j]), float64(rows[(3*i+1)*c+j]), float64(rows[(3*i+2)*c+j])
			gotMean[j] += (float64(count[i])*near + s1) / total
			gotSquare[j] += (s2 + 2*near*s1 + float64(count[i])*near*near) / total
		}
	}
	got := make([]float32, c)
	for j := range c {
		got[j] = float32(gotSquare[j] - gotMean[j]*gotMean[j])
		gotMean[j] -= mean[j]
	}
	for j := range c {
		require.LessOrEqual(t, gotMean[j]*gotMean[j], tol*tol*(variance[j]+1e-12), "mean of channel %d", j)
	}
	Close(t, variance, got, tol, "variance")
}
