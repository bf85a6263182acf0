package trainer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

func openTest(t testing.TB) *exec.Device {
	d, err := exec.Open(exec.Config{Threads: 2})
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

// Two steps of one batch each, accumulated, leave the mean of their gradients; the running statistics move twice.
func TestAccumulate(t *testing.T) {
	d := openTest(t)
	net := cellNetwork(t, testCell, 16, 8)
	a, b := newCase(net, 4, 40), newCase(net, 4, 46)
	b.values = a.values
	var want [][]float32
	for _, c := range []*testCase{a, b} {
		m := c.model(t, d, 1)
		m.Step(0, 0)
		for i, g := range m.Gradients() {
			if len(want) <= i {
				want = append(want, make([]float32, len(g)))
			}
			for k, v := range g {
				want[i][k] += v / 2
			}
		}
		m.Close()
	}
	m := a.model(t, d, 2)
	defer m.Close()
	for range 2 { // the second time the first part overwrites
		a.fill(m)
		m.Step(0, 0)
		b.fill(m)
		m.Step(1, 1)
	}
	for i, g := range m.Gradients() {
		for k, v := range g {
			require.InDelta(t, want[i][k], v, 1e-5*math.Max(1, math.Abs(float64(want[i][k]))), net.Variables()[i].Name)
		}
	}
}

const testCell = "nasbench101:4:110011:12"

// After a recalibration over two batches the running statistics are the means of theirs, in the first layers, which see
// the same in both passes.
func TestRecalibrate(t *testing.T) {
	d := openTest(t)
	net := cellNetwork(t, testCell, 16, 8)
	a, b := newCase(net, 4, 50), newCase(net, 4, 52)
	b.values = a.values
	m := a.model(t, d, 1)
	defer m.Close()
	for range 2 { // a second one forgets the first
		m.BeginRecalibration()
		for _, c := range []*testCase{a, b} {
			c.fill(m)
			m.Recalibrate()
		}
	}
	var want [][]float64
	variables := net.Variables()
	for _, c := range []*testCase{a, b} {
		r := reference.New(net, c.values)
		old := reference.New(net, c.values)
		r.Forward(c.images, c.batch, reference.Mode{Train: true}).UpdateStatistics()
		for i, v := range variables {
			if len(want) <= i {
				want = append(want, make([]float64, v.Len()))
			}
			if v.Role.Trainable() {
				continue
			}
			momentum := net.Nodes[v.Node].Op.(nn.BatchNorm).Momentum
			for k := range want[i] {
				want[i][k] += (r.Values[i][k] - (1-momentum)*old.Values[i][k]) / momentum / 2
			}
		}
	}
	values := m.Values()
	for i, v := range variables {
		if !v.Role.Trainable() {
			for k, w := range want[i] {
				require.InDelta(t, w, values[i][k], 1e-4*math.Max(1, math.Abs(w)), v.Name)
			}
		}
	}
}

func TestModelErrors(t *testing.T) {
	d := openTest(t)
	build := func(apply func(b *nn.Builder, x nn.Tensor) nn.Tensor) *nn.Network {
		b, x := nn.NewBuilder("net", nn.Shape{H: 4, W: 4, C: 4})
		b.Output(b.Apply("pool", nn.GlobalPool{}, apply(b, x)), 1)
		net, err := b.Build()
		require.NoError(t, err)
		return net
	}
	for want, net := range map[string]*nn.Network{
		"net: node p: there is no kernel for a 2x2 max-pooling with stride 1x2": build(func(b *nn.Builder,
			x nn.Tensor) nn.Tensor {
			return b.Apply("p", nn.MaxPool{Kernel: nn.Square(2), Stride: nn.Size{H: 1, W: 2}}, x)
		}),
		"net: node c: there is no kernel for a 9x9 convolution with more than 64 taps": build(func(b *nn.Builder,
			x nn.Tensor) nn.Tensor {
			return b.Apply("c", nn.Conv2D(9, 2), x)
		}),
	} {
		_, err := NewModel(d, net, Options{Batch: 2})
		require.EqualError(t, err, want)
	}
	net := build(func(_ *nn.Builder, x nn.Tensor) nn.Tensor { return x })
	_, err := NewModel(d, net, Options{Batch: 0})
	require.ErrorContains(t, err, "batches of 0 images")
	_, err = NewModel(d, net, Options{Batch: 1, Loss: nn.Loss{Smoothing: 2}})
	require.ErrorContains(t, err, "label smoothing 2")
}
