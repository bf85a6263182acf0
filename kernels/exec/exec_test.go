package exec_test

import (
	"errors"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/kernels/exec"
)

func TestOpenChoosesAndChecks(t *testing.T) {
	require.Contains(t, exec.Levels(), "portable")
	for _, level := range exec.Levels() {
		d, err := exec.Open(exec.Config{Level: level, Threads: 2})
		require.NoError(t, err)
		require.Equal(t, level, d.Level())
		require.Equal(t, 2, d.Threads())
		d.Close()
	}
	d, err := exec.Open(exec.Config{})
	require.NoError(t, err)
	if os.Getenv("CTNAS_ISA") == "" {
		require.NotEqual(t, "avx2x16", d.Level())
	}
	d.Close()
	_, err = exec.Open(exec.Config{Level: "sse9"})
	require.ErrorContains(t, err, `"sse9"`)
	_, err = exec.Open(exec.Config{Threads: -1})
	require.ErrorContains(t, err, "-1 threads")
	t.Setenv("CTNAS_ISA", "portable")
	d, err = exec.Open(exec.Config{})
	require.NoError(t, err)
	require.Equal(t, "portable", d.Level())
	d.Close()
}

func TestBuffers(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
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
	require.Panics(t, func() { exec.Dynamic(f, 3) })
	require.Panics(t, func() { a.BF16(1) }, "the CPU has no kernels for it")
	require.Panics(t, func() { f.AsBF16() })
	require.False(t, f.Half())
}

func TestCatch(t *testing.T) {
	work := func(first error, f func()) (err error) {
		defer exec.Catch(&err)
		defer f()
		return first
	}
	require.NoError(t, work(nil, func() {}))
	broken := errors.New("broken")
	require.Equal(t, broken, work(nil, func() { exec.Fail(broken) }))
	earlier := errors.New("earlier")
	require.Equal(t, earlier, work(earlier, func() { exec.Fail(broken) }), "what came first stays")
	require.PanicsWithValue(t, "defect", func() { _ = work(nil, func() { panic("defect") }) })
}

func TestDevicesThatAreNotThere(t *testing.T) {
	_, err := exec.Open(exec.Config{Device: "tpu:0"})
	require.ErrorContains(t, err, `"tpu:0"`)
	_, err = exec.Open(exec.Config{Device: "cuda:x"})
	require.ErrorContains(t, err, "cuda:N")
	_, err = exec.Open(exec.Config{Precision: exec.BF16})
	require.ErrorContains(t, err, "the CPU computes in fp32")
	_, err = exec.Open(exec.Config{Precision: "fp8"})
	require.ErrorContains(t, err, "fp8")
	require.Equal(t, []exec.Config{{Device: "cuda:1"}, {Device: "cuda:3"}}, exec.Config{Device: "cuda:1,3"}.Each())
	require.Equal(t, []exec.Config{{Device: "cuda:1"}, {Device: "cuda:3"}}, exec.Config{Device: "cuda:1,cuda:3"}.Each())
	require.Len(t, exec.Config{Device: "cpu"}.Each(), 1)
	if gpus, _ := cuda.Devices(); len(gpus) == 0 {
		_, err := exec.Open(exec.Config{Device: exec.All})
		require.ErrorContains(t, err, "device cuda:all: ")
	} else {
		require.Len(t, exec.Config{Device: exec.All}.Each(), len(gpus))
	}
	level := exec.Levels()[0]
	c, err := exec.Config{Device: exec.Auto, Level: level}.Resolve()
	require.NoError(t, err)
	require.Equal(t, "cpu", c.Device, "a level of the CPU is the CPU's")
}

func TestCheckLevel(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	for _, good := range append(exec.Levels(), d.Level(), "sm_90/bf16", "sm_120/fp32") {
		require.NoError(t, exec.CheckLevel(good), good)
	}
	for _, bad := range []string{"", "avx", "sm_90", "sm_90/fp16", "sm_9/bf16", "sm_090/bf16", "sm_90/bf16 ", "cuda"} {
		require.Error(t, exec.CheckLevel(bad), bad)
	}
}
