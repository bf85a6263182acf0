// An outside package: the simulator, on which the tests run too, imports the families.
package dense_test

import (
	"fmt"
	"testing"

	. "github.com/ctnas/ctnas/kernels/dense"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/gemm"
	"github.com/ctnas/ctnas/kernels/kerneltest"
)

// A row that is a center, far rows, and sizes that no vector divides. Products are float32 also where a device
// multiplies matrices in bfloat16.
func TestRadial(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][3]int{{1, 1, 1}, {5, 7, 2}, {130, 33, 17}, {300, 70, 40}} {
			t.Run(fmt.Sprint(s), func(t *testing.T) {
				rows, width, centers := s[0], s[1], s[2]
				ar := d.NewArena()
				defer ar.Free()
				in, in64 := kerneltest.Random(rows*width, uint32(10*i))
				center, center64 := kerneltest.Random(centers*width, uint32(10*i+1))
				weight, weight64 := kerneltest.Random(centers, uint32(10*i+2))
				copy(in, center[:width])
				copy(in64, center64[:width])
				for j := range width { // the last one: all functions but its own vanish
					in[len(in)-1-j] *= 100
					in64[len(in)-1-j] *= 100
				}
				norm := make([]float32, centers)
				for k, v := range center {
					norm[k/width] += v * v
				}
				scale := 1 / float32(3*width)
				x, c, product, out := ar.Floats(in), ar.Floats(center), ar.F32(rows*centers), ar.F32(rows)
				p := ar.NewProgram("test")
				gemm.Record(p, gemm.Op{C: product, A: x, B: c, M: exec.Fixed(rows), N: centers, K: width, TransB: true,
					Exact: true})
				Radial{Out: out, In: x, Product: product, Norm: ar.Floats(norm), Weight: ar.Floats(weight),
					Rows: exec.Fixed(rows), Width: width, Centers: centers, Scale: scale}.Record(p)
				p.Run(1)
				want := make([]float64, rows)
				RadialReference(want, in64, center64, weight64, width, float64(scale))
				kerneltest.Close(t, want, out.Values(), 1e-4, "radial")
			})
		}
	})
}
