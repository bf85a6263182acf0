package nn_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
)

func TestShapes(t *testing.T) {
	image := nn.Shape{H: 9, W: 12, C: 6}
	for _, c := range []struct {
		op   nn.Op
		want nn.Shape
	}{
		{nn.Conv2D(1, 4), nn.Shape{H: 9, W: 12, C: 4}},
		{nn.Conv2D(3, 4).Strided(2), nn.Shape{H: 5, W: 6, C: 4}},
		{nn.Conv2D(5, 8).Grouped(2).Dilated(2), nn.Shape{H: 9, W: 12, C: 8}},
		{nn.Conv2D(3, 4).Padded(nn.Pad{}), nn.Shape{H: 7, W: 10, C: 4}},
		{nn.ConvRect(nn.Size{H: 1, W: 7}, 4), nn.Shape{H: 9, W: 12, C: 4}},
		{nn.Conv2D(1, 4).Strided(2).Padded(nn.Pad{Top: -1, Bottom: 1, Left: -1, Right: 1}), nn.Shape{H: 5, W: 6, C: 4}},
		{nn.NewMaxPool(3, 2), nn.Shape{H: 5, W: 6, C: 6}},
		{nn.NewMaxPool(2, 2), nn.Shape{H: 5, W: 6, C: 6}},
		{nn.NewAvgPool(3, 1), image},
		{nn.GlobalPool{}, nn.Shape{H: 1, W: 1, C: 6}},
		{nn.BatchNorm{}, image},
		{nn.Dropout{P: 0.5}, image},
		{nn.Shuffle{Groups: 3}, image},
		{nn.Slice{From: 2, To: 6}, nn.Shape{H: 9, W: 12, C: 4}},
		{nn.Zero{Stride: 2}, nn.Shape{H: 5, W: 6, C: 6}},
	} {
		b, x := nn.NewBuilder("shapes", image)
		require.Equal(t, c.want, b.Apply("op", c.op, x).Shape, "%v", c.op)
	}
}

// Drop paths keep their ratios; a network without any, and zeros, change nothing.
func TestRegularized(t *testing.T) {
	b, x := nn.NewBuilder("paths", nn.Shape{H: 2, W: 2, C: 3})
	x = b.Apply("first", nn.DropPath{P: 0.1}, x)
	x = b.Apply("pool", nn.GlobalPool{}, b.Apply("second", nn.DropPath{P: 0.4}, x))
	b.Output(b.Apply("main", nn.Linear{Out: 2}, x), 1)
	b.Output(b.Apply("aux", nn.Linear{Out: 2}, x), 0.3)
	net, err := b.Build()
	require.NoError(t, err)
	r := net.Regularized(0.2, 0.7)
	require.InDelta(t, 0.05, r.Nodes[1].Op.(nn.DropPath).P, 1e-15)
	require.Equal(t, nn.DropPath{P: 0.2}, r.Nodes[2].Op)
	require.Equal(t, []nn.Output{{Node: 4, Weight: 1}, {Node: 5, Weight: 0.7}}, r.Outputs)
	require.Equal(t, net, net.Regularized(0, 0))
	require.Equal(t, nn.DropPath{P: 0.1}, net.Nodes[1].Op, "the network itself stays")
	net.Nodes[1].Op, net.Nodes[2].Op = nn.DropPath{}, nn.DropPath{}
	require.Equal(t, nn.DropPath{P: 0.2}, net.Regularized(0.2, 0).Nodes[1].Op)
}

