package nn_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// checkPlacement requires that tensors that live together do not overlap, and that offsets, peak and bound are consistent.
func checkPlacement(t require.TestingT, tensors []nn.Lifetime, align int64) nn.Placement {
	p := nn.Place(tensors, align)
	require.Equal(t, p, nn.Place(tensors, align))
	require.Len(t, p.Offsets, len(tensors))
	var sum, end int64
	for i, a := range tensors {
		require.GreaterOrEqual(t, p.Offsets[i], int64(0))
		require.Zero(t, p.Offsets[i]%align)
		end = max(end, p.Offsets[i]+a.Bytes)
		sum += (a.Bytes + align - 1) / align * align
		for k, b := range tensors[:i] {
			if a.First <= b.Last && b.First <= a.Last && p.Offsets[i] < p.Offsets[k]+b.Bytes && p.Offsets[k] < p.Offsets[i]+a.Bytes {
				require.Fail(t, "overlap", "%+v at %d and %+v at %d", a, p.Offsets[i], b, p.Offsets[k])
			}
		}
	}
	require.LessOrEqual(t, end, p.Peak)
	require.Less(t, p.Peak-end, align)
	require.LessOrEqual(t, p.Live, p.Peak)
	require.LessOrEqual(t, p.Peak, sum)
	return p
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := rapid.SliceOf(rapid.Custom(func(t *rapid.T) nn.Lifetime {
			first := rapid.IntRange(0, 30).Draw(t, "first")
			return nn.Lifetime{Bytes: rapid.Int64Range(0, 1000).Draw(t, "bytes"), First: first, Last: rapid.IntRange(first, 40).Draw(t, "last")}
		})).Draw(t, "tensors")
		checkPlacement(t, tensors, rapid.SampledFrom([]int64{1, 16, 256}).Draw(t, "align"))
	})
}

func TestPlace(t *testing.T) {
	require.Equal(t, nn.Placement{Offsets: []int64{}}, nn.Place(nil, 256))
	// The third reuses the first's place; the fourth fits beside it.
	tensors := []nn.Lifetime{
		{Bytes: 100, First: 0, Last: 1}, {Bytes: 60, First: 1, Last: 3}, {Bytes: 50, First: 2, Last: 3}, {Bytes: 40, First: 2, Last: 2},
	}
	require.Equal(t, nn.Placement{Offsets: []int64{0, 100, 0, 50}, Peak: 160, Live: 160}, nn.Place(tensors, 1))
}

// A tensor goes where it leaves the least room.
func TestPlaceInTheSmallestGap(t *testing.T) {
	tensors := []nn.Lifetime{
		{Bytes: 90, First: 0, Last: 0}, {Bytes: 80, First: 0, Last: 1}, {Bytes: 70, First: 0, Last: 0}, {Bytes: 60, First: 0, Last: 1},
		{Bytes: 50, First: 1, Last: 1},
	}
	require.Equal(t, nn.Placement{Offsets: []int64{0, 90, 170, 240, 170}, Peak: 300, Live: 300}, nn.Place(tensors, 1))
}

// A chain of three convolutions with batch norm: every raw output lives until its own backward step.
func TestLifetimes(t *testing.T) {
	b, x := nn.NewBuilder("chain", nn.Shape{H: 4, W: 4, C: 3})
	x = b.Scope("a").ConvNorm(x, nn.Conv2D(3, 2), nn.ReLU)
	y := b.Scope("b").ConvNorm(x, nn.Conv2D(3, 2), nn.Identity)
	x = b.Apply("sum", nn.Add{}, x, y)
	b.Output(b.Apply("classifier", nn.Linear{Out: 5}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	require.NoError(t, err)
	f := nn.Fuse(net)
	// Steps: 0 input, 1 a, 2 b, 3 sum, 4 pool, 5 classifier, 6 loss, 7 classifier, 8 pool, 9 sum, 10 b, 11 a.
	require.Equal(t, []nn.Lifetime{
		{"a/conv", 3 * 32 * 4, 1, 11}, {"gradient of a/conv", 3 * 32 * 4, 9, 11},
		{"b/conv", 3 * 32 * 4, 2, 10}, {"gradient of b/conv", 3 * 32 * 4, 9, 10},
		{"sum", 3 * 32 * 4, 3, 4}, {"gradient of sum", 3 * 32 * 4, 8, 9},
		{"pool", 3 * 2 * 4, 4, 7}, {"gradient of pool", 3 * 2 * 4, 7, 8},
		{"classifier", 3 * 5 * 4, 5, 6}, {"gradient of classifier", 3 * 5 * 4, 6, 7},
	}, f.Lifetimes(3, 4))
}

// A gate's factor and what it multiplies live until the backward step of what reads them together.
func TestLifetimesOfGate(t *testing.T) {
	b, x := nn.NewBuilder("gate", nn.Shape{H: 4, W: 4, C: 3})
	x = b.SqueezeExcite(b.ConvNorm(x, nn.Depthwise(3, 3), nn.ReLU), 2, nn.ReLU, nn.HSigmoid)
	b.Output(b.Apply("pool", nn.GlobalPool{}, x), 1)
	net, err := b.Build()
	require.NoError(t, err)
	// Steps: 0 input, 1 conv, 2 squeeze, 3 reduce, 4 expand, 5 pool, 6 loss, 7 pool, 8 expand, 9 reduce, 10 squeeze, 11 conv.
	require.Equal(t, []nn.Lifetime{
		{"conv", 48, 1, 11}, {"gradient of conv", 48, 7, 11},
		{"se/pool", 3, 2, 9}, {"gradient of se/pool", 3, 9, 10},
		{"se/reduce", 2, 3, 8}, {"gradient of se/reduce", 2, 8, 9},
		{"se/expand", 3, 4, 7}, {"gradient of se/expand", 3, 7, 8},
		{"pool", 3, 5, 6}, {"gradient of pool", 3, 6, 7},
	}, nn.Fuse(net).Lifetimes(1, 1))
}

// Placements of whole training steps come close to the bound.
func TestPlaceNetworks(t *testing.T) {
	for _, net := range networks(t) {
		checkPlacement(t, nn.Fuse(net).Lifetimes(3, 2), 256)
	}
	for _, name := range zoo.Names() {
		net, err := zoo.Open(name)
		require.NoError(t, err)
		f := nn.Fuse(net)
		p := checkPlacement(t, f.Lifetimes(64, 2), 256)
		require.Less(t, float64(p.Peak), 1.1*float64(p.Live), name)
		t.Logf("%s: %d MB for a batch of 64, at least %d", name, p.Peak>>20, p.Live>>20)
	}
}

// A gradient is written before it is read and every stored tensor is used in the order of the steps.
func TestLifetimesInOrder(t *testing.T) {
	for _, net := range networks(t) {
		f := nn.Fuse(net)
		for _, l := range f.Lifetimes(1, 2) {
			require.LessOrEqual(t, l.First, l.Last, "%s: %s", net.Name, l.Name)
			require.Positive(t, l.First)
			require.Less(t, l.Last, 2*len(f.Stored))
		}
	}
}
