package trainer

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// ofaFixture is what the package of once-for-all computes; scripts/peers/elastic_fixtures.py writes it and says what
// each key is.
type ofaFixture struct {
	Width, Rate, Momentum, Decay, Smoothing float64
	Classes, Side, Batch, Classified        int
	Batches                                 []int
	Images                                  ofaNumbers
	Variables                               []ofaNumbers
	Subnets                                 []struct {
		Arch   string
		Logits []float64
	}
	Updates []struct {
		Paths   []string
		Classes []int32
		Losses  []float64
	}
	After map[string]sampledNumbers
}

// sampledNumbers are every so many of a tensor's elements, with the norm of all.
type sampledNumbers struct {
	Norm   float64
	Stride int
	Sample []float64
}

type ofaNumbers struct {
	Name          string
	Shape         []int
	Tag           int
	Scale, Offset float64
}

func (n ofaNumbers) values() []float32 {
	size := 1
	for _, d := range n.Shape {
		size *= d
	}
	out := make([]float32, size)
	for i, v := range testdata.Formula(size, n.Tag, n.Scale, n.Offset) {
		out[i] = float32(v)
	}
	return out
}

func readOFA(t testing.TB, name string) *ofaFixture {
	text, err := os.ReadFile(filepath.Join("testdata", "ofa_"+name+".json"))
	require.NoError(t, err)
	f := &ofaFixture{}
	require.NoError(t, json.Unmarshal(text, f))
	return f
}

func (f *ofaFixture) supernet(t testing.TB) nn.Shared {
	s, err := zoo.OnceForAll{Width: f.Width}.Supernet(f.Classes)
	require.NoError(t, err)
	return s
}

func (f *ofaFixture) options(batch int) SupernetOptions {
	return SupernetOptions{Batch: batch, Image: nn.Shape{H: f.Side, W: f.Side, C: 3}, Classes: f.Classes}
}

// start are the supernet's values.
func (f *ofaFixture) start(t testing.TB, s nn.Shared) [][]float32 {
	byName := map[string]ofaNumbers{}
	for _, v := range f.Variables {
		byName[canonical(v.Name)] = v
	}
	require.Len(t, byName, len(s.Variables))
	values := make([][]float32, len(s.Variables))
	for i, v := range s.Variables {
		numbers, found := byName[canonical(v.Name)]
		require.True(t, found, v.Name)
		require.Equal(t, numbers.Shape, v.TorchShape(), v.Name)
		values[i] = nn.FromTorch(v, numbers.values())
	}
	return values
}

// path builds a sub-network of a text mobilenetv3:<depths>:<kernels>:<expansions>, a digit each.
func (f *ofaFixture) path(arch string) func() (nn.Path, error) {
	return func() (nn.Path, error) {
		o := zoo.OnceForAll{Width: f.Width}
		for k, field := range strings.Split(arch, ":")[1:] {
			for i, digit := range field {
				[...][]int{o.Depths[:], o.Kernels[:], o.Ratios[:]}[k][i] = int(digit - '0')
			}
		}
		return o.Path(f.Side, f.Classes)
	}
}

// The logits of sub-networks of a supernet with random weights and matrices, with statistics made anew, are those of
// the package of once-for-all.
func TestSubnetsAsOnceForAll(t *testing.T) {
	const tolerance = 1e-5 // of the largest logit
	widths, most := []string{"w1.0"}, 2
	if testdata.All() {
		widths, most = []string{"w1.0", "w1.2"}, 20
	}
	for _, width := range widths {
		t.Run(width, func(t *testing.T) {
			f := readOFA(t, width)
			shared, images := f.supernet(t), f.Images.values()
			image := f.Side * f.Side * 3
			batch := f.Batches[0]
			s, err := NewSupernet(openTest(t), shared, f.options(batch))
			require.NoError(t, err)
			defer s.Close()
			s.SetValues(f.start(t, shared))
			s.Labels.WriteI32(0, make([]int32, batch))
			require.GreaterOrEqual(t, len(f.Subnets), most)
			worst := 0.0
			for _, n := range f.Subnets[:most] {
				m, err := s.Path(n.Arch, PathOptions{EvalOnly: true}, f.path(n.Arch))
				require.NoError(t, err)
				m.BeginRecalibration()
				at := 0
				for _, size := range f.Batches {
					require.Equal(t, batch, size)
					s.Images.WriteF32(0, images[at*image:(at+size)*image])
					m.Recalibrate()
					at += size
				}
				s.Images.WriteF32(0, images[:batch*image])
				m.Evaluate()
				logits, largest, far := m.Logits(), 0.0, 0.0
				for i, want := range n.Logits {
					largest = max(largest, math.Abs(want))
					far = max(far, math.Abs(want-float64(logits[i])))
				}
				require.LessOrEqual(t, far, tolerance*largest, n.Arch)
				worst = max(worst, far/largest)
			}
			t.Logf("logits differ by %.1e of the largest", worst)
		})
	}
}

