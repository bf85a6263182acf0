package group_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/group"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// The sum is that of a balanced tree, to the bit, on every device, again and again over other numbers, whether devices
// copy from each other or the host adds.
func TestSum(t *testing.T) {
	names := append([]string{"cpu"}, kerneltest.Accelerators()...)
	for _, name := range names {
		for _, n := range []int{1, 2, 4, 8} {
			devices, arenas := make([]*exec.Device, n), make([]*exec.Arena, n)
			for i, one := range kerneltest.Alike(t, name, n) {
				var err error
				devices[i], err = exec.Open(exec.Config{Device: one, Threads: 1})
				require.NoError(t, err)
				arenas[i] = devices[i].NewArena()
			}
			for _, length := range []int{0, 1, 64, 65, 2_001} {
				buffers := make([]*exec.Buffer, n)
				for i, a := range arenas {
					buffers[i] = a.F32(length)
				}
				s := group.NewSum(arenas, buffers, nil)
				for range 3 {
					values := make([][]float32, n)
					for i := range values {
						values[i] = make([]float32, length)
						for k := range values[i] {
							values[i][k] = float32(math.Ldexp(rand.Float64()-0.5, rand.IntN(30)-15))
						}
						if length > 0 {
							values[i][length-1] = float32(math.Copysign(0, -1))
						}
						buffers[i].WriteF32(0, values[i])
					}
					require.NoError(t, s.Run())
					for _, b := range buffers {
						for k, got := range b.Values() {
							require.Equal(t, math.Float32bits(kerneltest.Tree(values, k)),
								math.Float32bits(got), "%s %d %d", name, n, length)
						}
						// What others take of it they have taken before anything else is done here.
						b.WriteF32(0, slices.Repeat([]float32{-1}, length))
						b.Device().Sync()
					}
				}
			}
			for i, d := range devices {
				arenas[i].Free()
				d.Close()
			}
		}
	}
}
