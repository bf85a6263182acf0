// An outside package: the simulator, on which the tests run too, imports the families.
package gemm_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
)

func TestMain(m *testing.M) { sim.Main(m, Sources) }

type testCase struct {
	m, n, k              int
	ta, tb, acc, dynamic bool
}

func cases() []testCase {
	var out []testCase
	for _, s := range [][3]int{{1, 1, 1}, {2, 3, 5}, {5, 17, 9}, {13, 33, 31}, {97, 64, 48}, {101, 31, 65},
		{600, 40, 70}, {129, 128, 128}} {
		for i := range 6 {
			out = append(out, testCase{s[0], s[1], s[2], i%3 == 1, i%3 == 2, i >= 3, i%2 == 0})
		}
	}
	return out
}

// check computes one case on a device; round is what the device does to factors.
func check(t *testing.T, d *exec.Device, c testCase, stream uint32, round func(float32) float32) {
	ar := d.NewArena()
	defer ar.Free()
	sizeB, sizeC := c.n*c.k, c.m*c.n
	if c.ta {
		sizeB, sizeC = c.m*c.n, c.k*c.n
	}
	a, a64 := kerneltest.Random(c.m*c.k, 3*stream)
	b, b64 := kerneltest.Random(sizeB, 3*stream+1)
	out, out64 := kerneltest.Random(sizeC, 3*stream+2)
	for i, v := range a {
		a64[i] = float64(round(v))
	}
	for i, v := range b {
		b64[i] = float64(round(v))
	}
	op := Op{C: ar.F32(sizeC), A: ar.Floats(a), B: ar.Floats(b), M: exec.Fixed(c.m), N: c.n, K: c.k, TransA: c.ta,
		TransB: c.tb, Accumulate: c.acc}
	if c.acc {
		op.C.WriteF32(0, out)
	}
	if c.dynamic {
		op.M = exec.Dynamic(ar.Ints([]int32{int32(c.m)}), c.m)
	}
	p := ar.NewProgram("test")
	Record(p, op)
	p.Run(1)
	OpReference(out64, a64, b64, c.m, c.n, c.k, c.ta, c.tb, c.acc)
	kerneltest.Close(t, out64, op.C.Values(), 2e-6*math.Sqrt(float64(c.m+c.k)), "c")
}

func TestGemm(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				check(t, d, c, uint32(i), func(v float32) float32 { return v })
			})
		}
	})
}

// The tensor cores' products are those of the rounded factors.
func TestGemmBF16(t *testing.T) {
	kerneltest.EachTensorCore(t, func(t *testing.T, d *exec.Device) {
		for i, c := range cases() {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) { check(t, d, c, uint32(i), bf16) })
		}
	})
}

// bf16 rounds to the nearest number with 8 bits of mantissa, ties to even.
func bf16(v float32) float32 {
	bits := math.Float32bits(v)
	bits += 0x7fff + bits>>16&1
	return math.Float32frombits(bits &^ 0xffff)
}

// A matrix that is packed once serves several products.
func TestPacked(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		ar := d.NewArena()
		defer ar.Free()
		a, a64 := kerneltest.Random(30*20, 1)
		b, b64 := kerneltest.Random(33*20, 2)
		p := ar.NewProgram("packed")
		x, c := ar.Floats(a), ar.F32(30*33)
		packed := Pack(p, ar.Floats(b), 33, 20, true)
		for i := 0; i < 30; i += 15 {
			Record(p, Op{C: c.Slice(i*33, 15*33), A: x.Slice(i*20, 15*20), Packed: packed, M: exec.Fixed(15),
				N: 33, K: 20})
		}
		p.Run(1)
		want := make([]float64, 30*33)
		OpReference(want, a64, b64, 30, 33, 20, false, true, false)
		kerneltest.Close(t, want, c.Values(), 1e-5, "c")
	})
}

func TestDynamicRows(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	a, _ := kerneltest.Random(40*8, 1)
	b, _ := kerneltest.Random(40*8, 2)
	m := ar.Ints([]int32{7})
	c, w := ar.F32(40*8), ar.F32(8*8)
	p := ar.NewProgram("rows")
	Record(p, Op{C: c, A: ar.Floats(a), B: ar.Floats(b[:64]), M: exec.Dynamic(m, 40), N: 8, K: 8})
	Record(p, Op{C: w, A: ar.Floats(a), B: ar.Floats(b), M: exec.Dynamic(m, 40), N: 8, K: 8, TransA: true})
	p.Run(1)
	got := c.Values()
	require.False(t, math.IsNaN(float64(got[7*8-1])))
	require.True(t, math.IsNaN(float64(got[7*8])), "rows past the count must stay untouched")
	m.WriteI32(0, []int32{0})
	p.Run(1)
	require.Equal(t, make([]float32, 64), w.Values(), "a sum over no rows is zero")
	m.WriteI32(0, []int32{1 << 30})
	p.Run(1) // a count beyond the buffer is cut to its size
	require.False(t, math.IsNaN(float64(c.Values()[40*8-1])))
}

func TestBadShapesPanic(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	require.Panics(t, func() { Record(p, Op{C: ar.F32(3), A: ar.F32(4), B: ar.F32(4), M: exec.Fixed(2), N: 2, K: 2}) })
	require.Panics(t, func() { Record(p, Op{C: ar.F32(4), A: ar.F32(4), B: ar.F32(4), M: exec.Fixed(2), N: 0, K: 2}) })
}

func BenchmarkGemm(b *testing.B) {
	for _, level := range exec.Levels() {
		for _, kind := range []string{"plain", "transA"} {
			b.Run(level+"/"+kind, func(b *testing.B) {
				d, _ := exec.Open(exec.Config{Level: level, Threads: 1})
				defer d.Close()
				ar := d.NewArena()
				defer ar.Free()
				const m, n, k = 1792, 128, 128
				x, _ := kerneltest.Random(m*k, 1)
				y, _ := kerneltest.Random(m*n, 2)
				p := ar.NewProgram("bench")
				Record(p, Op{C: ar.F32(m * n), A: ar.Floats(x), B: ar.Floats(y), M: exec.Fixed(m), N: n, K: k,
					TransA: kind == "transA"})
				for b.Loop() {
					p.Run(1)
				}
				b.ReportMetric(2*m*n*k*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
