package reference_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// The fixtures hold what PyTorch computes; scripts/peers/nn_fixtures.py writes them and documents their format.
type torchFixture struct {
	Matrix_              [][]int  `json:"matrix"`
	Ops                  []string `json:"ops"`
	Images               torchNumbers
	Classes              []int
	Partners             []int
	Mix                  float64
	Smoothing            float64
	Teacher              *torchNumbers
	Distill, Temperature float64
	Variables            []torchNumbers
	Train, Eval          struct {
		Logits     []float64
		Loss       float64
		Grads      map[string]torchTensor
		ImagesGrad torchTensor `json:"images_grad"`
		Running    map[string]torchTensor
	}
}

func (f *torchFixture) Matrix() [][]int   { return f.Matrix_ }
func (f *torchFixture) OpNames() []string { return f.Ops }

type torchNumbers struct {
	Name          string
	Shape         []int
	Tag           int
	Scale, Offset float64
}

type torchTensor struct {
	Norm   float64
	Stride int
	Sample []float64
}

func (n torchNumbers) values() []float64 {
	size := 1
	for _, d := range n.Shape {
		size *= d
	}
	return testdata.Formula(size, n.Tag, n.Scale, n.Offset)
}

const parity = 1e-9

func closeTo(t *testing.T, want, got []float64, norm float64, what string) {
	t.Helper()
	require.Equal(t, len(want), len(got), what)
	for i, w := range want {
		require.InDelta(t, w, got[i], parity*math.Max(math.Abs(w), norm/math.Sqrt(float64(len(want)))),
			"%s, element %d", what, i)
	}
}

func (w torchTensor) check(t *testing.T, got []float64, what string) {
	t.Helper()
	var square float64
	for _, v := range got {
		square += v * v
	}
	// A convolution's bias before a batch norm has a gradient of zero but for rounding.
	require.InDelta(t, w.Norm, math.Sqrt(square), parity*math.Max(w.Norm, 1e-3), what)
	require.Equal(t, (len(got)+w.Stride-1)/w.Stride, len(w.Sample), what)
	rms := math.Max(w.Norm, 1e-3) / math.Sqrt(float64(len(got)))
	for i, v := range w.Sample {
		require.InDelta(t, v, got[i*w.Stride], parity*math.Max(math.Abs(v), rms), "%s, element %d", what, i*w.Stride)
	}
}

func torchNASBench101(f *torchFixture) (*nn.Network, error) {
	return zoo.CellNetwork{Cell: f, Image: nn.Shape{H: 8, W: 8, C: 3}, Channels: 8, Stacks: 2, Modules: 1,
		Classes: 10}.Build()
}

func torchMobile(*torchFixture) (*nn.Network, error) {
	b, x := nn.NewBuilder("mobile", nn.Shape{H: 13, W: 11, C: 3})
	b.Norm = nn.BatchNorm{Eps: 1e-3, Momentum: 0.01}
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 6).Strided(2), nn.HSwish)
	block := func(b *nn.Builder, in nn.Tensor, mid, k, stride, se int, act nn.Activation) nn.Tensor {
		x := b.Scope("expand").ConvNorm(in, nn.Conv2D(1, mid), act)
		x = b.Scope("depthwise").ConvNorm(x, nn.Depthwise(k, mid).Strided(stride), act)
		if se > 0 {
			x = b.SqueezeExcite(x, se, nn.ReLU, nn.HSigmoid)
		}
		x = b.Scope("project").ConvNorm(x, nn.Conv2D(1, 8), nn.Identity)
		if x.Shape == in.Shape {
			x = b.Apply("sum", nn.Add{}, in, x)
		}
		return x
	}
	x = block(b.Scope("block1"), x, 15, 5, 2, 4, nn.HSwish)
	x = block(b.Scope("block2"), x, 11, 3, 1, 0, nn.ReLU6)
	x = block(b.Scope("block3"), x, 9, 7, 1, 5, nn.ReLU)
	x = b.Apply("features", nn.Conv2D(1, 13).Biased(), b.Apply("pool", nn.GlobalPool{}, x))
	b.Output(b.Apply("classifier", nn.Linear{Out: 5, Bias: true}, b.Apply("act", nn.HSwish, x)), 1)
	return b.Build()
}

