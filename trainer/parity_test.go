package trainer

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// testCase is a network with a batch of images, and values that are not those of a start: batch norms differ from 1 and
// 0.
type testCase struct {
	net     *nn.Network
	batch   int
	values  [][]float32
	images  []float64
	labels  []int
	teacher []float64
	loss    nn.Loss
	// With partners images are mixed, weight of the label's class; rate multiplies the probabilities of drop paths.
	partners []int
	weight   float32
	rate     float64
}

func newCase(net *nn.Network, batch int, stream uint32) *testCase {
	s := philox.New(21, philox.PurposeTest, stream)
	c := &testCase{net: net, batch: batch, values: net.Initialize(nn.HeFanOut, 3), loss: nn.Loss{Smoothing: 0.1},
		weight: 1, rate: 1}
	for i, v := range net.Variables() {
		for k := range c.values[i] {
			switch v.Role {
			case nn.Scale, nn.Variance:
				c.values[i][k] = float32(0.5 + s.Float64())
			case nn.Shift, nn.Mean, nn.Bias:
				c.values[i][k] = float32(0.3 * s.NormFloat64())
			}
		}
	}
	for range batch * net.Input().Len() {
		c.images = append(c.images, float64(float32(s.NormFloat64())))
	}
	// Running statistics as they come out of training, so that an evaluation stays within bounds.
	m := reference.New(net, c.values)
	m.Forward(c.images, batch, trainMode).UpdateStatistics()
	for i, v := range net.Variables() {
		if op, ok := net.Nodes[v.Node].Op.(nn.BatchNorm); ok && !v.Role.Trainable() && !op.Frozen {
			for k, after := range m.Values[i] {
				batch := (after - (1-op.Momentum)*float64(c.values[i][k])) / op.Momentum
				if v.Role == nn.Variance {
					batch *= 1 + s.Float64()
				}
				c.values[i][k] = float32(batch)
			}
		}
	}
	classes := net.Nodes[net.Outputs[0].Node].Shape.C
	for range batch {
		c.labels = append(c.labels, s.Intn(classes))
	}
	if stream%2 == 1 {
		c.loss.Distill, c.loss.Temperature, c.loss.TeacherAlone = 0.5, 2, stream%4 == 3
		for range batch * classes {
			c.teacher = append(c.teacher, float64(float32(s.NormFloat64())))
		}
	}
	if stream%3 != 1 {
		c.weight, c.rate = 0.75, 0.5
		for range batch {
			c.partners = append(c.partners, s.Intn(classes))
		}
	}
	return c
}

// cell is a NAS-Bench-101 cell in words.
func cellNetwork(t testing.TB, text string, channels, side int) *nn.Network {
	arch, err := space.NASBench101{}.Parse(text)
	require.NoError(t, err)
	net, err := zoo.CellNetwork{Cell: arch.(space.Cell), Image: nn.Shape{H: side, W: side, C: 3}, Channels: channels,
		Stacks: 2, Modules: 2, Classes: 5}.Build()
	require.NoError(t, err)
	return net
}

func testCases(t testing.TB) []*testCase {
	var nets []*nn.Network
	s := philox.New(8, philox.PurposeTest, 4)
	for k := range 6 {
		cell := space.NASBench101{}.Sample(s).(space.Cell)
		nets = append(nets, cellNetwork(t, cell.String(), 12+5*k, 8))
	}
	for _, build := range []func() (*nn.Network, error){
		func() (*nn.Network, error) { return mobileNetV3(32, 10) },
		func() (*nn.Network, error) { return zoo.MobileNetV2(0.25, 48, 7) },
		func() (*nn.Network, error) { return awkward(nn.Shape{H: 6, W: 7, C: 3}) },
		func() (*nn.Network, error) { return strided(nn.Shape{H: 9, W: 8, C: 3}) },
		func() (*nn.Network, error) { return crowded(nn.Shape{H: 5, W: 5, C: 3}) },
		func() (*nn.Network, error) { return activated(nn.Shape{H: 4, W: 5, C: 3}) },
	} {
		net, err := build()
		require.NoError(t, err)
		nets = append(nets, net)
	}
	if testing.Short() {
		nets = append(nets[:2], nets[len(nets)-4:]...) // the MobileNets' reference takes seconds
	}
	var cases []*testCase
	for k, net := range nets {
		cases = append(cases, newCase(net, 4, uint32(k)))
	}
	return cases
}

