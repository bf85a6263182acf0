// An outside package: the simulator, on which the tests run too, imports the families.
package dense_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// requireTopK runs the operation twice, the second time over another input, and compares both results bit by bit.
func requireTopK(t *testing.T, d *exec.Device, k int, inputs ...[]float32) {
	ar := d.NewArena()
	defer ar.Free()
	op := TopK{In: ar.F32(len(inputs[0])), Value: ar.F32(k), Index: ar.I32(k)}
	p := ar.NewProgram("test")
	op.Record(p)
	for _, in := range inputs {
		op.In.WriteF32(0, in)
		p.Run(1)
		want, got := TopKReference(in, k), make([]int32, k)
		op.Index.ReadI32(0, got)
		require.Equal(t, want, got)
		for i, v := range op.Value.Values() {
			require.Equal(t, math.Float32bits(in[want[i]]), math.Float32bits(v), "value %d", i)
		}
	}
}

func TestTopK(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for _, s := range [][2]int{{1, 1}, {2, 1}, {2, 2}, {33, 7}, {2047, 64}, {2048, 2048}, {2049, 33},
			{7001, 4096}} {
			n, k := s[0], s[1]
			normal, _ := kerneltest.Random(n, uint32(n))
			ties, hard := make([]float32, n), make([]float32, n)
			for i := range ties {
				// Few different numbers.
				ties[i] = float32(math.Round(float64(2 * normal[i])))
				// Different in the last bits only.
				hard[i] = math.Float32frombits(math.Float32bits(1.5) ^ uint32(i*2654435761>>3)&0x3ff)
			}
			special := append([]float32(nil), normal...)
			for i, v := range []float64{math.NaN(), math.Inf(1), 0, math.Copysign(0, -1), math.Inf(-1), math.NaN(),
				1e-40, -1e-40, math.Inf(1)} {
				special[(i*1237)%n] = float32(v)
			}
			special[n/2] = math.Float32frombits(0xffc00001) // a negative NaN
			t.Run(fmt.Sprint(n, "/", k), func(t *testing.T) {
				requireTopK(t, d, k, normal, ties, hard, special, make([]float32, n))
			})
		}
	})
}

// A whole space's scores, on the CPU.
func TestTopKOfMany(t *testing.T) {
	d, err := exec.Open(exec.Config{})
	require.NoError(t, err)
	defer d.Close()
	scores, _ := kerneltest.Random(423_624, 1)
	rising := make([]float32, 1_000_000) // every element is the best so far
	for i := range rising {
		rising[i] = float32(i)
	}
	requireTopK(t, d, 1000, scores)
	requireTopK(t, d, MaxTopK, rising)
}

func TestBadTopKPanics(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	p := ar.NewProgram("bad")
	require.PanicsWithValue(t, "topk: 5 of 4 elements", func() {
		TopK{In: ar.F32(4), Value: ar.F32(5), Index: ar.I32(5)}.Record(p)
	})
	require.PanicsWithValue(t, "topk: 4097 of 5000 elements", func() {
		TopK{In: ar.F32(5000), Value: ar.F32(4097), Index: ar.I32(4097)}.Record(p)
	})
	require.PanicsWithValue(t, "topk: Value needs 3 elements of 32 bits", func() {
		TopK{In: ar.F32(4), Value: ar.F32(2), Index: ar.I32(3)}.Record(p)
	})
}

func BenchmarkTopK(b *testing.B) {
	d, _ := exec.Open(exec.Config{Threads: 1})
	defer d.Close()
	ar := d.NewArena()
	defer ar.Free()
	scores, _ := kerneltest.Random(423_624, 1)
	p := ar.NewProgram("bench")
	TopK{In: ar.Floats(scores), Value: ar.F32(1000), Index: ar.I32(1000)}.Record(p)
	for b.Loop() {
		p.Run(1)
	}
}