func torchOperations(*torchFixture) (*nn.Network, error) {
	b, x := nn.NewBuilder("operations", nn.Shape{H: 10, W: 9, C: 3})
	x = b.Apply("act1", nn.Sigmoid, b.Apply("rect1", nn.ConvRect(nn.Size{H: 1, W: 7}, 6).Biased(), x))
	x = b.Apply("act2", nn.Swish, b.Apply("rect2", nn.ConvRect(nn.Size{H: 7, W: 1}, 8), x))
	x = b.Apply("dilated", nn.Conv2D(3, 12).Grouped(4).Dilated(2), x)
	x = b.Apply("frozen", nn.BatchNorm{Eps: 1e-5, Momentum: 0.1, Frozen: true}, x)
	x = b.Apply("shuffle", nn.Shuffle{Groups: 3}, b.Apply("maxpool", nn.NewMaxPool(3, 2), x))
	l, r := b.Apply("left", nn.Slice{To: 5}, x), b.Apply("right", nn.Slice{From: 5, To: 12}, x)
	aux := b.Apply("aux", nn.Linear{Out: 5, Bias: true}, b.Apply("auxpool", nn.GlobalPool{}, l))
	l = b.Apply("avgpool", nn.NewAvgPool(3, 1), l)
	r = b.Apply("avgpoolpad", nn.AvgPool{Kernel: nn.Size{H: 2, W: 3}, Stride: nn.Square(1),
		Pad: nn.Pad{Top: 1, Left: 1, Right: 1}, CountPad: true}, r)
	x = b.Scope("reduce").FactorizedReduce(b.Apply("concat", nn.Concat{}, r, l), 9)
	x = b.Scope("excite").SqueezeExcite(x, 4, nn.ReLU, nn.Sigmoid)
	x = b.Apply("gated", nn.Conv2D(3, 6).Grouped(3), x)
	wide, high := nn.ConvRect(nn.Size{H: 1, W: 7}, 8), nn.ConvRect(nn.Size{H: 7, W: 1}, 9)
	wide.Stride.W, high.Stride.H = 2, 2
	x = b.Apply("high", high, b.Apply("wide", wide, x))
	x = b.Apply("act3", nn.GELU, b.Apply("same", nn.Conv2D(3, 7).Strided(2).Padded(nn.Pad{Top: 2, Bottom: 1, Left: 1}),
		x))
	b.Output(b.Apply("classifier", nn.Linear{Out: 5, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	b.Output(aux, 0.4)
	return b.Build()
}

// With PyTorch's weights the logits, the loss, all gradients and the running statistics equal PyTorch's in float64, in
// training and evaluation.
func TestTorchParity(t *testing.T) {
	for name, build := range map[string]func(*torchFixture) (*nn.Network, error){
		"nasbench101": torchNASBench101, "mobile": torchMobile, "operations": torchOperations,
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("../testdata/torch_" + name + ".json")
			require.NoError(t, err)
			var f torchFixture
			require.NoError(t, json.Unmarshal(data, &f))
			net, err := build(&f)
			require.NoError(t, err)
			variables := net.Variables()
			index := map[string]int{}
			for i, v := range variables {
				index[v.Name] = i
			}
			m := reference.New(net, net.Initialize(nn.HeFanOut, 1))
			require.Len(t, f.Variables, len(variables))
			for _, n := range f.Variables {
				i, ok := index[n.Name]
				require.True(t, ok, n.Name)
				require.Equal(t, n.Shape, variables[i].TorchShape(), n.Name)
				m.Values[i] = nn.FromTorch(variables[i], n.values())
			}
			loss := nn.Loss{Smoothing: f.Smoothing, Distill: f.Distill, Temperature: f.Temperature}
			var teacher []float64
			if f.Teacher != nil {
				teacher = f.Teacher.values()
			}
			for _, train := range []bool{true, false} {
				want := f.Eval
				if train {
					want = f.Train
				}
				p := m.Forward(f.Images.values(), f.Images.Shape[0], reference.Mode{Train: train})
				closeTo(t, want.Logits, p.Logits(0), 1, "logits")
				partners, mix := f.Classes, 1.0
				if f.Partners != nil {
					partners, mix = f.Partners, f.Mix
				}
				value, outputs := p.MixedLoss(loss, f.Classes, partners, mix, teacher)
				require.InEpsilon(t, want.Loss, value, parity)
				g := p.Backward(outputs...)
				want.ImagesGrad.check(t, g.Nodes[0], "images")
				grads := 0
				for i, v := range variables {
					if v.Role.Trainable() {
						want.Grads[v.Name].check(t, nn.ToTorch(v, g.Values[i]), v.Name)
						grads++
					}
				}
				require.Equal(t, len(want.Grads), grads)
				if train {
					p.UpdateStatistics()
					for name, w := range want.Running {
						w.check(t, m.Values[index[name]], name)
					}
				}
			}
		})
	}
}
