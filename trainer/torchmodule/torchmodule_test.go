package torchmodule

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
	"github.com/ctnas/ctnas/trainer/onnx"
)

// every is a network of every operation.
func every(t *testing.T) *nn.Network {
	b, x := nn.NewBuilder("every", nn.Shape{H: 9, W: 8, C: 3})
	bare := nn.BatchNorm{Eps: 1e-5, NoAffine: true}
	x = b.Scope("a").ConvNorm(x, nn.Conv2D(3, 8).Biased(), nn.ReLU6)
	x = b.Scope("b").ConvNorm(x, nn.ConvRect(nn.Size{H: 1, W: 5}, 12).Grouped(4).Dilated(2), nn.HSwish)
	x = b.Scope("c").SqueezeExcite(x, 3, nn.Swish, nn.Sigmoid)
	x = b.Apply("frozen", nn.BatchNorm{Eps: 1e-3, Momentum: 0.1, Frozen: true}, x)
	raw := b.Apply("raw", nn.Depthwise(3, 12), x)
	x = b.Apply("twice", nn.Add{}, raw, b.Apply("normed", bare, raw))
	x = b.Apply("shuffle", nn.Shuffle{Groups: 3}, b.Apply("path", nn.DropPath{P: 0.5}, x))
	x = b.Apply("concat", nn.Concat{}, b.Apply("slice", nn.Slice{From: 1, To: 7}, x),
		b.Apply("max", nn.NewMaxPool(3, 1), x), b.Apply("even max", nn.NewMaxPool(2, 1), x),
		b.Apply("mean", nn.NewAvgPool(3, 1), x), b.Apply("counted", nn.AvgPool{Kernel: nn.Square(3),
			Stride: nn.Square(1), Pad: nn.Same(nn.Square(3), 1), CountPad: true}, x),
		b.Apply("zero", nn.Zero{Stride: 1}, x))
	uneven := nn.Pad{Bottom: 1, Right: 1}
	x = b.Apply("uneven", nn.AvgPool{Kernel: nn.Square(2), Stride: nn.Square(2), Pad: uneven}, x)
	x = b.Apply("uneven counted", nn.AvgPool{Kernel: nn.Square(2), Stride: nn.Square(1), Pad: uneven, CountPad: true},
		x)
	x = b.Scope("e").FactorizedReduce(x, 9)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	x = b.Apply("hidden", nn.Linear{Out: 7}, x)
	x = b.Apply("conv of vectors", nn.Conv2D(1, 6).Biased(), x)
	for a := nn.Identity; a < nn.Activations; a++ {
		x = b.Apply("each "+a.String(), nn.Add{}, x, b.Apply(a.String(), a, x))
	}
	b.Output(b.Apply("classifier", nn.Linear{Out: 5, Bias: true}, b.Apply("dropout", nn.Dropout{P: 0.5}, x)), 1)
	b.Output(b.Apply("auxiliary", nn.GlobalPool{}, b.Apply("unused", nn.Conv2D(1, 2), raw)), 0.4)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// Every operation and activation has a form, and the file is one of Python, as far as there is one here.
func TestEncode(t *testing.T) {
	text, err := Encode(every(t))
	require.NoError(t, err)
	again, err := Encode(every(t))
	require.NoError(t, err)
	require.Equal(t, text, again)
	for _, want := range []string{`put(self, "a.conv"`, "F.hardswish(", "F.gelu(", "if not heads:", "(x", ", 0.4)]"} {
		require.Contains(t, string(text), want)
	}
	require.NotContains(t, string(text), "%!")
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 to read it")
	}
	path := filepath.Join(t.TempDir(), "network.py")
	require.NoError(t, os.WriteFile(path, text, 0o644))
	out, err := exec.Command(python, "-m", "py_compile", path).CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestMixturesAreNone(t *testing.T) {
	b, x := nn.NewBuilder("mixture", nn.Shape{H: 1, W: 1, C: 3})
	b.Row(nn.Row{Name: "row", Choices: []string{"a", "b"}})
	b.Output(b.Apply("mix", nn.Mix{Rows: 1}, x, b.Apply("relu", nn.ReLU, x)), 1)
	net, err := b.Build()
	require.NoError(t, err)
	_, err = Encode(net)
	require.ErrorContains(t, err, "mix")
}

// check reads a module, weights and images, and prints the logits.
const check = `
import importlib.util, json, sys
import torch
spec = importlib.util.spec_from_file_location("network", sys.argv[1])
network = importlib.util.module_from_spec(spec)
spec.loader.exec_module(network)
given = json.load(open(sys.argv[2]))
model = network.Network()
weights = {name: torch.tensor(v["values"]).reshape(v["shape"]) for name, v in given["weights"].items()}
have = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
assert have == set(weights), have ^ set(weights)
model.load_state_dict(weights, strict=False)
x = torch.tensor(given["images"]).reshape(given["shape"])
model.train()(x, heads=True)
model.load_state_dict(weights, strict=False)
with torch.no_grad():
    print(json.dumps(model.eval()(x).flatten().tolist()))
`

// Modules compute what the networks do, in PyTorch, where it is here.
func TestTorch(t *testing.T) {
	python := os.Getenv("CTNAS_TEST_TORCH_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		t.Skipf("%s has no torch: $CTNAS_TEST_TORCH_PYTHON names one that has", python)
	}
	nets := []*nn.Network{every(t)}
	for _, name := range []string{"mobilenetv3_large_1.0", "shufflenetv2_2.0", "pcdarts_cifar10"} {
		net, err := zoo.Build(name, 32, 10)
		require.NoError(t, err)
		nets = append(nets, net)
	}
	for _, net := range nets {
		s := philox.New(3, philox.PurposeTest, 77)
		values := net.Initialize(nn.TorchDefault, 5)
		type array struct {
			Shape  []int     `json:"shape"`
			Values []float32 `json:"values"`
		}
		weights := map[string]array{}
		for i, v := range net.Variables() {
			for k := range values[i] {
				switch v.Role {
				case nn.Scale, nn.Variance:
					values[i][k] = float32(0.5 + s.Float64())
				case nn.Shift, nn.Mean:
					values[i][k] = float32(0.3 * s.NormFloat64())
				}
			}
			weights[v.Name] = array{v.TorchShape(), nn.ToTorch(v, values[i])}
		}
		in := net.Input()
		images := make([]float32, 2*in.Len())
		for i := range images {
			images[i] = float32(s.NormFloat64())
		}
		model, err := onnx.Encode(net, values, onnx.Options{})
		require.NoError(t, err)
		want, err := onnx.Run(model, images)
		require.NoError(t, err)
		dir := t.TempDir()
		text, err := Encode(net)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "network.py"), text, 0o644))
		given, err := json.Marshal(map[string]any{"weights": weights, "images": images,
			"shape": []int{2, in.C, in.H, in.W}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "given.json"), given, 0o644))
		cmd := exec.Command(python, "-c", check, filepath.Join(dir, "network.py"), filepath.Join(dir, "given.json"))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err, net.Name)
		var got []float32
		require.NoError(t, json.Unmarshal(out, &got))
		require.Len(t, got, len(want))
		for i := range want {
			require.InDelta(t, want[i], got[i], 1e-3*(1+float64(max(want[i], -want[i]))), fmt.Sprint(net.Name, i))
		}
	}
}