// mobileNetV3 is narrow but for testdata.All: a network of four million parameters takes the reference seconds.
func mobileNetV3(side, classes int) (*nn.Network, error) {
	if testdata.All() {
		return zoo.MobileNetV3Large(side, classes)
	}
	o := zoo.OnceForAll{Width: 0.35}
	for u := range o.Depths {
		o.Depths[u] = 2
	}
	for k := range o.Kernels {
		o.Kernels[k], o.Ratios[k] = 3+2*(k%3), 2+k%3
	}
	return o.Build(side, classes)
}

// awkward is full of orders that do not fuse.
func awkward(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("awkward", image)
	x = b.Scope("a").ConvNorm(b.Apply("norm of images", b.Norm, x), nn.Conv2D(3, 4).Biased(), nn.Identity)
	y := b.Apply("norm after norm", b.Norm, x)
	z := b.Apply("relu", nn.ReLU, x)
	z = b.Apply("swish after relu", nn.Swish, z)
	z = b.Apply("norm after swish", b.Norm, z)
	x = b.Apply("sum", nn.Add{}, x, y, b.Apply("same", nn.Identity, z), x)
	x = b.Scope("gate").SqueezeExcite(x, 2, nn.ReLU, nn.HSigmoid)
	x = b.Scope("gate after gate").SqueezeExcite(x, 2, nn.Swish, nn.HSigmoid)
	x = b.Apply("relu after gate", nn.ReLU, x)
	b.Apply("unused", nn.Conv2D(1, 3), x)
	aux := b.Apply("aux", nn.HSwish, b.Apply("auxpool", nn.GlobalPool{}, x))
	x = b.Apply("dropout", nn.Dropout{P: 0.4}, b.Apply("path", nn.DropPath{P: 0.2}, x))
	frozen := b.Norm
	frozen.Frozen = true
	w := b.Apply("frozen", frozen, b.Apply("groups", nn.Conv2D(3, 6).Grouped(2).Dilated(2).Biased(), x))
	x = b.Apply("act", nn.ReLU6, b.Apply("norm of pool", b.Norm, b.Apply("avg", nn.NewAvgPool(3, 2), x)))
	v := b.Apply("max", nn.NewMaxPool(2, 2), w)
	first, second := b.Apply("first", nn.Slice{To: 2}, x), b.Apply("second", nn.Slice{From: 1, To: 4}, x)
	x = b.Apply("concat", nn.Concat{}, first, second, b.Apply("zero", nn.Zero{Stride: 2}, y), v, first)
	x = b.Apply("norm of shuffle", b.Norm, b.Apply("shuffle", nn.Shuffle{Groups: 17}, x))
	// Two depthwise convolutions of one tensor, one of them through an activation.
	u := b.Apply("u", nn.HSwish, x)
	x = b.Apply("both", nn.Add{}, b.Apply("left", nn.Depthwise(3, 17), x), b.Apply("right", nn.Depthwise(5, 17), u))
	x = b.Apply("pool", nn.GlobalPool{}, x)
	b.Output(b.Apply("logits", b.Norm, b.Apply("linear", nn.Linear{Out: 4, Bias: true}, x)), 1)
	b.Output(aux, 0.4)
	return b.Build()
}

