package nn_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/nn"
)

// small has every kind of variable.
func small(t *testing.T) *nn.Network {
	b, x := nn.NewBuilder("small", nn.Shape{H: 8, W: 8, C: 64})
	x = b.Scope("block").Scope("deep").ConvNorm(x, nn.ConvRect(nn.Size{H: 3, W: 2}, 96).Grouped(2), nn.ReLU)
	x = b.Apply("bias", nn.Conv2D(1, 32).Biased(), x)
	x = b.Apply("bare", nn.BatchNorm{NoAffine: true}, b.Apply("pool", nn.GlobalPool{}, x))
	b.Output(b.Apply("classifier", nn.Linear{Out: 300, Bias: true}, x), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

func TestVariables(t *testing.T) {
	net := small(t)
	type row struct {
		name         string
		role         nn.Role
		shape, torch []int
	}
	var got []row
	for _, v := range net.Variables() {
		require.Equal(t, v.Role != nn.Mean && v.Role != nn.Variance, v.Role.Trainable())
		got = append(got, row{v.Name, v.Role, v.Shape, v.TorchShape()})
	}
	require.Equal(t, []row{
		{"block.deep.conv.weight", nn.Weight, []int{3, 2, 32, 96}, []int{96, 32, 3, 2}},
		{"block.deep.bn.weight", nn.Scale, []int{96}, []int{96}},
		{"block.deep.bn.bias", nn.Shift, []int{96}, []int{96}},
		{"block.deep.bn.running_mean", nn.Mean, []int{96}, []int{96}},
		{"block.deep.bn.running_var", nn.Variance, []int{96}, []int{96}},
		{"bias.weight", nn.Weight, []int{1, 1, 96, 32}, []int{32, 96, 1, 1}},
		{"bias.bias", nn.Bias, []int{32}, []int{32}},
		{"bare.running_mean", nn.Mean, []int{32}, []int{32}},
		{"bare.running_var", nn.Variance, []int{32}, []int{32}},
		{"classifier.weight", nn.Weight, []int{32, 300}, []int{300, 32}},
		{"classifier.bias", nn.Bias, []int{300}, []int{300}},
	}, got)
}

func TestTorchOrder(t *testing.T) {
	v := nn.Variable{Shape: []int{2, 3, 4, 5}}
	memory := make([]int, v.Len())
	for i := range memory {
		memory[i] = i
	}
	torch := nn.ToTorch(v, memory)
	for o := range 5 {
		for i := range 4 {
			for a := range 2 {
				for b := range 3 {
					require.Equal(t, ((a*3+b)*4+i)*5+o, torch[((o*4+i)*2+a)*3+b])
				}
			}
		}
	}
	require.Equal(t, memory, nn.FromTorch(v, torch))
	linear := nn.Variable{Shape: []int{2, 3}}
	require.Equal(t, []int{0, 3, 1, 4, 2, 5}, nn.ToTorch(linear, memory[:6]))
	require.Equal(t, memory[:6], nn.FromTorch(linear, []int{0, 3, 1, 4, 2, 5}))
	vector := nn.Variable{Shape: []int{4}}
	require.Equal(t, memory[:4], nn.ToTorch(vector, memory[:4]))
}

// Every initializer has the documented standard deviation and bounds, and the same numbers for the same seed.
func TestInitialize(t *testing.T) {
	net := small(t)
	for name, c := range map[string]struct {
		init                                nn.Initializer
		conv, linear, bias                  float64 // standard deviations
		convBound, linearBound, biasedBound float64
	}{
		"he": {nn.HeFanOut, math.Sqrt(2. / (6 * 96 / 2)), 1 / math.Sqrt(3*300), 0, math.Inf(1), 1 / math.Sqrt(300), 0},
		"torch": {nn.TorchDefault, 1 / math.Sqrt(3*6*32), 1 / math.Sqrt(3*32), 1 / math.Sqrt(3*32),
			1 / math.Sqrt(6*32), 1 / math.Sqrt(32), 1 / math.Sqrt(32)},
		"nasbench": {nn.NASBench, 1 / math.Sqrt(6*32), math.Sqrt(2. / 332), 0, 2 / 0.8796 / math.Sqrt(6*32),
			math.Sqrt(6. / 332), 0},
	} {
		t.Run(name, func(t *testing.T) {
			values := net.Initialize(c.init, 9)
			require.Equal(t, values, net.Initialize(c.init, 9))
			require.NotEqual(t, values, net.Initialize(c.init, 10))
			check := func(i int, deviation, bound float64) {
				var square, sum, largest float64
				for _, x := range values[i] {
					v := float64(x)
					square, sum, largest = square+v*v, sum+v, math.Max(largest, math.Abs(v))
				}
				n := float64(len(values[i]))
				require.InDelta(t, deviation, math.Sqrt(square/n), 4*deviation/math.Sqrt(n))
				require.InDelta(t, 0, sum/n, 4*deviation/math.Sqrt(n))
				require.LessOrEqual(t, largest, bound*(1+1e-6))
			}
			check(0, c.conv, c.convBound)
			check(9, c.linear, c.linearBound)
			check(10, c.bias, c.biasedBound)
			for i, want := range []float32{1, 0, 0, 1} {
				for _, v := range values[1+i] {
					require.Equal(t, want, v)
				}
			}
		})
	}
}

func TestActivationSlopes(t *testing.T) {
	for a := nn.Identity; a < nn.Activations; a++ {
		for x := -7.05; x < 8; x += 0.1 {
			const h = 1e-6
			require.InDelta(t, (a.Apply(x+h)-a.Apply(x-h))/(2*h), a.Slope(x), 1e-8, "%v at %v", a, x)
		}
	}
	for _, corner := range []struct {
		a       nn.Activation
		x, want float64
	}{{nn.ReLU, 0, 0}, {nn.ReLU6, 0, 0}, {nn.ReLU6, 6, 0}, {nn.HSigmoid, -3, 0}, {nn.HSigmoid, 3, 0},
		{nn.HSwish, -3, 0}, {nn.HSwish, 3, 1.5}} {
		require.Equal(t, corner.want, corner.a.Slope(corner.x), corner)
	}
}