func TestErrorsNameTheLayer(t *testing.T) {
	image := nn.Shape{H: 8, W: 8, C: 24}
	for _, c := range []struct {
		op     nn.Op
		inputs int
		want   string
	}{
		{nn.Conv2D(3, 14).Grouped(7), 1, "3x3 convolution with groups 7 over 24 channels"},
		{nn.Conv2D(3, 14).Grouped(4), 1, "3x3 convolution with groups 4 to 14 channels"},
		{nn.Conv2D(3, 14).Grouped(0), 1, "3x3 convolution with groups 0 over 24 channels"},
		{nn.Conv2D(1, -1), 1, "1x1 convolution to -1 channels"},
		{nn.Conv2D(3, 1).Strided(0), 1, "3x3 convolution with window 3x3 and stride 0x0"},
		{nn.Conv2D(3, 1).Dilated(0), 1, "3x3 convolution with dilation 0"},
		{nn.Conv2D(11, 1).Padded(nn.Pad{}), 1, "11x11 convolution is larger than its input of 8x8 with padding " +
			"{Top:0 Bottom:0 Left:0 Right:0}"},
		{nn.Conv2D(1, math.MaxInt32), 1, "1x1 convolution to 8x8x2147483647: more than 2147483648 elements"},
		{nn.NewMaxPool(0, 1), 1, "0x0 max-pooling with padding {Top:0 Bottom:-1 Left:0 Right:-1}, want 0 up to less " +
			"than the window"},
		{nn.MaxPool{Kernel: nn.Square(2), Stride: nn.Square(2), Pad: nn.Pad{Left: 2}}, 1,
			"2x2 max-pooling with padding {Top:0 Bottom:0 Left:2 Right:0}, want 0 up to less than the window"},
		{nn.Linear{Out: 3}, 1, "linear layer over 8x8x24, want a vector"},
		{nn.BatchNorm{Eps: math.NaN()}, 1, "batch norm with eps NaN and momentum 0"},
		{nn.Activation(99), 1, "activation 99 is unknown"},
		{nn.Dropout{P: 1}, 1, "dropout with probability 1, want 0 <= p < 1"},
		{nn.DropPath{P: math.NaN()}, 1, "drop path with probability NaN, want 0 <= p < 1"},
		{nn.Add{}, 1, "sum of 1 tensors"},
		{nn.Gate{}, 2, "gate of 8x8x24 over 8x8x24, want 1x1x24"},
		{nn.Gate{}, 3, "gate of 3 tensors"},
		{nn.GlobalPool{}, 2, "global average pooling of 2 tensors"},
		{nn.Input{Shape: image}, 1, "input of 1 tensors"},
		{nn.Input{Shape: image}, 0, "input besides the first"},
		{nn.Shuffle{Groups: 5}, 1, "channel shuffle with groups 5 over 24 channels"},
		{nn.Slice{From: 20, To: 25}, 1, "slice of channels 20 to 25 over 24 channels"},
		{nn.Mix{Row: 1, Rows: 1}, 1, "mixture by 1 rows from row 1, of 1"},
		{nn.Mix{}, 1, "mixture by 0 rows from row 0, of 1"},
		{nn.Mix{Rows: 1}, 1, "mixture of 1 tensors, want 2, one a choice"},
		{nn.Mix{Rows: 1, Absent: 3}, 1, "mixture of 1 tensors, want 0, one a choice"},
		{nn.Zero{}, 1, "zero with window 1x1 and stride 0x0"},
	} {
		b, x := nn.NewBuilder("net", image)
		b.Row(nn.Row{Name: "row", Choices: []string{"a", "b"}})
		in := []nn.Tensor{x, x, x}[:c.inputs]
		b.Scope("block%d", 3).Apply("conv2", c.op, in...)
		b.Output(b.Apply("more", nn.Linear{}, x), 1) // ignored after an error
		_, err := b.Build()
		require.EqualError(t, err, "net: block3/conv2: "+c.want)
	}
}

