// An outside package: the simulator, on which the tests run too, imports the families.
package dense_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

func TestDense(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {5, 3}, {70, 33}, {129, 64}} {
			for _, keep := range []float32{0, 0.8} {
				for _, relu := range []bool{true, false} {
					t.Run(fmt.Sprint(s, keep, relu), func(t *testing.T) {
						rows, width := s[0], s[1]
						ar := d.NewArena()
						defer ar.Free()
						in, in64 := kerneltest.Random(rows*width, uint32(i))
						bias, bias64 := kerneltest.Random(width, uint32(i+10))
						grad, grad64 := kerneltest.Random(rows*width, uint32(i+20))
						x, g := kerneltest.Store(ar, in, in64), kerneltest.Store(ar, grad, grad64)
						l := Dense{Rows: exec.Fixed(rows), Width: width, Out: kerneltest.Room(ar, rows*width), In: x,
							Bias: ar.Floats(bias), Relu: relu, Keep: keep, Seed: 77, Stream: philox.PurposeTrain,
							Step: ar.Ints([]int32{9})}
						din := kerneltest.Room(ar, rows*width)
						p := ar.NewProgram("test")
						l.Record(p)
						l.RecordBackward(p, din, g)
						p.Run(1)
						want, wantIn := make([]float64, rows*width), make([]float64, rows*width)
						for k := range want {
							factor := 1.0
							if keep > 0 {
								factor = DropoutReference(keep, 77, philox.PurposeTrain, 9, k)
							}
							x := in64[k] + bias64[k%width]
							wantIn[k] = grad64[k] * factor
							if relu && x <= 0 {
								x, wantIn[k] = 0, 0
							}
							want[k] = x * factor
						}
						kerneltest.Close(t, want, l.Out.Values(), kerneltest.Stored(d, 1e-6), "out")
						kerneltest.Close(t, wantIn, din.Values(), kerneltest.Stored(d, 1e-6), "gradient")
					})
				}
			}
		}
	})
}

func TestDropoutRate(t *testing.T) {
	kept := 0
	for i := range 100000 {
		if DropoutReference(0.7, 1, philox.PurposeTrain, 2, i) > 0 {
			kept++
		}
	}
	require.InDelta(t, 70000, kept, 4*math.Sqrt(100000*0.21))
}

func TestColumnSumOfBF16(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {129, 33}, {1300, 35}} {
			rows, width := s[0], s[1]
			ar := d.NewArena()
			in, in64 := kerneltest.Random(rows*width, uint32(i))
			out := ar.F32(width)
			p := ar.NewProgram("test")
			ColumnSum{Out: out, In: kerneltest.Store(ar, in, in64), Rows: exec.Fixed(rows), Width: width}.Record(p)
			p.Run(1)
			want := make([]float64, width)
			for k, v := range in64 {
				want[k%width] += v
			}
			kerneltest.Close(t, want, out.Values(), 1e-5, "column sum")
			ar.Free()
		}
	})
}