// Updates by several paths, the first of which teaches the others, leave the losses and weights that the package of
// once-for-all leaves.
func TestTrainingAsOnceForAll(t *testing.T) {
	const tolerance = 2e-5 // of a loss
	f := readOFA(t, "training")
	shared, images := f.supernet(t), f.Images.values()
	r := RecipeDefaults()
	r.Optimization = Optimization{Optimizer: "sgd", Momentum: f.Momentum, Nesterov: true, WeightDecay: f.Decay}
	r.LR, r.LabelSmoothing = f.Rate, f.Smoothing
	s, err := NewSupernetStep(openTest(t), shared, f.options(f.Batch), r)
	require.NoError(t, err)
	defer s.Close()
	start := f.start(t, shared)
	s.SetValues(start)
	updates, worst := f.Updates, 0.0
	if !testdata.All() {
		updates = updates[:2]
	}
	size := len(images) / len(f.Updates)
	for u, want := range updates {
		s.Images.WriteF32(0, images[u*size:(u+1)*size])
		s.Labels.WriteI32(0, want.Classes)
		paths := make([]StepPath, len(want.Paths))
		for i, arch := range want.Paths {
			paths[i] = StepPath{arch, f.path(arch)}
		}
		losses, err := s.Run(paths...)
		require.NoError(t, err)
		entropy := meanEntropy(s.Teacher.Values(), f.Classes)
		for i, loss := range losses {
			if i > 0 {
				loss += entropy // ours lacks that of the teacher
			}
			require.InDelta(t, want.Losses[i], loss, tolerance*want.Losses[i], "update %d, path %d", u, i)
			worst = max(worst, math.Abs(loss-want.Losses[i])/want.Losses[i])
		}
	}
	t.Logf("losses differ by %.1e", worst)
	if len(updates) < len(f.Updates) {
		return
	}
	got, checked := s.Values(), 0
	for i, v := range shared.Variables {
		for name, want := range f.After {
			if canonical(name) == canonical(v.Name) {
				checked++
				requireSameChange(t, v.Name, nn.ToTorch(v, start[i]), nn.ToTorch(v, got[i]), want.Stride, want.Sample)
			}
		}
	}
	require.Equal(t, len(f.After), checked)
}

// requireSameChange compares how some elements of a variable have changed, within a hundredth of how far they have.
func requireSameChange(t *testing.T, name string, start, got []float32, stride int, want []float64) {
	square := 0.0
	for k, w := range want {
		square += math.Pow(w-float64(start[k*stride]), 2)
	}
	change := math.Sqrt(square / float64(len(want)))
	require.Positive(t, change, name)
	for k, w := range want {
		require.InDelta(t, w, got[k*stride], 0.01*change, fmt.Sprintf("%s, element %d, from %g", name, k*stride,
			start[k*stride]))
	}
}

// meanEntropy is that of the softmax of rows of logits.
func meanEntropy(logits []float32, classes int) float64 {
	sum := 0.0
	for at := 0; at < len(logits); at += classes {
		total, weighted := 0.0, 0.0
		for _, z := range logits[at : at+classes] {
			e := math.Exp(float64(z))
			total += e
			weighted += e * float64(z)
		}
		sum += math.Log(total) - weighted/total
	}
	return sum / float64(len(logits)/classes)
}
