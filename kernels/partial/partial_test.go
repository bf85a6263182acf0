package partial_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/partial"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

// Sums of odd numbers of parts and elements, dense and among other numbers, one by one and in one launch.
func TestSums(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		if !d.Accelerated() {
			t.Skip("the CPU has no such operation")
		}
		ar := d.NewArena()
		defer ar.Free()
		for _, together := range []bool{false, true} {
			p := ar.NewProgram("partial")
			var later *Sums
			if together {
				later = &Sums{}
			}
			var checks []func()
			for i, parts := range []int{1, 3, 8, 9, 37, 64, 65, 300} {
				for k, shape := range [][3]int{{1, 1, 1}, {1, 1, 67}, {3, 5, 7}, {1, 3, 600}} {
					taps, rows, cols := shape[0], shape[1], shape[2]
					n, stream := taps*rows*cols, uint32(100*i+10*k)
					x, x64 := kerneltest.Random(parts*n, stream)
					s := Sum{In: kerneltest.Store(ar, x, x64), Parts: parts, Len: n, Accumulate: (i+k)%2 == 1}
					rowLD, tapLD := cols, rows*cols
					if k > 1 {
						rowLD, tapLD = cols+2, rows*(cols+2)+3
						s.Cols, s.Rows, s.RowLD, s.TapLD = cols, rows, rowLD, tapLD
					}
					old, old64 := kerneltest.Random((taps-1)*tapLD+(rows-1)*rowLD+cols+1, stream+1)
					all := ar.Floats(old)
					s.Out = all.Slice(0, len(old)-1)
					s.Record(p, later)
					checks = append(checks, func() {
						got := all.Values()
						for j := range n {
							at := j/(rows*cols)*tapLD + j/cols%rows*rowLD + j%cols
							want := 0.0
							if s.Accumulate {
								want = old64[at]
							}
							for q := range parts {
								want += x64[q*n+j]
							}
							require.InDelta(t, want, got[at], 1e-6*math.Sqrt(float64(parts))*4, "%d parts of %v", parts,
								shape)
							got[at] = old[at]
						}
						require.Equal(t, old, got, "a gap was written")
					})
				}
			}
			if together {
				require.Empty(t, p.Launches())
				later.Record(p)
				require.Len(t, p.Launches(), 1)
			}
			p.Run(1)
			for _, check := range checks {
				check()
			}
		}
	})
}

// Sums into the same elements are made one after the other, in the order in which they were added.
func TestSumsIntoTheSame(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		if !d.Accelerated() {
			t.Skip("the CPU has no such operation")
		}
		ar := d.NewArena()
		defer ar.Free()
		out, in := ar.Floats([]float32{1, 2, 3, 4}), ar.Floats([]float32{10, 20, 30, 40, 50, 60})
		var s Sums
		s.Add(Sum{In: in, Parts: 2, Len: 3, Out: out.Slice(0, 3)})
		s.Add(Sum{In: in, Parts: 3, Len: 1, Out: out.Slice(3, 1)})
		s.Add(Sum{In: in, Parts: 3, Len: 2, Out: out.Slice(1, 2), Accumulate: true})
		s.Add(Sum{In: in, Parts: 1, Len: 1, Out: out.Slice(2, 1), Accumulate: true})
		p := ar.NewProgram("same")
		s.Record(p)
		require.Len(t, p.Launches(), 3)
		p.Run(1)
		require.Equal(t, []float32{50, 70 + 90, 90 + 120 + 10, 60}, out.Values())
		require.Panics(t, func() { s.Add(Sum{In: in, Parts: 4, Len: 2, Out: out}) })
		require.Panics(t, func() { s.Add(Sum{In: in, Parts: 1, Len: 6, Out: out}) })
		require.Panics(t, func() { s.Add(Sum{In: in, Parts: 1, Len: 3, Out: out, Cols: 2, Rows: 1}) })
	})
}
