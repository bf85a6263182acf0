package reference_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// operation builds a network of one operation, or of a few, over images of a shape.
type operation struct {
	name  string
	image nn.Shape
	build func(b *nn.Builder, x nn.Tensor) nn.Tensor
}

func single(name string, h, w, c int, op nn.Op) operation {
	return operation{name, nn.Shape{H: h, W: w, C: c}, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
		return b.Apply("op", op, x)
	}}
}

func operations() []operation {
	norm := nn.BatchNorm{Eps: 1e-3, Momentum: 0.1}
	frozen := norm
	frozen.Frozen = true
	bare := norm
	bare.NoAffine = true
	uneven := nn.ConvRect(nn.Size{H: 1, W: 7}, 3).Padded(nn.Pad{Left: 2, Right: 1})
	uneven.Stride.W = 3
	padded := nn.AvgPool{Kernel: nn.Size{H: 3, W: 2}, Stride: nn.Square(1), Pad: nn.Pad{Top: 1, Bottom: 2, Right: 1},
		CountPad: true}
	ops := []operation{
		single("conv 1x1", 3, 2, 5, nn.Conv2D(1, 4)),
		single("conv 3x3 stride 2 bias", 5, 4, 3, nn.Conv2D(3, 4).Strided(2).Biased()),
		single("conv 5x5 groups", 4, 5, 6, nn.Conv2D(5, 9).Grouped(3)),
		single("conv 7x1", 5, 3, 2, nn.ConvRect(nn.Size{H: 7, W: 1}, 3)),
		single("conv 1x7 uneven stride", 3, 8, 2, uneven),
		single("conv dilated", 6, 5, 2, nn.Conv2D(3, 2).Dilated(2).Strided(2)),
		single("conv shifted", 5, 6, 2,
			nn.Conv2D(1, 3).Strided(2).Padded(nn.Pad{Top: -1, Bottom: 1, Left: -1, Right: 1})),
		single("depthwise 3x3", 4, 3, 5, nn.Depthwise(3, 5)),
		single("depthwise 5x5 stride 2", 5, 7, 3, nn.Depthwise(5, 3).Strided(2)),
		single("batch norm", 3, 2, 3, norm),
		single("batch norm frozen", 3, 2, 3, frozen),
		single("batch norm without scale and shift", 3, 2, 3, bare),
		single("max-pool", 5, 4, 3, nn.NewMaxPool(3, 2)),
		single("max-pool 2x2", 5, 4, 3, nn.NewMaxPool(2, 2)),
		single("average pool", 5, 4, 3, nn.NewAvgPool(3, 2)),
		single("average pool with padding", 4, 5, 2, padded),
		single("global pool", 3, 5, 4, nn.GlobalPool{}),
		single("linear", 1, 1, 7, nn.Linear{Out: 5}),
		single("linear bias", 1, 1, 7, nn.Linear{Out: 3, Bias: true}),
		single("dropout", 3, 4, 5, nn.Dropout{P: 0.3}),
		single("drop path", 3, 4, 5, nn.DropPath{P: 0.4}),
		single("shuffle", 2, 3, 6, nn.Shuffle{Groups: 3}),
		single("slice", 2, 3, 6, nn.Slice{From: 1, To: 4}),
		single("zero", 3, 4, 2, nn.Zero{Stride: 2}),
	}
	for a := nn.Identity; a < nn.Activations; a++ {
		ops = append(ops, single(a.String(), 3, 5, 4, a))
	}
	image := nn.Shape{H: 3, W: 5, C: 4}
	return append(ops,
		operation{"add", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.Apply("op", nn.Add{}, x, b.Apply("conv", nn.Conv2D(1, 4), x), x)
		}},
		operation{"mix", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			b.Row(nn.Row{Name: "other", Choices: []string{"a"}})
			b.Row(nn.Row{Name: "first", Choices: []string{"none", "conv", "none too", "x"}})
			b.Row(nn.Row{Name: "second", Choices: []string{"none", "conv", "none too", "x"}})
			y := b.Apply("conv", nn.Conv2D(1, 4), x)
			mix := nn.Mix{Row: 1, Rows: 2, Absent: 1<<0 | 1<<2}
			return b.Apply("op", mix, b.Apply("mix", mix, y, x, x, y), x, b.Apply("norm", bare, y), y)
		}},
		operation{"concat", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.Apply("op", nn.Concat{}, b.Apply("conv", nn.Conv2D(1, 3), x), x)
		}},
		operation{"squeeze-excite", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.SqueezeExcite(x, 3, nn.ReLU, nn.HSigmoid)
		}},
		operation{"factorized reduce", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.FactorizedReduce(x, 5)
		}},
		operation{"conv norm", image, func(b *nn.Builder, x nn.Tensor) nn.Tensor {
			return b.ConvNorm(x, nn.Conv2D(3, 3), nn.HSwish)
		}},
	)
}