func TestRowDotAndColumnSum(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][3]int{{1, 1, 1}, {5, 7, 2}, {129, 33, 1}, {300, 128, 2}, {40, 70, 3}, {1300, 35, 1}} {
			rows, width, heads := s[0], s[1], s[2]
			ar := d.NewArena()
			in, in64 := kerneltest.Random(rows*width, uint32(10*i))
			w, w64 := kerneltest.Random(heads*width, uint32(10*i+1))
			grad, grad64 := kerneltest.Random(rows*heads, uint32(10*i+2))
			before, before64 := kerneltest.Random(rows*width, uint32(10*i+3))
			out, din, sum := ar.F32(rows*heads), ar.F32(rows*width), ar.F32(width)
			accumulate := i%2 == 1
			if accumulate {
				din.WriteF32(0, before)
				sum.WriteF32(0, before[:width])
			} else {
				clear(before64)
			}
			x, wb := ar.Floats(in), ar.Floats(w)
			p := ar.NewProgram("test")
			n := exec.Fixed(rows)
			RowDot{Out: out, In: x, Weight: wb, Rows: n, Width: width, Heads: heads}.Record(p)
			RowDotBackward{DInput: din, Grad: ar.Floats(grad), Weight: wb, Mask: x, Rows: n, Width: width, Heads: heads,
				Accumulate: accumulate}.Record(p)
			ColumnSum{Out: sum, In: x, Rows: n, Width: width, Accumulate: accumulate}.Record(p)
			p.Run(1)
			want := make([]float64, rows*heads)
			RowDotReference(want, in64, w64, rows, width, heads)
			kerneltest.Close(t, want, out.Values(), 1e-5, "rowdot")
			wantIn := make([]float64, rows*width)
			RowDotBackwardReference(wantIn, grad64, w64, in64, rows, width, heads)
			for k := range wantIn {
				wantIn[k] += before64[k]
			}
			kerneltest.Close(t, wantIn, din.Values(), 1e-5, "rowdot backward")
			wantSum := before64[:width]
			for r := range rows {
				for j := range width {
					wantSum[j] += in64[r*width+j]
				}
			}
			kerneltest.Close(t, wantSum, sum.Values(), 1e-5, "column sum")
			ar.Free()
		}
	})
}

// Rows past a count that is known only when the program runs stay as they are.
func TestDynamicRows(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		const most, rows, width = 700, 300, 5
		ar := d.NewArena()
		defer ar.Free()
		in, in64 := kerneltest.Random(most*width, 1)
		x, w := ar.Floats(in), ar.Floats(in[:width])
		n := exec.Dynamic(ar.Ints([]int32{rows}), most)
		dots, out, sum := ar.F32(most), ar.F32(most*width), ar.F32(width)
		p := ar.NewProgram("test")
		RowDot{Out: dots, In: x, Weight: w, Rows: n, Width: width, Heads: 1}.Record(p)
		Dense{Out: out, In: x, Rows: n, Width: width}.Record(p)
		ColumnSum{Out: sum, In: x, Rows: n, Width: width}.Record(p)
		p.Run(1)
		kerneltest.Written(t, dots, rows, "rowdot")
		kerneltest.Written(t, out, rows*width, "dense")
		want := make([]float64, width)
		for i, v := range in64[:rows*width] {
			want[i%width] += v
		}
		kerneltest.Close(t, want, sum.Values(), 1e-5, "column sum")
	})
}

func TestSumsRepeat(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		const rows, width = 1000, 33
		ar := d.NewArena()
		defer ar.Free()
		in, _ := kerneltest.Random(rows*width, 1)
		x, sum, dots := ar.Floats(in), ar.F32(width), ar.F32(rows)
		p := ar.NewProgram("test")
		ColumnSum{Out: sum, In: x, Rows: exec.Fixed(rows), Width: width}.Record(p)
		RowDot{Out: dots, In: x, Weight: x, Rows: exec.Fixed(rows), Width: width, Heads: 1}.Record(p)
		p.Run(1)
		return slices.Concat(sum.Values(), dots.Values())
	})
}

// The reference's own gradient: of f(in) = Σ grad·RowDot(in) by central differences.
func TestRowDotGradient(t *testing.T) {
	const rows, width, heads = 4, 5, 2
	_, in := kerneltest.Random(rows*width, 1)
	_, w := kerneltest.Random(heads*width, 2)
	_, grad := kerneltest.Random(rows*heads, 3)
	analytic := make([]float64, rows*width)
	RowDotBackwardReference(analytic, grad, w, nil, rows, width, heads)
	kerneltest.Gradient(t, func(x []float64) float64 {
		out := make([]float64, rows*heads)
		RowDotReference(out, x, w, rows, width, heads)
		s := 0.0
		for i := range out {
			s += out[i] * grad[i]
		}
		return s
	}, in, analytic, 1e-6, "rowdot")
}
