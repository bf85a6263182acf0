package exec_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

func TestBF16Buffers(t *testing.T) {
	kerneltest.EachAccelerator(t, func(t *testing.T, d *exec.Device) {
		a := d.NewArena()
		defer a.Free()
		b := a.BF16(5)
		require.True(t, b.Half())
		require.EqualValues(t, 10, a.Bytes())
		for _, v := range b.Values() {
			require.True(t, math.IsNaN(float64(v)), "a new buffer is poisoned")
		}
		const step = 1.0 / 128 // between two neighbours at 1
		b.WriteF32(1, []float32{1 + step/2, 1 + 3*step/2, -1 - step/2 - 1e-6, float32(math.NaN())})
		got := b.Values()
		require.Equal(t, []float32{1, 1 + 2*step, -1 - step}, got[1:4], "to nearest, ties to even")
		require.True(t, math.IsNaN(float64(got[4])))
		part := b.Slice(2, 2)
		require.True(t, part.Half())
		require.Equal(t, []float32{1 + 2*step, -1 - step}, part.Values())
		require.Panics(t, func() { b.WriteF32(4, []float32{1, 2}) })
		require.Panics(t, func() { b.ReadI32(0, make([]int32, 1)) })
		f := a.F32(3)
		h := f.AsBF16()
		require.Equal(t, 6, h.Len())
		h.WriteF32(0, []float32{1, 2, 3, 4, 5, 6})
		require.Equal(t, float32(4), h.Slice(3, 1).Values()[0])
		require.Equal(t, math.Float32frombits(0x40003f80), f.Values()[0])
		require.Panics(t, func() { h.AsBF16() })
	})
}
