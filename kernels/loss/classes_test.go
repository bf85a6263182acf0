package loss_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/kerneltest"
	"github.com/ctnas/ctnas/kernels/exec"
	. "github.com/ctnas/ctnas/kernels/loss"
)

func TestClasses(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {3, 2}, {9, 10}, {17, 33}, {20, 1000}} {
			for k := range 4 {
				ar := d.NewArena()
				n, classes := s[0], s[1]
				x, x64 := kerneltest.Random(n*classes, uint32(10*i))
				y, y64 := kerneltest.Random(n*classes, uint32(10*i+1))
				for j := range x {
					x[j] *= 8
					x64[j] *= 8
				}
				logit := kerneltest.Store(ar, x, x64)
				label := make([]int32, n)
				for j := range label {
					label[j] = int32((7*j + k) % classes)
					if j%4 == 3 {
						label[j] = -1
					}
				}
				op := Classes{N: n, Classes: classes, Logit: logit, Label: ar.Ints(label), Scale: 3, Loss: ar.F32(1), Count: ar.Ints([]int32{1, 2, 3})}
				op.DLogit = op.Logit
				if k%2 == 1 {
					op.Smoothing = 0.125
				}
				if k >= 2 {
					op.Teacher, op.Weight, op.Temperature = ar.Floats(y), 0.75, 4
				} else {
					y64 = nil
				}
				p := ar.NewProgram("classes")
				op.Record(p)
				p.Run(1)
				loss, grad, count := op.ClassesReference(x64, y64, label)
				kerneltest.Close(t, []float64{loss}, op.Loss.Values(), 2e-6, "loss")
				if classes > 1 {
					kerneltest.Close(t, grad, op.DLogit.Values(), kerneltest.Stored(d, 2e-5), "gradient")
				} else {
					require.InDelta(t, 0, op.DLogit.Values()[0], 1e-6)
				}
				got := make([]int32, 3)
				op.Count.ReadI32(0, got)
				require.Equal(t, []int32{int32(count[0] + 1), int32(count[1] + 2), int32(count[2] + 3)}, got)
				ar.Free()
			}
		}
	})
}

func TestClassesReferenceGradient(t *testing.T) {
	op := Classes{N: 4, Classes: 6, Scale: 2, Smoothing: 0.1, Weight: 0.3, Temperature: 2}
	_, x := kerneltest.Random(24, 1)
	_, y := kerneltest.Random(24, 2)
	label := []int32{0, 5, -1, 3}
	_, grad, _ := op.ClassesReference(x, y, label)
	kerneltest.Gradient(t, func(x []float64) float64 {
		loss, _, _ := op.ClassesReference(x, y, label)
		return loss
	}, x, grad, 1e-7, "logits")
}

func TestClassesOfNaNAreWrong(t *testing.T) { kerneltest.EachStorage(t, classesOfNaN) }

func classesOfNaN(t *testing.T, d *exec.Device) {
	ar := d.NewArena()
	defer ar.Free()
	op := Classes{N: 2, Classes: 7, Logit: kerneltest.Room(ar, 14), Label: ar.Ints([]int32{0, 6}), Loss: ar.F32(1), Count: ar.Ints([]int32{0, 0, 0})}
	p := ar.NewProgram("nan")
	op.Record(p)
	p.Run(1)
	got := make([]int32, 3)
	op.Count.ReadI32(0, got)
	require.Equal(t, []int32{2, 0, 0}, got)
	require.True(t, op.Loss.Values()[0] != op.Loss.Values()[0])
}
