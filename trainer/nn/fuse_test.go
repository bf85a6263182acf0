package nn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// networks are some of many kinds, for images of 16x16 or less.
func networks(t *testing.T) []*nn.Network {
	var nets []*nn.Network
	add := func(net *nn.Network, err error) {
		require.NoError(t, err)
		nets = append(nets, net)
	}
	s := philox.New(11, philox.PurposeTest, 1)
	image := nn.Shape{H: 6, W: 7, C: 3}
	for range 20 {
		cell := space.NASBench101{}.Sample(s).(space.Cell)
		add(zoo.CellNetwork{Cell: cell, Image: image, Channels: 8, Stacks: 2, Modules: 2, Classes: 4}.Build())
	}
	add(zoo.MobileNetV3Large(16, 10))
	add(zoo.MobileNetV2(0.25, 16, 10))
	add(awkward(image))
	return nets
}

// awkward is full of orders that do not fuse.
func awkward(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("awkward", image)
	x = b.Scope("a").ConvNorm(x, nn.Conv2D(3, 4), nn.Identity)
	y := b.Apply("norm after norm", b.Norm, x)
	z := b.Apply("relu", nn.ReLU, x)
	z = b.Apply("swish after relu", nn.Swish, z)
	z = b.Apply("norm after swish", b.Norm, z)
	x = b.Apply("sum", nn.Add{}, x, y, b.Apply("same", nn.Identity, z))
	x = b.Scope("gate").SqueezeExcite(x, 2, nn.ReLU, nn.HSigmoid)
	x = b.Scope("gate after gate").SqueezeExcite(x, 2, nn.Swish, nn.Sigmoid)
	x = b.Apply("relu after gate", nn.ReLU, x)
	b.Apply("unused", nn.Conv2D(1, 3), x)
	aux := b.Apply("aux", nn.HSwish, b.Apply("auxpool", nn.GlobalPool{}, x))
	x = b.Scope("reduce").FactorizedReduce(b.Apply("path", nn.DropPath{P: 0.2}, x), 5)
	x = b.Apply("shuffle", nn.Concat{}, x, b.Apply("zero", nn.Zero{Stride: 2}, y))
	b.Output(b.Apply("logits", b.Norm, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	b.Output(aux, 0.4)
	return b.Build()
}

// load is what a kernel makes of the stored tensors alone, in evaluation. norms holds the values of a batch norm's
// scale, shift, mean and variance.
func load(f *nn.Fusion, norms map[int][][]float64, stored [][]float64, v nn.View) []float64 {
	x := append([]float64(nil), stored[v.Node]...)
	channels := f.Nodes[v.Node].Shape.C
	if v.Norm != 0 {
		n, eps := norms[v.Norm], f.Nodes[v.Norm].Op.(nn.BatchNorm).Eps
		for k := range x {
			c := k % channels
			x[k] = n[0][c]*(x[k]-n[2][c])/math.Sqrt(n[3][c]+eps) + n[1][c]
		}
	}
	if v.Act != 0 {
		for k := range x {
			x[k] = f.Nodes[v.Act].Op.(nn.Activation).Apply(x[k])
		}
	}
	if v.Gate != 0 {
		g := load(f, norms, stored, f.Views[v.Gate])
		size := f.Nodes[v.Node].Shape.Len()
		for k := range x {
			x[k] *= g[k/size*channels+k%channels]
		}
	}
	return x
}

// What the views make of stored tensors is what the nodes compute.
func TestViewsGiveTheSameValues(t *testing.T) {
	for _, net := range networks(t) {
		values := net.Initialize(nn.TorchDefault, 1)
		m := reference.New(net, values)
		s := philox.New(3, philox.PurposeTest, 2)
		norms := map[int][][]float64{}
		for i, v := range net.Variables() {
			norms[v.Node] = append(norms[v.Node], m.Values[i])
			if len(v.Shape) == 1 {
				for k := range m.Values[i] {
					m.Values[i][k] = 0.5 + s.Float64()
				}
			}
		}
		images := make([]float64, 2*net.Input().Len())
		for k := range images {
			images[k] = s.NormFloat64()
		}
		p := m.Forward(images, 2, reference.Mode{})
		f := nn.Fuse(net)
		stored := make([][]float64, len(net.Nodes))
		for _, i := range f.Stored {
			stored[i] = p.Outputs[i]
		}
		for i, node := range net.Nodes {
			if f.Reached[i] {
				require.InDeltaSlice(t, p.Outputs[i], load(f, norms, stored, f.Views[i]), 1e-9, "%s: %s", net.Name,
					node.Name)
			}
		}
	}
}

// stored lists the names of the nodes stored in addition to the outputs of convolutions and linear layers.
func stored(f *nn.Fusion) []string {
	var names []string
	for _, i := range f.Stored {
		switch f.Nodes[i].Op.(type) {
		case nn.Conv, nn.Linear:
		default:
			names = append(names, f.Nodes[i].Name)
		}
	}
	return names
}

// In a MobileNet only convolutions, pools, sums and the input of the classifier are stored; batch norm, activation and
// gate are pending.
func TestFuseMobileNetV3(t *testing.T) {
	net, err := zoo.MobileNetV3Large(224, 1000)
	require.NoError(t, err)
	f := nn.Fuse(net)
	want := []string{"input"}
	for i := 1; i <= 15; i++ {
		for _, name := range []string{"se/pool", "sum"} {
			if name = fmt.Sprintf("block%d/%s", i, name); net.Find(name) >= 0 {
				want = append(want, name)
			}
		}
	}
	require.Equal(t, append(want, "pool", "dropout"), stored(f))
	at := net.Find
	pending := nn.View{Node: at("block4/depthwise/conv"), Norm: at("block4/depthwise/bn"),
		Act: at("block4/depthwise/act")}
	require.Equal(t, []nn.View{pending}, f.Reads(at("block4/se/pool")))
	pending.Gate = at("block4/se/gate")
	require.Equal(t, []nn.View{pending}, f.Reads(at("block4/project/conv")))
	require.Equal(t, nn.View{Node: at("block4/se/expand"), Act: at("block4/se/gate")}, f.Views[at("block4/se/gate")])
	project := func(block string) nn.View {
		return nn.View{Node: at(block + "/project/conv"), Norm: at(block + "/project/bn")}
	}
	require.Equal(t, []nn.View{project("block4"), project("block5")}, f.Reads(at("block5/sum")))
	for i, node := range net.Nodes {
		conv, ok := node.Op.(nn.Conv)
		require.Equal(t, ok && !conv.Bias, f.Summed[i], node.Name)
	}
}

// A frozen batch norm is pending like any other, and needs no sums.
func TestFuseFrozen(t *testing.T) {
	b, x := nn.NewBuilder("frozen", nn.Shape{H: 2, W: 2, C: 3})
	b.Norm.Frozen = true
	x = b.Apply("pool", nn.GlobalPool{}, b.ConvNorm(x, nn.Conv2D(1, 2), nn.ReLU))
	b.Output(x, 1)
	net, err := b.Build()
	require.NoError(t, err)
	f := nn.Fuse(net)
	require.Equal(t, []nn.View{{Node: net.Find("conv"), Norm: net.Find("bn"), Act: net.Find("act")}},
		f.Reads(net.Find("pool")))
	require.NotContains(t, f.Summed, true)
}

// What cannot be pending is stored, and what nothing depends on is not.
func TestFuseAwkward(t *testing.T) {
	net, err := awkward(nn.Shape{H: 6, W: 7, C: 3})
	require.NoError(t, err)
	f := nn.Fuse(net)
	require.Equal(t, []string{
		"input", "a/bn", "relu", "swish after relu", "sum", "gate/se/pool", "gate/se/scale", "gate after gate/se/pool",
		"gate after gate/se/scale",
		"auxpool", "aux", "path", "reduce/concat", "zero", "shuffle", "pool", "logits",
	}, stored(f))
	require.False(t, f.Reached[net.Find("unused")])
	require.NotContains(t, f.Stored, net.Find("unused"))
	require.True(t, f.Summed[net.Find("swish after relu")])
}
