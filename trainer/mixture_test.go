package trainer

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// mixing is a network of two mixtures: one of two rows, read through whatever may stand before a tensor, and one of the
// first of these rows, whose tensors are read by others too.
func mixing(t *testing.T) *nn.Network {
	b, x := nn.NewBuilder("mixing", nn.Shape{H: 6, W: 5, C: 3})
	bare := b.Norm
	bare.NoAffine = true
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 7), nn.ReLU)
	names := []string{"none", "conv", "skip", "nothing", "depthwise", "pool", "linear", "norm", "gate", "again", "more"}
	first := b.Row(nn.Row{Name: "first", Choices: names})
	b.Row(nn.Row{Name: "second", Choices: names})
	choices := func(b *nn.Builder, x nn.Tensor) []nn.Tensor {
		separable := b.Apply("relu", nn.ReLU, x)
		separable = b.Apply("pointwise", nn.Conv2D(1, 7), b.Apply("depthwise", nn.Depthwise(3, 7), separable))
		return []nn.Tensor{
			b.Scope("conv").ConvNorm(x, nn.Conv2D(3, 7), nn.HSwish),
			x,
			b.Apply("bare", bare, separable),
			b.Apply("poolnorm", bare, b.Apply("pool", nn.NewMaxPool(3, 1), x)),
			b.Apply("plain", nn.Conv2D(1, 7).Biased(), x),
			b.Scope("norm").ConvNorm(separable, nn.Conv2D(1, 7), nn.Identity),
			b.SqueezeExcite(x, 3, nn.ReLU, nn.HSigmoid),
			x,
			separable,
		}
	}
	absent := uint32(1<<0 | 1<<3)
	in := choices(b.Scope("a"), x)
	y := b.Apply("mix", nn.Mix{Row: first, Rows: 2, Absent: absent}, append(in, choices(b.Scope("b"), x)...)...)
	both := b.Apply("concat", nn.Concat{}, b.Apply("cut", nn.Slice{To: 3}, y),
		b.Apply("rest", nn.Slice{From: 3, To: 7}, in[0]))
	z := b.Apply("more", nn.Mix{Row: first, Rows: 1, Absent: absent}, choices(b.Scope("c"), both)...)
	v := b.Apply("global", nn.GlobalPool{}, b.Apply("act", nn.ReLU, b.Apply("sum", nn.Add{}, z, y)))
	b.Output(b.Apply("classifier", nn.Linear{Out: 4, Bias: true}, v), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// A network that mixes, and the gradients in its parameters and in α, are those of the float64 reference, on every
// device; steps that are to leave one of them out compute the other as before.
func TestMixtureParity(t *testing.T) {
	net := mixing(t)
	const batch = 3
	shared, path := nn.Alone(net)
	values := net.Initialize(nn.TorchDefault, 3)
	_, images := kerneltest.Random(batch*net.Input().Len(), 4)
	labels := []int{1, 3, 0}
	_, alpha := kerneltest.Random(2*len(net.Mixture[0].Choices), 6)

	r := reference.New(net, values)
	for row := range r.Mixture {
		copy(r.Mixture[row], softened(alpha[row*11:row*11+11], 0.7))
	}
	p := r.Forward(images, batch, reference.Mode{Train: true})
	loss, outputs := p.Loss(nn.Loss{Smoothing: 0.1}, labels, nil)
	g := p.Backward(outputs...)
	var wantAlpha []float64
	for row, w := range r.Mixture {
		mean := 0.0
		for k := range w {
			mean += w[k] * g.Mixture[row][k]
		}
		for k := range w {
			wantAlpha = append(wantAlpha, w[k]*(g.Mixture[row][k]-mean)/0.7)
		}
	}
	whole := 0.0
	for _, g := range g.Values {
		whole += norm2(g) * norm2(g)
	}
	whole = math.Sqrt(whole)

	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		s, err := NewSupernet(d, shared, SupernetOptions{Batch: batch, Image: net.Input(), Classes: 4,
			Rows: net.Mixture})
		require.NoError(t, err)
		defer s.Close()
		s.SetValues(values)
		for _, in := range []inputs{s.inputs, s.Second} {
			in.Images.WriteF32(0, narrow(images))
			in.Labels.WriteI32(0, []int32{1, 3, 0})
		}
		m := s.Mixture
		m.Alpha.WriteF32(0, narrow(alpha))
		m.SetTemperature(0.7)
		m.Soften()
		for row, w := range m.Split(m.Weights) {
			for k := range w {
				require.InDelta(t, r.Mixture[row][k], w[k], 1e-6)
			}
		}
		for name, o := range map[string]PathOptions{"both": {}, "weights": {FixedMixture: true},
			"mixture": {FixedWeights: true}, "second images": {Second: true, FixedWeights: true}} {
			o.Loss = nn.Loss{Smoothing: 0.1}
			s.Images.WriteF32(0, narrow(images))
			model, err := s.Path("mix", o, func() (nn.Path, error) { return path, nil })
			require.NoError(t, err)
			if o.Second { // which alone are right now
				s.Images.WriteF32(0, make([]float32, s.Images.Len()))
			}
			s.ZeroGradient()
			m.ZeroGradient()
			model.Step(0, 0)
			m.FinishGradient(model.TotalLoss())
			require.InDelta(t, loss, model.TotalLoss(), 1e-5, name)
			for i, want := range g.Values {
				if want == nil {
					continue
				}
				if o.FixedWeights {
					want = make([]float64, len(want))
				}
				got := s.Gradients()[i]
				wide := make([]float64, len(got))
				for k := range got {
					wide[k] = float64(got[k])
				}
				require.LessOrEqual(t, distance(want, wide), 1e-4*whole, "%s: %s", name, s.Variables[i].Name)
			}
			for k, got := range m.AlphaGrad.Values() {
				want := wantAlpha[k]
				if o.FixedMixture {
					want = 0
				}
				require.InDelta(t, want, got, 2e-5, "%s: α %d", name, k)
			}
		}
		e, err := s.Path("mix", PathOptions{EvalOnly: true}, func() (nn.Path, error) { return path, nil })
		require.NoError(t, err)
		s.Images.WriteF32(0, narrow(images))
		e.BeginRecalibration()
		e.Recalibrate()
		e.Evaluate()
		require.False(t, math.IsNaN(e.TotalLoss()))
	})
}

