package loss_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/loss"
)

func TestMixup(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 2}, {5, 3}, {17, 10}, {20, 1000}} {
			for k, weight := range []float32{0, 0.25, 0.9, 1} {
				ar := d.NewArena()
				n, classes := s[0], s[1]
				x, x64 := kerneltest.Random(n*classes, uint32(10*i+k))
				label, partner := make([]int32, n), make([]int32, n)
				for j := range label {
					label[j], partner[j] = int32((7*j+k)%classes), int32((3*j)%classes)
					if j%4 == 3 {
						label[j] = -1
					}
				}
				logit := kerneltest.Store(ar, x, x64)
				c := Classes{N: n, Classes: classes, Logit: logit, Label: ar.Ints(label), Scale: 3, Smoothing: 0.125,
					DLogit: kerneltest.Room(ar, n*classes), Loss: ar.F32(1)}
				p := ar.NewProgram("mixup")
				c.Record(p)
				Mixup{N: n, Classes: classes, Logit: c.Logit, Label: c.Label, Partner: ar.Ints(partner),
					Weight: ar.Floats([]float32{weight}), Share: c.Scale * (1 - c.Smoothing), DLogit: c.DLogit,
					Loss: c.Loss}.Record(p)
				p.Run(1)
				loss, grad := MixupReference(c, x64, label, partner, float64(weight))
				kerneltest.Close(t, []float64{loss}, c.Loss.Values(), 2e-6, "loss")
				// What Classes leaves is stored, then changed and stored again: where the two nearly cancel, the first
				// rounding is the larger one.
				_, before, _ := ClassesReference(c, x64, nil, label)
				got, tol := c.DLogit.Values(), kerneltest.Stored(d, 2e-5)
				for j, want := range grad {
					require.InDelta(t, want, float64(got[j]),
						tol*(math.Abs(want)+math.Abs(before[j])+1e-3*float64(c.Scale)/float64(n)), "gradient %d", j)
				}
				require.Equal(t, x, c.Logit.Values())
				ar.Free()
			}
		}
	})
}

func TestMixupReferenceGradient(t *testing.T) {
	op := Classes{N: 4, Classes: 6, Scale: 2, Smoothing: 0.1}
	_, x := kerneltest.Random(24, 1)
	label, partner := []int32{0, 5, -1, 3}, []int32{1, 5, 2, 0}
	_, grad := MixupReference(op, x, label, partner, 0.3)
	kerneltest.Gradient(t, func(x []float64) float64 {
		loss, _ := MixupReference(op, x, label, partner, 0.3)
		return loss
	}, x, grad, 1e-7, "logits")
}
