// An outside package: the simulator, on which the tests run too, imports the families.
package graph_test

import (
	"fmt"
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
		for i, s := range [][3]int{{1, 1, 1}, {3, 2, 5}, {130, 40, 17}, {257, 100, 64}, {300, 30, 33},
			{1100, 40, 130}} {
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
					g := Gather{Out: ar.F32(rows * width), In: ar.Floats(in), Rows: exec.Fixed(rows), Width: width,
						Ptr: ar.Ints(ptr), Idx: ar.Ints(idx)}
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
					GatherReference(out64, in64, rows, width, ptr, idx, weight64, bias64, add64, addIdx, mask64, g.Relu,
						g.Accumulate)
					kerneltest.Close(t, out64, g.Out.Values(), 1e-5, "out") // of up to 100 terms
				})
			}
		}
	})
}

// Rows past a count that is known only when the program runs stay as they are.
func TestDynamicRows(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		const most, rows, width = 700, 300, 5
		ar := d.NewArena()
		defer ar.Free()
		in, _ := kerneltest.Random(most*width, 1)
		x := ar.Floats(in)
		ptr, idx, _ := edges(most, most, 2)
		label := ar.Ints(make([]int32, most))
		n := exec.Dynamic(ar.Ints([]int32{rows}), most)
		gathered, gated := ar.F32(most*width), ar.F32(most*width)
		p := ar.NewProgram("test")
		Gather{Out: gathered, In: x, Rows: n, Width: width, Ptr: ar.Ints(ptr), Idx: ar.Ints(idx)}.Record(p)
		Gated{Rows: n, Width: width, Label: label, Table: ar.Zeros(2 * width), Scale: ar.Zeros(2 * width),
			Gates: ar.F32(2 * most * width), Out: gated}.Record(p)
		p.Run(1)
		kerneltest.Written(t, gathered, rows*width, "gather")
		kerneltest.Written(t, gated, rows*width, "gated")
	})
}

func TestSumsRepeat(t *testing.T) {
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		const rows, width = 1000, 33
		ar := d.NewArena()
		defer ar.Free()
		ptr, idx, _ := edges(rows, rows, 1)
		in, _ := kerneltest.Random(rows*width, 1)
		out := ar.F32(rows * width)
		p := ar.NewProgram("test")
		Gather{Out: out, In: ar.Floats(in), Rows: exec.Fixed(rows), Width: width, Ptr: ar.Ints(ptr),
			Idx: ar.Ints(idx)}.Record(p)
		p.Run(1)
		return out.Values()
	})
}

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	g := Gather{Out: ar.F32(7), In: ar.F32(8), Rows: exec.Fixed(2), Width: 4, Ptr: ar.I32(3), Idx: ar.I32(1)}
	require.PanicsWithValue(t, "gather: Out needs 8 elements of 32 bits", func() { g.Record(p) })
}