// softened is the softmax of x by a temperature.
func softened(x []float64, temperature float64) []float64 {
	out, sum := make([]float64, len(x)), 0.0
	for k, v := range x {
		out[k] = math.Exp(v / temperature)
		sum += out[k]
	}
	for k := range out {
		out[k] /= sum
	}
	return out
}

// A network that mixes is no network by itself, and mixes by the rows of its supernet alone.
func TestMixtureErrors(t *testing.T) {
	d, err := exec.Open(exec.Config{Threads: 1})
	require.NoError(t, err)
	defer d.Close()
	net := mixing(t)
	_, err = NewModel(d, net, Options{Batch: 2})
	require.ErrorContains(t, err, "a network that mixes is trained as a supernet")
	shared, path := nn.Alone(net)
	s, err := NewSupernet(d, shared, SupernetOptions{Batch: 2, Image: net.Input(), Classes: 4, Rows: net.Mixture[:1]})
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Path("mix", PathOptions{}, func() (nn.Path, error) { return path, nil })
	require.ErrorContains(t, err, "a mixture by 2 rows, which are not the 1 of the supernet")
}

// α begin around the rows' starts, otherwise around 0, and by the seed.
func TestMixtureBegins(t *testing.T) {
	a := openTest(t).NewArena()
	defer a.Free()
	rows := []nn.Row{{Choices: []string{"a", "b"}, Cost: []float64{1, 2}, Start: []float64{0, 10}},
		{Choices: []string{"c"}, Cost: []float64{0}}}
	m := newMixture(a, rows, 1, MixtureOptions{})
	m.Initialize(0, 1)
	require.Equal(t, []float32{0, 10, 0}, m.Alpha.Values())
	m.Initialize(1e-3, 1)
	first := m.Alpha.Values()
	for i, start := range []float64{0, 10, 0} {
		require.InDelta(t, start, first[i], 5e-3)
	}
	require.NotEqual(t, []float32{0, 10, 0}, first)
	m.Initialize(1e-3, 2)
	require.NotEqual(t, first, m.Alpha.Values())
	m.Initialize(1e-3, 1)
	require.Equal(t, first, m.Alpha.Values())
}
