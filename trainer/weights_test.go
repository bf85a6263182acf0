package trainer

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// Weights that timm, torchvision and once-for-all made give their logits here, from each kind of file. CTNAS_TEST_ZOO=all takes images of the published size.
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
	names := []string{"mobilenetv2_1.4", "mobilenetv3_large_1.0", "fbnet_c_timm", "mnasnet_a1", "mnasnet_b1", "efficientnet_b0", "shufflenetv2_2.0", "ofa_389m", "ofa_482m"}
	cmd := exec.Command(python, append([]string{filepath.Join(testdata.Root(), "scripts", "peers", "zoo_weights.py"), dir, strconv.Itoa(side)}, names...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	net, err := zoo.Build("ofa_389m", side, 1000)
	require.NoError(t, err)
	part, whole := net.Initialize(nn.HeFanOut, 1), net.Initialize(nn.HeFanOut, 2)
	require.NoError(t, ReadWeights(filepath.Join(dir, "ofa_389m.part.safetensors"), net, part))
	require.NoError(t, ReadWeights(filepath.Join(dir, "ofa_389m.supernet.pth"), net, whole))
	for i, v := range net.Variables() {
		worst := 0.0
		for k, w := range part[i] {
			worst = math.Max(worst, math.Abs(float64(w-whole[i][k])))
		}
		require.LessOrEqual(t, worst, 1e-6, v.Name)
	}
	for _, name := range names {
		net, err := zoo.Build(name, side, 1000)
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		want := floats(t, path+".out.f32")
		largest := 0.0
		for _, v := range want {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		var first [][]float32
		for _, kind := range []string{".safetensors", ".pth", ".legacy.pth"} {
			values := net.Initialize(nn.HeFanOut, 1)
			require.NoError(t, ReadWeights(path+kind, net, values))
			if first != nil {
				require.Equal(t, first, values, path+kind)
				continue
			}
			first = values
			worst := 0.0
			for i, v := range predict(t, net, values, floats(t, path+".in.f32")) {
				worst = math.Max(worst, math.Abs(float64(v-want[i])))
			}
			require.LessOrEqual(t, worst, 1e-4*math.Min(1, largest), name)
			t.Logf("%s: largest difference %.2g of a largest logit of %.3g", name, worst, largest)
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