// network is the network of an operation, whose only output is the operation's.
func (o operation) network(t *testing.T) *nn.Network {
	b, x := nn.NewBuilder(o.name, o.image)
	y := o.build(b, x)
	b.Output(b.Apply("pool", nn.GlobalPool{}, y), 1)
	net, err := b.Build()
	require.NoError(t, err)
	net.Outputs[0].Node = len(net.Nodes) - 2
	return net
}

// model has random values everywhere, and positive running variances.
func model(net *nn.Network, stream uint32) *reference.Model {
	m := reference.New(net, net.Initialize(nn.TorchDefault, 1))
	s := philox.New(7, philox.PurposeTest, stream)
	for i, v := range net.Variables() {
		for k := range m.Values[i] {
			m.Values[i][k] = s.NormFloat64()
			if v.Role == nn.Variance {
				m.Values[i][k] = 0.5 + s.Float64()
			}
		}
	}
	for _, row := range m.Mixture {
		for k := range row {
			row[k] = s.NormFloat64()
		}
	}
	return m
}

// The gradients of every parameter, of the images and of mixtures are those of central differences.
func TestGradients(t *testing.T) {
	const batch = 3
	for i, o := range operations() {
		for _, train := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/train %v", o.name, train), func(t *testing.T) {
				net := o.network(t)
				m := model(net, uint32(i))
				_, x := kerneltest.Random(batch*o.image.Len(), uint32(1000+i))
				mode := reference.Mode{Train: train, Seed: 5, Step: 3}
				_, weight := kerneltest.Random(len(m.Forward(x, batch, mode).Logits(0)), uint32(2000+i))
				g := m.Forward(x, batch, mode).Backward(weight)
				loss := func([]float64) float64 {
					sum := 0.0
					for k, y := range m.Forward(x, batch, mode).Logits(0) {
						sum += y * weight[k]
					}
					return sum
				}
				kerneltest.Gradient(t, loss, x, g.Nodes[0], 1e-7, "images")
				for k, row := range net.Mixture {
					kerneltest.Gradient(t, loss, m.Mixture[k], g.Mixture[k], 1e-7, row.Name)
				}
				for k, v := range net.Variables() {
					if v.Role.Trainable() {
						kerneltest.Gradient(t, loss, m.Values[k], g.Values[k], 1e-7, v.Name)
					} else {
						require.Nil(t, g.Values[k])
					}
				}
			})
		}
	}
}