func TestBuildErrors(t *testing.T) {
	image := nn.Shape{H: 2, W: 2, C: 3}
	for want, build := range map[string]func(b *nn.Builder, x nn.Tensor){
		"net: no output": func(*nn.Builder, nn.Tensor) {},
		"net: there are two nodes a/b": func(b *nn.Builder, x nn.Tensor) {
			b.Apply("a/b", nn.ReLU, b.Scope("a").Apply("b", nn.ReLU, x))
		},
		"net: a: output of 2x2x3, want a vector": func(b *nn.Builder, x nn.Tensor) { b.Scope("a").Output(x, 1) },
		"net: the prediction's weight is 0.4, want 1": func(b *nn.Builder, x nn.Tensor) {
			b.Output(b.Apply("pool", nn.GlobalPool{}, x), 0.4)
		},
		"net: sum: sum of 2x2x3 and 1x1x3": func(b *nn.Builder, x nn.Tensor) {
			b.Apply("sum", nn.Add{}, x, b.Apply("pool", nn.GlobalPool{}, x))
		},
		"net: cell: row op of 0 choices: want 1 to 32": func(b *nn.Builder, _ nn.Tensor) {
			b.Scope("cell").Row(nn.Row{Name: "op"})
		},
		"net: cell: row op of 2 choices has 1 costs": func(b *nn.Builder, _ nn.Tensor) {
			b.Scope("cell").Row(nn.Row{Name: "op", Choices: []string{"a", "b"}, Cost: []float64{1}})
		},
		"net: cell: row op of 2 choices has 1 starts": func(b *nn.Builder, _ nn.Tensor) {
			b.Scope("cell").Row(nn.Row{Name: "op", Choices: []string{"a", "b"}, Start: []float64{1}})
		},
		"net: cell: row op has a choice that costs NaN": func(b *nn.Builder, _ nn.Tensor) {
			b.Scope("cell").Row(nn.Row{Name: "op", Choices: []string{"a"}, Cost: []float64{math.NaN()}})
		},
		"net: cell: there are two rows op": func(b *nn.Builder, _ nn.Tensor) {
			b.Scope("cell").Row(nn.Row{Name: "op", Choices: []string{"a"}})
			b.Scope("cell").Row(nn.Row{Name: "op", Choices: []string{"b"}})
		},
		"net: concat: concatenation of 2x2x3 and 1x1x3": func(b *nn.Builder, x nn.Tensor) {
			b.Apply("concat", nn.Concat{}, x, b.Apply("pool", nn.GlobalPool{}, x))
		},
	} {
		b, x := nn.NewBuilder("net", image)
		build(b, x)
		_, err := b.Build()
		require.EqualError(t, err, want)
	}
	for _, s := range []nn.Shape{{}, {H: -1, W: 2, C: 3}, {H: 1 << 30, W: 1 << 30, C: 3},
		{H: 1 << 20, W: 1 << 20, C: 1}} {
		b, _ := nn.NewBuilder("net", s)
		_, err := b.Build()
		require.EqualError(t, err, "net: input: input of "+s.String())
	}
}

// An auxiliary head is no part of the cost.
func TestCostLeavesOutHeads(t *testing.T) {
	b, x := nn.NewBuilder("net", nn.Shape{H: 4, W: 6, C: 2})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 5).Grouped(1).Strided(2).Biased(), nn.ReLU)
	x = b.Apply("pool", nn.GlobalPool{}, x)
	b.Output(b.Apply("classifier", nn.Linear{Out: 3, Bias: true}, x), 1)
	b.Output(b.Apply("aux", nn.Linear{Out: 7}, x), 0.4)
	net, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, nn.Cost{MAdds: 2*3*5*9*2 + 5*3, Params: 9*2*5 + 5 + 2*5 + 5*3 + 3}, net.Cost())
	require.Equal(t, nn.Cost{MAdds: 35, Params: 35}, net.NodeCost(net.Find("aux")))
	require.Equal(t, nn.Cost{}, net.NodeCost(net.Find("pool")))
	require.Equal(t, -1, net.Find("aux2"))
	require.Equal(t, []nn.Output{{Node: net.Find("classifier"), Weight: 1}, {Node: net.Find("aux"), Weight: 0.4}},
		net.Outputs)
}
