package exec_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// A sum of buffers is that of a balanced tree in float32, of zeros with their sign too, and the same where parts were
// added up before.
func TestSumTree(t *testing.T) {
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		for _, length := range []int{1, 17, 4096, 10_001} {
			for _, n := range []int{1, 2, 4, 8} {
				a := d.NewArena()
				values, buffers := make([][]float32, n), make([]*exec.Buffer, n)
				for i := range values {
					values[i] = make([]float32, length)
					for k := range values[i] {
						values[i][k] = float32(math.Ldexp(rand.Float64()-0.5, rand.IntN(40)-20))
					}
					values[i][0] = float32(math.Copysign(0, -1))
					buffers[i] = a.Floats(values[i])
				}
				require.NoError(t, exec.SumTree(buffers, nil))
				whole := buffers[0].Values()
				for k, got := range whole {
					require.Equal(t, math.Float32bits(kerneltest.Tree(values, k)), math.Float32bits(got))
				}
				for _, b := range buffers[1:] {
					require.Equal(t, whole, b.Values())
				}
				if n == 8 {
					var halves []*exec.Buffer
					for i := range buffers {
						buffers[i].WriteF32(0, values[i])
					}
					for _, half := range [][]*exec.Buffer{buffers[:4], buffers[4:]} {
						require.NoError(t, exec.SumTree(half, nil))
						halves = append(halves, half[0])
					}
					require.NoError(t, exec.SumTree(halves, nil))
					require.Equal(t, whole, halves[1].Values())
				}
				a.Free()
			}
		}
	})
	require.Panics(t, func() { _ = exec.SumTree(make([]*exec.Buffer, 3), nil) })
}

// What one of several devices fails at is an error, and a panic that is none of a device goes on where somebody may
// catch it, with the place that it comes from, when the others have ended.
func TestEach(t *testing.T) {
	for _, n := range []int{1, 3} {
		ended := make([]bool, n)
		each := func(last func()) error {
			return exec.Each(n, func(i int) error {
				if i == n-1 {
					last()
				}
				ended[i] = true
				return nil
			})
		}
		require.EqualError(t, each(func() { exec.Fail(errors.New("no memory")) }), "no memory")
		require.Equal(t, n-1, slices.Index(append(ended, false), false))
		said := func() (said any) {
			defer func() { said = recover() }()
			_ = each(func() { panic("a mistake") })
			return nil
		}()
		require.Contains(t, fmt.Sprint(said), "a mistake")
		if n > 1 {
			require.Contains(t, said, "exec_test.TestEach")
		}
	}
}
