// An outside package: the simulator, on which the tests run too, imports the families.
package graph_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

// edges draws a CSR list: rows with 0..4 edges, and one in eight with up to 99, from a table of n rows.
func edges(rows, n int, stream uint32) (ptr, idx, add []int32) {
	s := philox.New(1, philox.PurposeTest, stream)
	ptr = []int32{0}
	for range rows {
		most := 5
		if s.Intn(8) == 0 {
			most = 100
		}
		for range s.Intn(most) {
			idx = append(idx, int32(s.Intn(n)))
		}
		ptr = append(ptr, int32(len(idx)))
		add = append(add, int32(s.Intn(n)))
	}
	if len(idx) == 0 {
		idx = []int32{0}
	}
	return
}

func TestGather(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][3]int{{1, 1, 1}, {3, 2, 5}, {130, 40, 17}, {257, 100, 64}, {300, 30, 33}, {1100, 40, 130}} {
			if testing.Short() && s[0] > 1000 {
				continue
			}
			for variant := range 8 {
				t.Run(fmt.Sprintf("%v/%d", s, variant), func(t *testing.T) {
					rows, n, width := s[0], s[1], s[2]
					ar := d.NewArena()
					defer ar.Free()
					stream := uint32(i*100 + variant)
					ptr, idx, addIdx := edges(rows, n, stream)
					in, in64 := kerneltest.Random(n*width, stream)
					out, out64 := kerneltest.Random(rows*width, stream+1)
					bias, bias64 := kerneltest.Random(width, stream+2)
					mask, mask64 := kerneltest.Random(rows*width, stream+3)
					weight, weight64 := kerneltest.Random(len(idx), stream+4)
					g := Gather{Out: ar.F32(rows * width), In: ar.Floats(in), Rows: exec.Fixed(rows), Width: width, Ptr: ar.Ints(ptr), Idx: ar.Ints(idx)}
					if variant&1 != 0 {
						g.Bias, g.Add, g.AddIdx, g.Relu = ar.Floats(bias), g.In, ar.Ints(addIdx), true
					} else {
						bias64, addIdx = nil, nil
					}
					if variant&2 != 0 {
						g.Mask, g.Weight = ar.Floats(mask), ar.Floats(weight)
					} else {
						mask64, weight64 = nil, nil
					}
					if variant&4 != 0 {
						g.Accumulate = true
						g.Out.WriteF32(0, out)
					}
					p := ar.NewProgram("test")
					g.Record(p)
					p.Run(1)
					var add64 []float64
					if g.Add != nil {
						add64 = in64
					}
					GatherReference(out64, in64, rows, width, ptr, idx, weight64, bias64, add64, addIdx, mask64, g.Relu, g.Accumulate)
					kerneltest.Close(t, out64, g.Out.Values(), 1e-5, "out") // of up to 100 terms
				})
			}
		}
	})
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
			RowDotBackward{DInput: din, Grad: ar.Floats(grad), Weight: wb, Mask: x, Rows: n, Width: width, Heads: heads, Accumulate: accumulate}.Record(p)
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
		ptr, idx, _ := edges(most, most, 2)
		label := ar.Ints(make([]int32, most))
		n := exec.Dynamic(ar.Ints([]int32{rows}), most)
		gathered, dots, dense, gated, sum := ar.F32(most*width), ar.F32(most), ar.F32(most*width), ar.F32(most*width), ar.F32(width)
		p := ar.NewProgram("test")
		Gather{Out: gathered, In: x, Rows: n, Width: width, Ptr: ar.Ints(ptr), Idx: ar.Ints(idx)}.Record(p)
		RowDot{Out: dots, In: x, Weight: w, Rows: n, Width: width, Heads: 1}.Record(p)
		Dense{Out: dense, In: x, Rows: n, Width: width}.Record(p)
		Gated{Rows: n, Width: width, Label: label, Table: ar.Zeros(2 * width), Scale: ar.Zeros(2 * width), Gates: ar.F32(2 * most * width), Out: gated}.Record(p)
		ColumnSum{Out: sum, In: x, Rows: n, Width: width}.Record(p)
		p.Run(1)
		for name, b := range map[string]*exec.Buffer{"gather": gathered, "rowdot": dots, "dense": dense, "gated": gated} {
			v := b.Values()
			last := len(v) / most * rows // the first that stays
			require.False(t, math.IsNaN(float64(v[last-1])), name)
			for _, x := range v[last:] {
				require.True(t, math.IsNaN(float64(x)), name)
			}
		}
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
		ptr, idx, _ := edges(rows, rows, 1)
		in, _ := kerneltest.Random(rows*width, 1)
		x, out, sum, dots := ar.Floats(in), ar.F32(rows*width), ar.F32(width), ar.F32(rows)
		p := ar.NewProgram("test")
		Gather{Out: out, In: x, Rows: exec.Fixed(rows), Width: width, Ptr: ar.Ints(ptr), Idx: ar.Ints(idx)}.Record(p)
		ColumnSum{Out: sum, In: x, Rows: exec.Fixed(rows), Width: width}.Record(p)
		RowDot{Out: dots, In: x, Weight: x, Rows: exec.Fixed(rows), Width: width, Heads: 1}.Record(p)
		p.Run(1)
		return slices.Concat(out.Values(), sum.Values(), dots.Values())
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

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	g := Gather{Out: ar.F32(7), In: ar.F32(8), Rows: exec.Fixed(2), Width: 4, Ptr: ar.I32(3), Idx: ar.I32(1)}
	require.PanicsWithValue(t, "gather: Out needs 8 elements", func() { g.Record(p) })
}