// The derivatives of the loss by the logits of all heads are those of central differences.
func TestLossGradient(t *testing.T) {
	b, x := nn.NewBuilder("heads", nn.Shape{H: 1, W: 1, C: 6})
	b.Output(b.Apply("main", nn.Linear{Out: 5}, x), 1)
	b.Output(b.Apply("aux", nn.Linear{Out: 5}, x), 0.4)
	net, err := b.Build()
	require.NoError(t, err)
	const batch = 4
	_, teacher := kerneltest.Random(batch*5, 1)
	_, images := kerneltest.Random(batch*6, 2)
	for _, l := range []nn.Loss{{}, {Smoothing: 0.1}, {Smoothing: 0.2, Distill: 1.5, Temperature: 3}} {
		require.NoError(t, l.Check())
		p := model(net, 3).Forward(images, batch, reference.Mode{})
		soft := teacher
		if l.Distill == 0 {
			soft = nil
		}
		classes := []int{4, 0, 2, 2}
		_, g := p.Loss(l, classes, soft)
		for k, d := range g {
			kerneltest.Gradient(t, func([]float64) float64 {
				v, _ := p.Loss(l, classes, soft)
				return v
			}, p.Logits(k), d, 1e-8, "logits")
		}
	}
	for _, l := range []nn.Loss{{Smoothing: 1}, {Smoothing: -0.1}, {Distill: -1}, {Distill: 1}} {
		require.Error(t, l.Check(), "%+v", l)
	}
}

// In training dropout keeps the right share, scaled so that the mean stays, and decides anew at every step; in
// evaluation it does nothing.
func TestDropout(t *testing.T) {
	for _, o := range []operation{single("dropout", 20, 20, 25, nn.Dropout{P: 0.3}),
		single("drop path", 1, 1, 1, nn.DropPath{P: 0.3})} {
		net := o.network(t)
		m := model(net, 1)
		batch := 10000 / o.image.Len()
		ones := make([]float64, batch*o.image.Len())
		for k := range ones {
			ones[k] = 1
		}
		require.Equal(t, ones, m.Forward(ones, batch, reference.Mode{Seed: 1}).Logits(0))
		train := func(step uint32) []float64 {
			return m.Forward(ones, batch, reference.Mode{Train: true, Seed: 1, Step: step}).Logits(0)
		}
		kept := 0
		for _, y := range train(0) {
			if y != 0 {
				require.InDelta(t, 1/0.7, y, 1e-12)
				kept++
			}
		}
		require.InDelta(t, 7000, kept, 4*46) // the standard deviation is 46
		require.Equal(t, train(0), train(0))
		require.NotEqual(t, train(0), train(1))
	}
}

// Drop path keeps or drops whole examples.
func TestDropPathExamples(t *testing.T) {
	net := single("drop path", 2, 2, 3, nn.DropPath{P: 0.5}).network(t)
	ones := make([]float64, 50*12)
	for k := range ones {
		ones[k] = 1
	}
	y := model(net, 1).Forward(ones, 50, reference.Mode{Train: true}).Logits(0)
	kept := map[float64]int{}
	for e := range 50 {
		for _, v := range y[12*e : 12*e+12] {
			require.Equal(t, y[12*e], v)
		}
		kept[y[12*e]]++
	}
	require.Len(t, kept, 2)
	require.Contains(t, kept, 0.0)
	require.Contains(t, kept, 2.0)
}

// Of equal elements the first passes the gradient on.
func TestMaxPoolTies(t *testing.T) {
	p := model(single("ties", 2, 2, 1, nn.NewMaxPool(2, 2)).network(t), 1).Forward([]float64{1, 3, 3, 3}, 1,
		reference.Mode{})
	require.Equal(t, []float64{0, 5, 0, 0}, p.Backward([]float64{5}).Nodes[0])
}

func TestBadCallsPanic(t *testing.T) {
	net := single("linear", 1, 1, 3, nn.Linear{Out: 2}).network(t)
	m := model(net, 1)
	require.Panics(t, func() { reference.New(net, nil) })
	require.Panics(t, func() { reference.New(net, [][]float32{{1}}) })
	require.Panics(t, func() { m.Forward(make([]float64, 4), 1, reference.Mode{}) })
	p := m.Forward(make([]float64, 3), 1, reference.Mode{})
	require.Panics(t, func() { p.Loss(nn.Loss{}, []int{0, 1}, nil) })
	require.Panics(t, func() { p.Loss(nn.Loss{Distill: 1, Temperature: 1}, []int{0}, nil) })
}
