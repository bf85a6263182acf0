// An outside package: the simulator, on which the tests run too, imports the families.
package elastic_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/elastic"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

// shape is a shared kernel's size and channels, those that are used of them, and how many steps smaller it is made.
type shape struct{ k, ld, c, steps int }

var shapes = []shape{{1, 1, 1, 0}, {3, 5, 3, 0}, {3, 4, 4, 1}, {5, 33, 33, 1}, {5, 70, 31, 2}, {7, 40, 17, 0},
	{7, 40, 17, 1}, {7, 40, 17, 2}, {7, 40, 17, 3}, {7, 1, 1, 2}, {7, 96, 65, 2}, {7, 129, 128, 1}, {6, 9, 7, 2}}

// data is a case: the weight with numbers that are none behind the channels that are used, the matrices, the gradient
// in the result, and what the gradients are added to, with the references of all.
type data struct {
	shape
	weight, dout, old      []float32
	matrices, oldMatrices  [][]float32
	out, dweight           []float64
	dmatrices, matrices64  [][]float64
	used, dout64, oldDense []float64
}

func (s shape) size() int { return s.k - 2*s.steps }

func makeData(s shape, stream uint32) data {
	d := data{shape: s}
	var weight []float32
	weight, d.used = kerneltest.Random(s.k*s.k*s.c, stream)
	d.weight = d.spread(weight)
	old, oldDense := kerneltest.Random(s.k*s.k*s.c, stream+1)
	d.old, d.oldDense = d.spread(old), oldDense
	d.dout, d.dout64 = kerneltest.Random(s.size()*s.size()*s.c, stream+2)
	for i := range s.steps {
		n := (s.k - 2*i - 2) * (s.k - 2*i - 2)
		m, m64 := kerneltest.Random(n*n, stream+10+uint32(i))
		for j := range m {
			m[j] /= float32(math.Sqrt(float64(n)))
			m64[j] = float64(m[j])
		}
		oldM, _ := kerneltest.Random(n*n, stream+20+uint32(i))
		d.matrices, d.matrices64, d.oldMatrices = append(d.matrices, m), append(d.matrices64, m64),
			append(d.oldMatrices, oldM)
	}
	d.out = ShrinkReference(s.k, s.c, d.used, d.matrices64)
	d.dweight, d.dmatrices = ShrinkBackwardReference(s.k, s.c, d.used, d.matrices64, d.dout64)
	return d
}

// spread puts dense taps ld apart.
func (d data) spread(dense []float32) []float32 {
	out := slices.Repeat([]float32{float32(math.NaN())}, (d.k*d.k-1)*d.ld+d.c)
	for t := range d.k * d.k {
		copy(out[t*d.ld:], dense[t*d.c:(t+1)*d.c])
	}
	return out
}

// record appends both directions and returns what they write.
func (d data) record(p *exec.Program) (out, dweight *exec.Buffer, dmatrices []*exec.Buffer) {
	ar := p.Arena()
	out, dweight = ar.F32(len(d.dout)), ar.Floats(d.old)
	var matrices []*exec.Buffer
	for i, m := range d.matrices {
		matrices, dmatrices = append(matrices, ar.Floats(m)), append(dmatrices, ar.Floats(d.oldMatrices[i]))
	}
	weight := ar.Floats(d.weight)
	Shrink{K: d.k, C: d.c, LD: d.ld, Weight: weight, Matrices: matrices, Out: out}.Record(p)
	Gradient{K: d.k, C: d.c, LD: d.ld, Weight: weight, Matrices: matrices, DOut: ar.Floats(d.dout), DWeight: dweight,
		DMatrices: dmatrices}.Record(p)
	return out, dweight, dmatrices
}

func TestShrink(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range shapes {
			t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
				c := kerneltest.Once(fmt.Sprint("data ", i), func() data { return makeData(s, uint32(100*i)) })
				ar := d.NewArena()
				defer ar.Free()
				p := ar.NewProgram("shrink")
				out, dweight, dmatrices := c.record(p)
				p.Run(1)
				kerneltest.Close(t, c.out, out.Values(), 1e-6, "kernel")
				checkWeight(t, c, dweight.Values())
				for k, m := range dmatrices {
					checkMatrix(t, c, k, m.Values())
				}
			})
		}
	})
}

// checkWeight requires the gradient to be added to the inner taps of the channels that are used, and to nothing else.
func checkWeight(t *testing.T, c data, got []float32) {
	var dense []float32
	want := make([]float64, len(c.dweight))
	for i, v := range c.dweight {
		want[i] = c.oldDense[i] + v
	}
	for tap := range c.k * c.k {
		row := got[tap*c.ld : min(len(got), (tap+1)*c.ld)]
		dense = append(dense, row[:c.c]...)
		for _, v := range row[c.c:] {
			require.True(t, v != v, "a channel that is not used was written")
		}
		if y, x := tap/c.k, tap%c.k; c.steps > 0 && (y == 0 || x == 0 || y == c.k-1 || x == c.k-1) {
			require.Equal(t, c.old[tap*c.ld:tap*c.ld+c.c], row[:c.c], "an outer tap was written")
		}
	}
	kerneltest.Close(t, want, dense, 2e-6, "gradient in the kernel")
}

