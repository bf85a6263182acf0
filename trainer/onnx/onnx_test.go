package onnx

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// every is a network of every operation, with batch norms that can be folded and some that cannot.
func every(t *testing.T) *nn.Network {
	b, x := nn.NewBuilder("every", nn.Shape{H: 9, W: 8, C: 3})
	bare := nn.BatchNorm{Eps: 1e-5, NoAffine: true}
	x = b.Apply("norm of images", b.Norm, x)
	x = b.Scope("a").ConvNorm(x, nn.Conv2D(3, 8).Biased(), nn.ReLU6)
	x = b.Scope("b").ConvNorm(x, nn.ConvRect(nn.Size{H: 1, W: 5}, 12).Grouped(4).Dilated(2), nn.HSwish)
	x = b.Scope("c").SqueezeExcite(x, 3, nn.Swish, nn.Sigmoid)
	x = b.Scope("d").SqueezeExcite(x, 2, nn.ReLU, nn.HSigmoid)
	raw := b.Apply("raw", nn.Depthwise(3, 12), x)
	x = b.Apply("twice", nn.Add{}, raw, b.Apply("normed", bare, raw), b.Apply("same", nn.Identity, x))
	x = b.Apply("shuffle", nn.Shuffle{Groups: 3}, b.Apply("path", nn.DropPath{P: 0.5}, x))
	uneven := nn.Pad{Bottom: 1, Right: 1}
	x = b.Apply("concat", nn.Concat{}, b.Apply("slice", nn.Slice{From: 1, To: 7}, x),
		b.Apply("max", nn.MaxPool{Kernel: nn.Square(3), Stride: nn.Square(1), Pad: nn.Pad{Top: 1, Bottom: 1, Left: 1,
			Right: 1}}, x),
		b.Apply("mean", nn.NewAvgPool(3, 1), x), b.Apply("counted", nn.AvgPool{Kernel: nn.Square(3),
			Stride: nn.Square(1), Pad: nn.Same(nn.Square(3), 1), CountPad: true}, x),
		b.Apply("zero", nn.Zero{Stride: 1}, x))
	x = b.Apply("uneven", nn.AvgPool{Kernel: nn.Square(2), Stride: nn.Square(2), Pad: uneven}, x)
	x = b.Scope("e").FactorizedReduce(x, 9)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	x = b.Apply("hidden", nn.Linear{Out: 7}, x)
	x = b.Apply("relu", nn.ReLU, b.Apply("norm of vectors", bare, x))
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

// random are values of a network's variables, none of them those of a start.
func random(net *nn.Network) [][]float32 {
	s := philox.New(3, philox.PurposeTest, 77)
	values := net.Initialize(nn.TorchDefault, 5)
	for i, v := range net.Variables() {
		for k := range values[i] {
			switch v.Role {
			case nn.Scale, nn.Variance:
				values[i][k] = float32(0.5 + s.Float64())
			case nn.Shift, nn.Mean:
				values[i][k] = float32(0.3 * s.NormFloat64())
			}
		}
	}
	return values
}

// fields lists the messages of a field of a message.
func fields(t *testing.T, m []byte, field protowire.Number) [][]byte {
	var out [][]byte
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		require.Positive(t, n)
		size := protowire.ConsumeFieldValue(number, kind, m[n:])
		require.Positive(t, size)
		if number == field && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(m[n:])
			out = append(out, value)
		}
		m = m[n+size:]
	}
	return out
}

// What is not part of the prediction is left out, each weight is there once, and folding leaves only the batch norms
// that follow no layer of their own.
func TestEncode(t *testing.T) {
	net := every(t)
	values := random(net)
	for _, fold := range []bool{false, true} {
		text, err := Encode(net, values, Options{FoldNorms: fold})
		require.NoError(t, err)
		graph := fields(t, text, 7)[0]
		norms := 0
		for _, node := range fields(t, graph, 1) {
			require.NotContains(t, []string{"unused", "auxiliary", "dropout", "path"}, string(fields(t, node, 3)[0]))
			if string(fields(t, node, 4)[0]) == "BatchNormalization" {
				norms++
			}
		}
		want := 6
		if fold {
			want = 3 // of the images, of a convolution that is read twice, behind a concatenation
		}
		require.Equal(t, want, norms)
		seen := map[string]bool{}
		for _, tensor := range fields(t, graph, 5) {
			name := string(fields(t, tensor, 8)[0])
			require.False(t, seen[name], name)
			seen[name] = true
		}
		require.True(t, seen["a.conv.weight"] && seen["a.conv.bias"])
		require.Equal(t, fold, seen["b.conv.bias"])
		require.False(t, seen["unused.weight"])
	}
}

