// An outside package: the simulator, on which the tests run too, imports the families.
package graph_test

import (
	"testing"

	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/graph"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
)

func randomLabels(rows int) []int32 {
	s := philox.New(5, philox.PurposeTest, uint32(rows))
	out := make([]int32, rows)
	for i := range out {
		out[i] = int32(s.Intn(5))
	}
	return out
}

func TestGated(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {3, 5}, {65, 16}, {130, 33}, {200, 64}} {
			for _, neighbors := range []bool{true, false} {
				rows, width := s[0], s[1]
				ar := d.NewArena()
				label := randomLabels(rows)
				table, table64 := kerneltest.Random(5*2*width, uint32(i))
				scale, scale64 := kerneltest.Random(5*2*width, uint32(i+5))
				product, product64 := kerneltest.Random(rows*2*width, uint32(i+10))
				aggregated, aggregated64 := kerneltest.Random(rows*width, uint32(i+20))
				grad, grad64 := kerneltest.Random(rows*width, uint32(i+30))
				g := Gated{Rows: exec.Fixed(rows), Width: width, Label: ar.Ints(label), Table: ar.Floats(table),
					Scale: ar.Floats(scale), Gates: ar.F32(len(product)), Out: ar.F32(rows * width)}
				var daggregated, dproduct *exec.Buffer
				if neighbors {
					g.Aggregated, g.Product, daggregated, dproduct = ar.Floats(aggregated), ar.Floats(product),
						ar.F32(rows*width), ar.F32(rows*2*width)
				} else {
					aggregated64, product64 = nil, nil
				}
				p, q := ar.NewProgram("forward"), ar.NewProgram("backward")
				g.Record(p)
				g.RecordBackward(q, ar.Floats(grad), dproduct, daggregated)
				out64, gates64 := make([]float64, rows*width), make([]float64, rows*2*width)
				daggregated64, dproduct64 := make([]float64, rows*width), make([]float64, rows*2*width)
				p.Run(1)
				GatedReference(out64, gates64, aggregated64, product64, table64, scale64, label, width)
				kerneltest.Close(t, out64, g.Out.Values(), 3e-6, "out")
				kerneltest.Close(t, gates64, g.Gates.Values(), 3e-6, "gates")
				q.Run(1)
				GatedBackwardReference(gates64, product64, dproduct64, daggregated64, aggregated64, scale64, grad64,
					label, width)
				// 1-t² and 1-z lose digits near saturation.
				kerneltest.Close(t, gates64, g.Gates.Values(), 1e-5, "gate gradients")
				if neighbors {
					kerneltest.Close(t, daggregated64, daggregated.Values(), 3e-6, "daggregated")
					kerneltest.Close(t, dproduct64, dproduct.Values(), 1e-5, "dproduct")
					kerneltest.Close(t, product64, g.Product.Values(), 1e-5, "scale gradients")
				}
				ar.Free()
			}
		}
	})
}

func TestGatedGradient(t *testing.T) {
	const rows, width = 3, 4
	label := []int32{0, 2, 1} // every operation once, so that rows of gradients are the tables' gradients
	_, table := kerneltest.Random(3*2*width, 1)
	_, scale := kerneltest.Random(3*2*width, 5)
	_, product := kerneltest.Random(rows*2*width, 2)
	_, aggregated := kerneltest.Random(rows*width, 3)
	_, grad := kerneltest.Random(rows*width, 4)
	f := func(product, aggregated, table, scale []float64) float64 {
		out := make([]float64, rows*width)
		GatedReference(out, make([]float64, rows*2*width), aggregated, product, table, scale, label, width)
		s := 0.0
		for i := range out {
			s += out[i] * grad[i]
		}
		return s
	}
	out, gates, dscale := make([]float64, rows*width), make([]float64, rows*2*width), append([]float64(nil), product...)
	dproduct, daggregated := make([]float64, rows*2*width), make([]float64, rows*width)
	GatedReference(out, gates, aggregated, product, table, scale, label, width)
	GatedBackwardReference(gates, dscale, dproduct, daggregated, aggregated, scale, grad, label, width)
	byLabel := func(rowGrad []float64) []float64 {
		g := make([]float64, 3*2*width)
		for r, l := range label {
			copy(g[int(l)*2*width:], rowGrad[r*2*width:(r+1)*2*width])
		}
		return g
	}
	kerneltest.Gradient(t, func(x []float64) float64 {
		return f(x, aggregated, table, scale)
	}, product, dproduct, 1e-6, "product")
	kerneltest.Gradient(t, func(x []float64) float64 {
		return f(product, x, table, scale)
	}, aggregated, daggregated, 1e-6, "aggregated")
	kerneltest.Gradient(t, func(x []float64) float64 {
		return f(product, aggregated, x, scale)
	}, table, byLabel(gates), 1e-6, "table")
	kerneltest.Gradient(t, func(x []float64) float64 {
		return f(product, aggregated, table, x)
	}, scale, byLabel(dscale), 1e-6, "scale")
}
