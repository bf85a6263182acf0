package loss_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	. "github.com/ctnas/ctnas/kernels/loss"
	"github.com/ctnas/ctnas/kernels/philox"
)

func TestClasses(t *testing.T) {
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for i, s := range [][2]int{{1, 1}, {3, 2}, {9, 10}, {17, 33}, {20, 1000}} {
			for k := range 6 {
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
				op := Classes{N: n, Classes: classes, Logit: logit, Label: ar.Ints(label), Scale: 3, Loss: ar.F32(1),
					Count: ar.Ints([]int32{1, 2, 3})}
				op.DLogit = op.Logit
				if k%2 == 1 {
					op.Smoothing = 0.125
				}
				if k >= 2 {
					op.Teacher, op.Weight, op.Temperature = ar.Floats(y), 0.75, 4
					if k >= 4 { // its answers alone, as the smaller paths of a supernet learn
						op.Weight, op.Temperature = 1, 1
					}
				} else {
					y64 = nil
				}
				p := ar.NewProgram("classes")
				op.Record(p)
				p.Run(1)
				loss, grad, count := ClassesReference(op, x64, y64, label)
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
	_, grad, _ := ClassesReference(op, x, y, label)
	kerneltest.Gradient(t, func(x []float64) float64 {
		loss, _, _ := ClassesReference(op, x, y, label)
		return loss
	}, x, grad, 1e-7, "logits")
}

// counted runs the operation on rows of logits, which may be stored in bfloat16, and compares its counts with the
// reference's.
func counted(t *testing.T, d *exec.Device, classes int, logits []float32, label []int32) []int32 {
	ar := d.NewArena()
	defer ar.Free()
	logits64 := make([]float64, len(logits))
	op := Classes{N: len(label), Classes: classes, Logit: kerneltest.Store(ar, logits, logits64),
		Label: ar.Ints(label), Loss: ar.F32(1), Count: ar.Ints([]int32{0, 0, 0})}
	p := ar.NewProgram("counts")
	op.Record(p)
	p.Run(1)
	got := make([]int32, 3)
	op.Count.ReadI32(0, got)
	_, _, want := ClassesReference(op, logits64, nil, label)
	require.Equal(t, []int32{int32(want[0]), int32(want[1]), int32(want[2])}, got, "%d classes: %v, labels %v",
		classes, logits, label)
	return got
}

// The answer is the first class of the largest logit: as many logits of a row are equal here as not, in any number of
// classes.
func TestClassesCountTheFirstOfEqualLogits(t *testing.T) {
	inf := float32(math.Inf(1))
	values := []float32{0, 1, -2, float32(math.Copysign(0, -1)), 1.0009765625, inf, -inf} // the fifth is 1 in bfloat16
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for _, classes := range []int{1, 2, 3, 5, 6, 7, 10, 33, 127, 129, 257, 1000} {
			const rows = 19
			s := philox.New(7, philox.PurposeTest, uint32(classes))
			logits, label := make([]float32, rows*classes), make([]int32, rows)
			for r := range label {
				kinds := values[:1+r%len(values)]
				for i := range classes {
					logits[r*classes+i] = kinds[s.Intn(len(kinds))]
				}
				if label[r] = int32(s.Intn(classes)); r%5 == 4 {
					label[r] = -1
				}
			}
			counted(t, d, classes, logits, label)
		}
		// What gives every class the same logit is right where the label is the first class, and once among the first
		// five.
		even := make([]int32, 15)
		for i := range even {
			even[i] = int32(i)
		}
		require.Equal(t, []int32{15, 1, 5}, counted(t, d, 15, make([]float32, 15*15), even))
		require.Equal(t, []int32{3, 1, 3}, counted(t, d, 3, make([]float32, 3*3), even[:3]))
		// Two logits that only bfloat16 makes equal: the second of them is the larger one in float32.
		want := []int32{1, 1, 1}
		if d.Precision() == exec.BF16 {
			want[1] = 0
		}
		require.Equal(t, want, counted(t, d, 3, []float32{1, 1.0009765625, 0}, []int32{1}))
	})
}

// A row with a NaN has no answer, wherever it stands and however few classes there are.
func TestClassesOfNaNAreWrong(t *testing.T) {
	nan := float32(math.NaN())
	kerneltest.EachStorage(t, func(t *testing.T, d *exec.Device) {
		for _, classes := range []int{1, 2, 3, 7, 131} {
			for _, at := range []int{0, classes / 2, classes - 1} {
				for _, label := range []int32{0, int32(classes / 2), int32(classes - 1)} {
					logits := make([]float32, 2*classes)
					logits[label] = 1
					logits[at] = nan
					logits[classes+int(label)] = 1
					require.Equal(t, []int32{2, 1, 1}, counted(t, d, classes, logits, []int32{label, label}))
				}
			}
			logits := make([]float32, classes)
			for i := range logits {
				logits[i] = nan
			}
			require.Equal(t, []int32{1, 0, 0}, counted(t, d, classes, logits, []int32{0}))
		}
		require.True(t, math.IsNaN(lossOf(d, []float32{0, nan, 1})))
	})
}

func lossOf(d *exec.Device, logits []float32) float64 {
	ar := d.NewArena()
	defer ar.Free()
	op := Classes{N: 1, Classes: len(logits), Logit: ar.Floats(logits), Label: ar.Ints([]int32{0}), Loss: ar.F32(1)}
	p := ar.NewProgram("loss")
	op.Record(p)
	p.Run(1)
	return float64(op.Loss.Values()[0])
}
