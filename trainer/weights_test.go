package trainer

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

func floats(t *testing.T, path string) []float32 {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	out := make([]float32, len(text)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(text[4*i:]))
	}
	return out
}

// predict are the logits of two images.
func predict(t *testing.T, net *nn.Network, values [][]float32, images []float32) []float32 {
	m, err := NewModel(openTest(t), net, Options{Batch: 2, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.SetValues(values)
	m.Images.WriteF32(0, images)
	m.Labels.WriteI32(0, []int32{0, 0})
	m.Evaluate()
	return m.Logits()
}

// peers are networks with whose weights scripts/peers/zoo_weights.py makes; ambiguous ones are of names that leave two programs.
var peers = []struct {
	name, from string
	ambiguous  bool
}{
	{"mobilenetv2_1.4", "timm", false}, {"mobilenetv2_1.4", "torchvision", false},
	{"mobilenetv3_large_1.0", "timm", true}, {"mobilenetv3_large_1.0", "timm-tf", true}, {"mobilenetv3_large_1.0", "torchvision", false},
	{"fbnet_c_timm", "timm", false}, {"mnasnet_a1", "timm", false}, {"mnasnet_b1", "timm", false}, {"mnasnet_b1", "torchvision", false},
	{"efficientnet_b0", "timm", true}, {"efficientnet_b0", "timm-tf", true}, {"efficientnet_b0", "torchvision", false},
	{"shufflenetv2_2.0", "torchvision", false}, {"ofa_389m", "once-for-all", false}, {"ofa_482m", "once-for-all", false},
}

// Weights that timm, torchvision and once-for-all made give their logits here, from each kind of file, where the networks are just as these programs build them: who
// made them says with which constants. Another program's constants give other logits. CTNAS_TEST_ZOO=all takes images of the published size.
func TestWeightsOfPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("runs PyTorch")
	}
	python := testdata.Python(t, "torch", "torchvision", "timm", "safetensors", "ofa")
	dir := t.TempDir()
	side := 64
	if os.Getenv("CTNAS_TEST_ZOO") == "all" {
		side = 224
	}
	args := []string{filepath.Join(testdata.Root(), "scripts", "peers", "zoo_weights.py"), dir, strconv.Itoa(side)}
	for _, p := range peers {
		args = append(args, p.name+"@"+p.from)
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	require.NoError(t, err, string(out))
	net, err := zoo.Build("ofa_389m", side, 1000)
	require.NoError(t, err)
	part, whole := net.Initialize(nn.HeFanOut, 1), net.Initialize(nn.HeFanOut, 2)
	require.NoError(t, ReadWeights(filepath.Join(dir, "ofa_389m@once-for-all.part.safetensors"), net, part))
	super, err := OpenWeights(filepath.Join(dir, "ofa_389m@once-for-all.supernet.pth"))
	require.NoError(t, err)
	require.NoError(t, super.Fill(net, whole))
	owner, err := super.Identify(net, "")
	require.NoError(t, err)
	require.Equal(t, "once-for-all", owner.Name())
	for i, v := range net.Variables() {
		worst := 0.0
		for k, w := range part[i] {
			worst = math.Max(worst, math.Abs(float64(w-whole[i][k])))
		}
		require.LessOrEqual(t, worst, 1e-6, v.Name)
	}
	for _, p := range peers {
		net, err := zoo.Build(p.name, side, 1000)
		require.NoError(t, err)
		path := filepath.Join(dir, p.name+"@"+p.from)
		want := floats(t, path+".out.f32")
		largest := 0.0
		for _, v := range want {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		worst := func(net *nn.Network, values [][]float32) float64 {
			worst := 0.0
			for i, v := range predict(t, net, values, floats(t, path+".in.f32")) {
				worst = math.Max(worst, math.Abs(float64(v-want[i])))
			}
			return worst
		}
		var first [][]float32
		for _, kind := range []string{".safetensors", ".pth", ".legacy.pth"} {
			w, err := OpenWeights(path + kind)
			require.NoError(t, err)
			owner, err := w.Identify(net, "")
			if p.ambiguous {
				var ambiguous *AmbiguousError
				require.ErrorAs(t, err, &ambiguous, path)
				require.Equal(t, []string{"timm", "timm-tf"}, ambiguous.Names)
				owner, err = w.Identify(net, p.from)
			}
			require.NoError(t, err)
			require.Equal(t, p.from, string(owner.Origin))
			adopted := owner.Adopt(net)
			values := adopted.Initialize(nn.HeFanOut, 1)
			require.NoError(t, w.Fill(adopted, values))
			if first != nil {
				require.Equal(t, first, values, path+kind)
				continue
			}
			first = values
			got := worst(adopted, values)
			require.LessOrEqual(t, got, 1e-4*math.Min(1, largest), path)
			t.Logf("%s: largest difference %.2g of a largest logit of %.3g", filepath.Base(path), got, largest)
			for _, other := range zoo.Variants(net) {
				if !other.Computes(owner.Constants) {
					require.Greater(t, worst(other.Adopt(net), values), 1e-3*largest, "%s with the constants of %s", path, other)
				}
			}
			// Written again they are that program's: its names and shapes.
			again := filepath.Join(dir, "again.safetensors")
			require.NoError(t, WriteWeights(again, adopted, values, Metadata(p.name, owner.Name(), owner.Constants, nil)))
			back, err := OpenWeights(again)
			require.NoError(t, err)
			known, err := back.Identify(net, "")
			require.NoError(t, err)
			require.Equal(t, owner.Constants, known.Constants)
			shapes := func(w *Weights) map[string][]int {
				m := map[string][]int{}
				for _, x := range w.tensors {
					if !strings.HasSuffix(x.Name, ".num_batches_tracked") {
						m[x.Name] = x.Shape
					}
				}
				return m
			}
			require.Equal(t, shapes(w), shapes(back))
		}
	}
}

// Names of classes are kept as they are, and what is not a list of them is said.
func TestClassesInWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	open := func(metadata map[string]string) *Weights {
		require.NoError(t, format.WriteSafetensors(path, []format.Tensor{{Name: "a", Shape: []int{1}, Data: []float32{1}}}, metadata))
		w, err := OpenWeights(path)
		require.NoError(t, err)
		return w
	}
	names := []string{"n01440764", `tench, "Tinca tinca"`, "日本"}
	metadata := map[string]string{"format": "pt"}
	AddClasses(metadata, names)
	got, err := open(metadata).Classes()
	require.NoError(t, err)
	require.Equal(t, names, got)
	metadata = map[string]string{"format": "pt"}
	AddClasses(metadata, nil)
	got, err = open(metadata).Classes()
	require.NoError(t, err)
	require.Nil(t, got)
	for _, text := range []string{"cat", "[]", `{"a": 1}`, "null", "[1]"} {
		_, err = open(map[string]string{ClassesKey: text}).Classes()
		require.ErrorContains(t, err, `w.safetensors: metadata "classes" is `)
	}
}