// strided has windows that lie unusually, and groups and slices behind gates.
func strided(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("strided", image)
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 6), nn.Sigmoid)
	x = b.Scope("gate").SqueezeExcite(x, 3, nn.ReLU, nn.Sigmoid)
	x = b.Scope("groups").ConvNorm(x, nn.Conv2D(3, 9).Grouped(3), nn.Identity)
	x = b.Scope("gate of slices").SqueezeExcite(x, 2, nn.Sigmoid, nn.HSigmoid)
	x = b.Apply("both", nn.Concat{}, b.Apply("left", nn.Slice{To: 5}, x), b.Apply("right", nn.Slice{From: 3, To: 9}, x))
	wide := nn.ConvRect(nn.Size{H: 1, W: 7}, 8)
	wide.Stride = nn.Size{H: 1, W: 2}
	high := nn.ConvRect(nn.Size{H: 7, W: 1}, 10)
	high.Stride = nn.Size{H: 2, W: 1}
	y := b.Scope("high").ConvNorm(b.Apply("wide", wide, b.Apply("act", nn.ReLU, x)), high, nn.Identity)
	x = b.Apply("sum", nn.Add{}, y, b.Scope("reduce").FactorizedReduce(x, 10))
	shifted := nn.Depthwise(3, 10).Padded(nn.Pad{Top: -1, Bottom: 2, Left: 1, Right: 1})
	x = b.Apply("sigmoid", nn.Sigmoid, b.Apply("shifted", shifted, x))
	uneven := nn.Depthwise(3, 10)
	uneven.Stride = nn.Size{H: 1, W: 2}
	x = b.Scope("uneven").ConvNorm(x, uneven, nn.ReLU)
	b.Output(b.Apply("linear", nn.Linear{Out: 4, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	return b.Build()
}

// activated has every activation, behind a norm and behind none.
func activated(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("activated", image)
	for a := nn.Identity; a < nn.Activations; a++ {
		b := b.Scope("act%d", int(a))
		x = b.Apply("plain", a, b.Apply("second", nn.Conv2D(1, 5), b.ConvNorm(x, nn.Conv2D(1, 4), a)))
	}
	b.Output(b.Apply("linear", nn.Linear{Out: 4, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	return b.Build()
}

// crowded adds up many tensors, and concatenates tensors that others read too, of every operation that can write in the
// middle of one.
func crowded(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("crowded", image)
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(1, 5), nn.ReLU)
	var many []nn.Tensor
	for k := range 11 {
		b := b.Scope("term%d", k)
		switch t := b.Apply("conv", nn.Conv2D(1, 5), x); k % 3 {
		case 0:
			many = append(many, b.Apply("norm", b.Norm, t))
		case 1:
			many = append(many, b.Apply("act", nn.HSwish, t))
		default:
			many = append(many, t)
		}
	}
	for range 9 { // of one tensor: many gradients
		many = append(many, b.Apply(fmt.Sprintf("again%d", len(many)), nn.BatchNorm{Eps: 1e-3, Momentum: 0.1}, x))
	}
	x = b.Apply("many", nn.Add{}, many...)
	conv := b.Apply("conv", nn.Conv2D(3, 7).Biased(), x)
	depthwise := b.Apply("depthwise", nn.Depthwise(3, 5), x)
	sum := b.Apply("sum", nn.Add{}, depthwise, x)
	path := b.Apply("path", nn.DropPath{P: 0.6}, sum)
	groups := b.Apply("groups", nn.Conv2D(1, 6).Grouped(2),
		b.Apply("relu", nn.ReLU, b.Apply("narrow", nn.Conv2D(1, 4), conv)))
	pool := b.Apply("pool", nn.NewMaxPool(3, 1), sum)
	whole := b.Apply("whole", nn.Concat{}, conv, depthwise, conv, sum, path, groups, pool,
		b.Apply("normal", nn.BatchNorm{Eps: 1e-3, Momentum: 0.1, NoAffine: true}, groups))
	again := b.Apply("other", nn.Concat{}, groups, depthwise, x)
	narrow := b.Apply("narrow again", nn.Conv2D(1, 3), x) // its only gradient comes through a norm
	nothing := b.Apply("nothing", nn.Zero{Stride: 1}, b.Apply("dead", nn.Concat{}, narrow, x))
	narrow = b.Apply("relu of narrow", nn.ReLU, b.Apply("norm of narrow", b.Norm, narrow))
	one, two := b.Apply("one", nn.Conv2D(1, 6), whole), b.Apply("two", nn.Conv2D(3, 3),
		b.Apply("swish", nn.Swish, again))
	x = b.Apply("both", nn.Concat{}, nothing, narrow, one, two,
		b.Apply("three", nn.BatchNorm{Eps: 1e-3, Momentum: 0.1}, depthwise))
	x = b.Apply("act", nn.ReLU, b.Apply("bn", b.Norm, x))
	b.Output(b.Apply("linear", nn.Linear{Out: 4, Bias: true}, b.Apply("mean", nn.GlobalPool{}, x)), 1)
	b.Output(b.Apply("aux", nn.Linear{Out: 4}, b.Apply("auxpool", nn.GlobalPool{}, b.Apply("auxnorm", b.Norm, whole))),
		0.4)
	return b.Build()
}

// outcome is what a training step and an evaluation give.
type outcome struct {
	loss     float64
	logits   []float64
	grads    [][]float64
	running  [][]float64
	evalLoss float64
}

var trainMode = reference.Mode{Train: true, Seed: 5, Step: 9}

func (c *testCase) reference(perturb float64, stream uint32) outcome {
	s := philox.New(5, philox.PurposeTest, stream)
	m := reference.New(c.net, c.values)
	near := func(x []float64) []float64 {
		out := make([]float64, len(x))
		for i, v := range x {
			out[i] = v
			if perturb > 0 {
				out[i] *= 1 + perturb*s.NormFloat64()
			}
		}
		return out
	}
	for i := range m.Values {
		m.Values[i] = near(m.Values[i])
	}
	images := near(c.images)
	var o outcome
	e := m.Forward(images, c.batch, reference.Mode{})
	o.evalLoss = c.hard(e)
	mode := trainMode
	mode.PathsOff = 1 - c.rate
	p := m.Forward(images, c.batch, mode)
	partners := c.partners
	if partners == nil {
		partners = c.labels
	}
	loss, outputs := p.MixedLoss(c.loss, c.labels, partners, float64(c.weight), c.teacher)
	o.loss = loss - c.loss.Distill*c.loss.Temperature*c.loss.Temperature*c.entropy()
	o.logits = p.Logits(0)
	o.grads = p.Backward(outputs...).Values
	p.UpdateStatistics()
	for i, v := range c.net.Variables() {
		if !v.Role.Trainable() {
			o.running = append(o.running, m.Values[i])
		}
	}
	return o
}

// hard is the loss of an evaluation: the outputs' plain cross-entropies.
func (c *testCase) hard(p *reference.Pass) float64 {
	total := 0.0
	for _, out := range c.net.Outputs {
		net := *c.net
		net.Outputs = []nn.Output{{Node: out.Node, Weight: 1}}
		one := *p
		one.Model = &reference.Model{Net: &net}
		l, _ := one.Loss(nn.Loss{}, c.labels, nil)
		total += l
	}
	return total
}

// entropy is the mean entropy of the teacher's softened probabilities, which the kernels' loss lacks.
func (c *testCase) entropy() float64 {
	if c.teacher == nil {
		return 0
	}
	n := len(c.teacher) / c.batch
	total := 0.0
	for e := range c.batch {
		sum, dot := 0.0, 0.0
		for _, z := range c.teacher[e*n : (e+1)*n] {
			z /= c.loss.Temperature
			sum += math.Exp(z)
			dot += z * math.Exp(z)
		}
		total += math.Log(sum) - dot/sum
	}
	return total / float64(c.batch)
}

// model puts the case on a device.
func (c *testCase) model(t testing.TB, d *exec.Device, accumulate int) *Model {
	m, err := NewModel(d, c.net, Options{Batch: c.batch, Loss: c.loss, Seed: trainMode.Seed, Accumulate: accumulate,
		Mixup: c.partners != nil})
	require.NoError(t, err)
	m.SetValues(c.values)
	c.fill(m)
	return m
}

func (c *testCase) fill(m *Model) {
	m.Images.WriteF32(0, narrow(c.images))
	integers := func(values []int) []int32 {
		out := make([]int32, len(values))
		for i, v := range values {
			out[i] = int32(v)
		}
		return out
	}
	m.Labels.WriteI32(0, integers(c.labels))
	m.SetPathRate(c.rate)
	if m.Partners != nil {
		m.Partners.WriteI32(0, integers(c.partners))
		m.Mix.WriteF32(0, []float32{c.weight})
	}
	if m.Teacher != nil {
		m.Teacher.WriteF32(0, narrow(c.teacher))
	}
}

func narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// run is an evaluation and a training step on a device.
func (c *testCase) run(t testing.TB, d *exec.Device) (o outcome, bits [][]float32) {
	m := c.model(t, d, 1)
	defer m.Close()
	m.Evaluate()
	o.evalLoss = m.TotalLoss()
	m.Step(trainMode.Step, 0)
	o.loss = m.TotalLoss()
	wide := func(x []float32) []float64 {
		var out []float64
		for _, v := range x {
			out = append(out, float64(v))
		}
		return out
	}
	for _, g := range m.Gradients() {
		o.grads = append(o.grads, wide(g))
	}
	values := m.Values()
	for i, v := range c.net.Variables() {
		if !v.Role.Trainable() {
			o.running = append(o.running, wide(values[i]))
		}
	}
	return o, append(append(m.Gradients(), values...), m.Loss.Values())
}

// rounding is what a network's results may differ by. The kernels compute, up to a relative error of some units in the
// last place (2^-24) for each operation, what exact arithmetic makes of slightly other numbers. So the reference runs
// on parameters and images that differ by that much, three times, and twice the largest distance from the exact result
// bounds the kernels' distance.
const (
	ulp    = 0x1p-24
	ulp16  = 0x1p-9 // of bfloat16
	safety = 2
)

type bound struct {
	unit           float64
	loss, evalLoss float64
	grads, running []float64
}

func distance(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(sum)
}

func norm2(a []float64) float64 { return distance(a, make([]float64, len(a))) }

// bounds are for kernels whose relative error is about unit, such as ulp.
func (c *testCase) bounds(exact outcome, unit float64) (b bound) {
	b.unit = unit
	b.grads, b.running = make([]float64, len(exact.grads)), make([]float64, len(exact.running))
	for k := range 3 {
		o := c.reference(8*unit, uint32(100+k))
		b.loss = math.Max(b.loss, math.Abs(o.loss-exact.loss))
		b.evalLoss = math.Max(b.evalLoss, math.Abs(o.evalLoss-exact.evalLoss))
		for i := range b.grads {
			b.grads[i] = math.Max(b.grads[i], distance(o.grads[i], exact.grads[i]))
		}
		for i := range b.running {
			b.running[i] = math.Max(b.running[i], distance(o.running[i], exact.running[i]))
		}
	}
	return b
}

// check requires what a device computed to be within bounds of what is exact.
func (c *testCase) check(t *testing.T, exact outcome, b bound, got outcome, device string) {
	t.Helper()
	whole := 0.0
	for _, g := range exact.grads {
		whole += norm2(g) * norm2(g)
	}
	whole = math.Sqrt(whole)
	require.InDelta(t, exact.loss, got.loss, safety*b.loss+8*b.unit*math.Abs(exact.loss), device)
	require.InDelta(t, exact.evalLoss, got.evalLoss, safety*b.evalLoss+8*b.unit*exact.evalLoss, device)
	variables := c.net.Variables()
	for i, g := range exact.grads {
		if g == nil {
			require.Nil(t, got.grads[i])
			continue
		}
		// A gradient that is zero but for rounding, such as that of a bias before a batch norm, is as exact as what it
		// was summed from.
		tol := safety*b.grads[i] + 8*b.unit*whole
		require.LessOrEqual(t, distance(g, got.grads[i]), tol, "%s: gradient of %s, of norm %g", device,
			variables[i].Name, norm2(g))
	}
	for i, v := range exact.running {
		require.LessOrEqual(t, distance(v, got.running[i]), safety*b.running[i]+8*b.unit*norm2(v),
			"%s: running statistic %d", device, i)
	}
}

func TestParity(t *testing.T) {
	for k, c := range testCases(t) {
		t.Run(fmt.Sprintf("%d %s", k, c.net.Name), func(t *testing.T) {
			exact := c.reference(0, 0)
			b := c.bounds(exact, ulp)
			for _, level := range exec.Levels() {
				var one [][]float32
				for _, threads := range []int{1, 3} {
					d, err := exec.Open(exec.Config{Level: level, Threads: threads})
					require.NoError(t, err)
					got, bits := c.run(t, d)
					d.Close()
					if one == nil {
						one = bits
					}
					require.Equal(t, one, bits, "%s: one thread and three", level)
					c.check(t, exact, b, got, level)
				}
			}
		})
	}
}
