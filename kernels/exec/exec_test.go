package exec

import (
	"errors"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenChoosesAndChecks(t *testing.T) {
	require.Contains(t, Levels(), "portable")
	for _, level := range Levels() {
		d, err := Open(Config{Level: level, Threads: 2})
		require.NoError(t, err)
		require.Equal(t, level, d.Level())
		require.Equal(t, 2, d.Threads())
		d.Close()
	}
	d, err := Open(Config{})
	require.NoError(t, err)
	if os.Getenv("CTNAS_ISA") == "" {
		require.NotEqual(t, "avx2x16", d.Level())
	}
	d.Close()
	_, err = Open(Config{Level: "sse9"})
	require.ErrorContains(t, err, `"sse9"`)
	_, err = Open(Config{Threads: -1})
	require.ErrorContains(t, err, "-1 threads")
	t.Setenv("CTNAS_ISA", "portable")
	d, err = Open(Config{})
	require.NoError(t, err)
	require.Equal(t, "portable", d.Level())
	d.Close()
}

func TestBuffers(t *testing.T) {
	d, err := Open(Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	a := d.NewArena()
	defer a.Free()
	f := a.F32(5)
	for _, v := range f.Values() {
		require.True(t, math.IsNaN(float64(v)), "a new buffer is poisoned")
	}
	f.WriteF32(1, []float32{1, 2})
	part := f.Slice(1, 2)
	require.Equal(t, []float32{1, 2}, part.Values())
	require.Panics(t, func() { f.WriteF32(4, []float32{1, 2}) })
	require.Panics(t, func() { f.Slice(3, 3) })
	require.Panics(t, func() { f.ReadI32(0, make([]int32, 1)) })
	i := a.Ints([]int32{3, 4})
	got := make([]int32, 2)
	i.ReadI32(0, got)
	require.Equal(t, []int32{3, 4}, got)
	require.Panics(t, func() { Dynamic(f, 3) })
	require.Panics(t, func() { a.BF16(1) }, "the CPU has no kernels for it")
	require.Panics(t, func() { f.AsBF16() })
	require.False(t, f.Half())
}

func TestCatch(t *testing.T) {
	work := func(first error, f func()) (err error) {
		defer Catch(&err)
		defer f()
		return first
	}
	require.NoError(t, work(nil, func() {}))
	broken := errors.New("broken")
	require.Equal(t, broken, work(nil, func() { fail(broken) }))
	earlier := errors.New("earlier")
	require.Equal(t, earlier, work(earlier, func() { fail(broken) }), "what came first stays")
	require.PanicsWithValue(t, "defect", func() { _ = work(nil, func() { panic("defect") }) })
}

func TestDevicesThatAreNotThere(t *testing.T) {
	_, err := Open(Config{Device: "tpu:0"})
	require.ErrorContains(t, err, `"tpu:0"`)
	_, err = Open(Config{Device: "cuda:x"})
	require.ErrorContains(t, err, "cuda:N")
	_, err = Open(Config{Precision: BF16})
	require.ErrorContains(t, err, "the CPU computes in fp32")
	_, err = Open(Config{Precision: "fp8"})
	require.ErrorContains(t, err, "fp8")
	require.Equal(t, []Config{{Device: "cuda:1"}, {Device: "cuda:3"}}, Config{Device: "cuda:1,3"}.Each())
	require.Equal(t, []Config{{Device: "cuda:1"}, {Device: "cuda:3"}}, Config{Device: "cuda:1,cuda:3"}.Each())
	require.Len(t, Config{Device: "cpu"}.Each(), 1)
	level := Levels()[0]
	c, err := Config{Device: Auto, Level: level}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "cpu", c.Device, "a level of the CPU is the CPU's")
}