// What the file says of itself stands in it in the order of its keys.
func TestMetadata(t *testing.T) {
	net := every(t)
	text, err := Encode(net, random(net), Options{Metadata: map[string]string{"weights": "random",
		"classes": `["a","b"]`}})
	require.NoError(t, err)
	var got []string
	for _, property := range fields(t, text, 14) {
		got = append(got, string(fields(t, property, 1)[0]), string(fields(t, property, 2)[0]))
	}
	require.Equal(t, []string{"classes", `["a","b"]`, "weights", "random"}, got)
}

// pictures are random images, NCHW, and the float64 reference's logits of them.
func pictures(net *nn.Network, values [][]float32) (planes, logits []float32) {
	const batch = 3
	shape := net.Input()
	s := philox.New(3, philox.PurposeTest, 78)
	images := make([]float64, batch*shape.Len())
	planes = make([]float32, len(images))
	for n := range batch {
		for p := range shape.H * shape.W {
			for c := range shape.C {
				v := float32(s.NormFloat64())
				images[(n*shape.H*shape.W+p)*shape.C+c] = float64(v)
				planes[(n*shape.C+c)*shape.H*shape.W+p] = v
			}
		}
	}
	for _, v := range reference.New(net, values).Forward(images, batch, reference.Mode{}).Logits(0) {
		logits = append(logits, float32(v))
	}
	return planes, logits
}

// What is written computes the reference's logits by the definitions of its operators, and what is not whole does not
// run.
func TestRun(t *testing.T) {
	net := every(t)
	values := random(net)
	planes, logits := pictures(net, values)
	for _, fold := range []bool{false, true} {
		text, err := Encode(net, values, Options{FoldNorms: fold})
		require.NoError(t, err)
		got, err := Run(text, planes)
		require.NoError(t, err)
		require.InDeltaSlice(t, logits, got, 1e-4)
		_, err = Run(text, planes[1:])
		require.ErrorContains(t, err, "numbers for images of [3 9 8]")
		_, err = Run(text[:len(text)/2], planes)
		require.Error(t, err)
		// Another epsilon is another network: the check would see it.
		changed := *net
		changed.Nodes = slices.Clone(net.Nodes)
		for i, node := range changed.Nodes {
			if op, ok := node.Op.(nn.BatchNorm); ok {
				op.Eps = 0.1
				changed.Nodes[i].Op = op
			}
		}
		text, err = Encode(&changed, values, Options{FoldNorms: fold})
		require.NoError(t, err)
		got, err = Run(text, planes)
		require.NoError(t, err)
		worst := 0.0
		for i := range got {
			worst = max(worst, math.Abs(float64(got[i]-logits[i])))
		}
		require.Greater(t, worst, 1e-3)
	}
}

// onnx's checker accepts the file, and onnxruntime computes the reference's logits from it.
func TestRuntime(t *testing.T) {
	python := testdata.Python(t, "onnx", "onnxruntime", "safetensors")
	net := every(t)
	values := random(net)
	planes, logits := pictures(net, values)
	for _, fold := range []bool{false, true} {
		dir := t.TempDir()
		require.NoError(t, Write(filepath.Join(dir, "net.onnx"), net, values, Options{FoldNorms: fold,
			Version: "test"}))
		for name, numbers := range map[string][]float32{"in.f32": planes, "out.f32": logits} {
			var text []byte
			for _, v := range numbers {
				text = binary.LittleEndian.AppendUint32(text, math.Float32bits(v))
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
		}
		out, err := exec.Command(python, filepath.Join(testdata.Root(), "scripts", "peers", "onnx_check.py"),
			"--folder", dir).CombinedOutput()
		require.NoError(t, err, string(out))
		t.Log(string(out))
	}
}