// checkMatrix requires the gradient to be added, and columns that make taps which nobody reads to be as they were.
func checkMatrix(t *testing.T, c data, k int, got []float32) {
	want := make([]float64, len(got))
	for i, v := range c.dmatrices[k] {
		if want[i] = float64(c.oldMatrices[k][i]) + v; v == 0 {
			require.Equal(t, c.oldMatrices[k][i], got[i], "element %d of matrix %d", i, k)
		}
	}
	kerneltest.Close(t, want, got, 1e-6*math.Sqrt(float64(c.c)+9), fmt.Sprintf("gradient in matrix %d", k))
}

// Once-for-all starts with the identity: the small kernel is the inner part of the large one, to the last bit.
func TestIdentity(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		const c = 37
		weight, _ := kerneltest.Random(49*c, 1)
		var matrices []*exec.Buffer
		for _, n := range []int{25, 9} {
			m := make([]float32, n*n)
			for i := range n {
				m[i*n+i] = 1
			}
			matrices = append(matrices, ar.Floats(m))
		}
		s := Shrink{K: 7, C: c, Weight: ar.Floats(weight), Matrices: matrices, Out: ar.F32(9 * c)}
		p := ar.NewProgram("identity")
		s.Record(p)
		p.Run(1)
		var want []float32
		for y := 2; y < 5; y++ {
			want = append(want, weight[(y*7+2)*c:(y*7+5)*c]...)
		}
		require.Equal(t, want, s.Out.Values())
	})
}

func TestReferenceGradients(t *testing.T) {
	c := makeData(shape{7, 3, 3, 2}, 1)
	loss := func([]float64) float64 {
		sum := 0.0
		for i, v := range ShrinkReference(c.k, c.c, c.used, c.matrices64) {
			sum += v * c.dout64[i]
		}
		return sum
	}
	kerneltest.Gradient(t, loss, c.used, c.dweight, 1e-7, "weight")
	for i, m := range c.matrices64 {
		kerneltest.Gradient(t, loss, m, c.dmatrices[i], 1e-7, fmt.Sprintf("matrix %d", i))
	}
}

// The same bits on one thread and on three, and in every order of the simulator.
func TestSameBits(t *testing.T) {
	c := makeData(shape{7, 200, 163, 2}, 7)
	kerneltest.SameBits(t, func(d *exec.Device) []float32 {
		ar := d.NewArena()
		defer ar.Free()
		p := ar.NewProgram("bits")
		out, dweight, dmatrices := c.record(p)
		p.Run(2)
		all := slices.DeleteFunc(dweight.Values(), func(v float32) bool { return v != v })
		return slices.Concat(out.Values(), all, dmatrices[0].Values(), dmatrices[1].Values())
	})
}

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	w, m25, m9, out := ar.Zeros(48*6+4), ar.Zeros(25*25), ar.Zeros(9*9), ar.F32(9*4)
	s := Shrink{K: 7, C: 4, LD: 6, Weight: w, Matrices: []*exec.Buffer{m25, m9}, Out: out}
	s.Record(ar.NewProgram("good"))
	for name, bad := range map[string]func(s *Shrink){
		"the taps overlap":      func(s *Shrink) { s.LD = 3 },
		"a larger kernel":       func(s *Shrink) { s.K = 9 },
		"a short weight":        func(s *Shrink) { s.Weight = ar.Zeros(48*6 + 3) },
		"a matrix of less taps": func(s *Shrink) { s.Matrices = []*exec.Buffer{m9, m9} },
		"a short result":        func(s *Shrink) { s.Out = ar.F32(9*4 - 1) },
		"no tap is left":        func(s *Shrink) { s.Matrices = []*exec.Buffer{m25, m25, m25, m25} },
	} {
		wrong := s
		bad(&wrong)
		require.Panics(t, func() { wrong.Record(ar.NewProgram("bad")) }, name)
	}
	require.Panics(t, func() {
		Gradient{K: 7, C: 4, LD: 6, Weight: w, Matrices: s.Matrices, DOut: out, DWeight: w,
			DMatrices: []*exec.Buffer{m25}}.Record(ar.NewProgram("bad"))
	}, "a matrix without a gradient")
}

// The widest kernels of once-for-all: 960 channels, 7 to 5 and 7 to 3.
func BenchmarkShrink(b *testing.B) {
	for _, level := range exec.Levels() {
		for steps := 1; steps <= 2; steps++ {
			for _, way := range []string{"forward", "both"} {
				b.Run(fmt.Sprintf("%s/%d/%s", level, steps, way), func(b *testing.B) {
					d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
					defer d.Close()
					ar := d.NewArena()
					defer ar.Free()
					c := makeData(shape{7, 960, 960, steps}, 1)
					p := ar.NewProgram("shrink")
					flops := 2 * 960 * 625.0
					if steps == 2 {
						flops = 2 * 960 * (225 + 81)
					}
					if way == "forward" {
						var matrices []*exec.Buffer
						for _, m := range c.matrices {
							matrices = append(matrices, ar.Floats(m))
						}
						Shrink{K: 7, C: 960, Weight: ar.Floats(c.weight), Matrices: matrices,
							Out: ar.F32(len(c.dout))}.Record(p)
					} else {
						c.record(p)
						flops *= 3
					}
					kerneltest.Bench(b, flops, 4*50*960, p)
				})
			}
		}
	}
}
