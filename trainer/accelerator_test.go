package trainer

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/cuda"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/sim"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// inverted is a small network of inverted bottlenecks as MobileNetV3's: depthwise convolutions of both strides,
// squeeze-and-excitation, a residual.
func inverted(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("inverted", image)
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 8).Strided(2), nn.HSwish)
	block := func(name string, x nn.Tensor, kernel, stride, expand, out int, act nn.Activation,
		squeeze bool) nn.Tensor {
		s := b.Scope("%s", name)
		y := s.Scope("expand").ConvNorm(x, nn.Conv2D(1, expand), act)
		y = s.Scope("depthwise").ConvNorm(y, nn.Depthwise(kernel, expand).Strided(stride), act)
		if squeeze {
			y = s.Scope("squeeze").SqueezeExcite(y, 8, nn.ReLU, nn.HSigmoid)
		}
		return s.Scope("project").ConvNorm(y, nn.Conv2D(1, out), nn.Identity)
	}
	x = b.Apply("residual", nn.Add{}, x, block("first", x, 3, 1, 24, 8, nn.ReLU, false))
	x = block("second", x, 5, 2, 20, 12, nn.HSwish, true)
	x = b.Scope("last").ConvNorm(x, nn.Conv2D(1, 32), nn.HSwish)
	x = b.Apply("hidden", nn.HSwish, b.Apply("linear", nn.Linear{Out: 16, Bias: true},
		b.Apply("pool", nn.GlobalPool{}, x)))
	b.Output(b.Apply("classifier", nn.Linear{Out: 5, Bias: true}, b.Apply("dropout", nn.Dropout{P: 0.2}, x)), 1)
	return b.Build()
}

// wide has convolutions that read tensors stored for them, as tensor cores want them (conv.PlainInput): one tensor by
// two of them and by a narrow one, one behind a gate, one with a stride. Its gradients come through a norm and as they
// are.
func wide(image nn.Shape) (*nn.Network, error) {
	b, x := nn.NewBuilder("wide", image)
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 64), nn.ReLU)
	one := b.Scope("one").ConvNorm(x, nn.Conv2D(3, 64), nn.HSwish)
	two := b.Scope("two").ConvNorm(x, nn.Conv2D(3, 64).Biased(), nn.Identity)
	x = b.Apply("narrow", nn.Conv2D(1, 64), x)
	x = b.Scope("gate").SqueezeExcite(b.Apply("sum", nn.Add{}, one, two, x), 4, nn.ReLU, nn.HSigmoid)
	x = b.Scope("gated").ConvNorm(x, nn.Conv2D(3, 72), nn.ReLU)
	x = b.Apply("strided", nn.Conv2D(3, 256).Strided(2), x)
	x = b.Apply("pointwise", nn.Conv2D(1, 8), b.Apply("act", nn.ReLU6, b.Apply("norm", b.Norm, x)))
	b.Output(b.Apply("linear", nn.Linear{Out: 4, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	return b.Build()
}

// acceleratorCases are small: a simulator runs them.
func acceleratorCases(t testing.TB) []*testCase {
	small, err := inverted(nn.Shape{H: 14, W: 14, C: 3})
	require.NoError(t, err)
	odd, err := awkward(nn.Shape{H: 6, W: 7, C: 3})
	require.NoError(t, err)
	large, err := wide(nn.Shape{H: 4, W: 3, C: 3})
	require.NoError(t, err)
	var cases []*testCase
	for k, net := range []*nn.Network{cellNetwork(t, "nasbench101:5:1110010101:102", 8, 8), small, odd, large} {
		cases = append(cases, newCase(net, 4, uint32(80+k)))
	}
	return cases
}

func openOn(t testing.TB, device string, p exec.Precision) *exec.Device {
	d, err := exec.Open(exec.Config{Device: device, Precision: p})
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

// Loss, every gradient and every running statistic, in float32 as exact as the CPU's, and with tensors stored as
// bfloat16.
func TestParityOnAccelerators(t *testing.T) {
	for _, device := range kerneltest.Accelerators() {
		for _, c := range acceleratorCases(t) {
			exact := c.reference(0, 0)
			for precision, unit := range map[exec.Precision]float64{exec.FP32: ulp, exec.BF16: ulp16} {
				if c.net.Name == "wide" && precision == exec.FP32 {
					continue // what it is about is for tensor cores
				}
				t.Run(device+"/"+string(precision)+"/"+c.net.Name, func(t *testing.T) {
					d := openOn(t, device, precision)
					got, _ := c.run(t, d)
					c.check(t, exact, c.bounds(exact, unit), got, device)
				})
			}
		}
	}
}

// The same of the kernels of compute capability 9.0.
func TestParityOnHopper(t *testing.T) {
	net, err := wide(nn.Shape{H: 4, W: 3, C: 3})
	require.NoError(t, err)
	c := newCase(net, 4, 87)
	exact := c.reference(0, 0)
	kerneltest.EachHopper(t, func(t *testing.T, d *exec.Device) {
		m := c.model(t, d, 1)
		files := map[string]int{}
		for _, l := range m.training[0].Launches() {
			files[l.File]++
		}
		m.Close()
		require.Equal(t, 1, files["pack"], "%v", files)
		require.Positive(t, files["hopper"], "%v", files)
		require.Positive(t, files["hopper_weight"], "%v", files)
		got, _ := c.run(t, d)
		c.check(t, exact, c.bounds(exact, ulp16), got, d.Level())
	})
}

// Convolutions share what is stored for them, only tensor cores want it, and it lives until the weights' gradients.
func TestStoredForConvolutions(t *testing.T) {
	net, err := wide(nn.Shape{H: 4, W: 3, C: 3})
	require.NoError(t, err)
	stored := func(d *exec.Device) map[string]int {
		m, err := NewModel(d, net, Options{Batch: 2})
		require.NoError(t, err)
		defer m.Close()
		l := &lowering{m: m, name: "train", mode: train}
		l.lower()
		of := map[string]int{}
		for _, x := range l.operands {
			if x.stored != nil {
				of[net.Nodes[x.of.node].Name]++
				require.Greater(t, x.stored.last, len(l.steps)/2, "backward reads it")
			}
		}
		return of
	}
	require.Empty(t, stored(openTest(t)))
	for _, device := range kerneltest.Accelerators() {
		require.Empty(t, stored(openOn(t, device, exec.FP32)))
		require.Equal(t, map[string]int{"stem/conv": 1, "sum": 1, "gated/conv": 1},
			stored(openOn(t, device, exec.BF16)))
	}
}

// thrifty is a simulator that counts how often it is asked to give freed memory back.
type thrifty struct {
	*sim.Device
	trims *int
}

func (a thrifty) Trim() { *a.trims++ }

func (a thrifty) Sequence(launches []cuda.Launch) (exec.Sequence, error) {
	return a.Device.Sequence(launches)
}

func (a thrifty) Loop(launches []cuda.Launch) (exec.Sequence, error) { return a.Sequence(launches) }

// A model that has ended leaves its memory to other processes.
func TestModelGivesMemoryBack(t *testing.T) {
	trims := 0
	exec.Register("thrifty", func(string, exec.Precision) (exec.Accelerator, error) {
		return thrifty{sim.Open(sim.Config{}), &trims}, nil
	})
	d := openOn(t, "thrifty:0", exec.FP32)
	m := newCase(cellNetwork(t, testCell, 8, 8), 4, 91).model(t, d, 1)
	require.Zero(t, trims)
	m.Close()
	require.Equal(t, 1, trims)
}

// What is small is done for all layers at once: a step packs weights in its first launch and adds up partial gradients
// in one near its end, has none for its norms, and fewer for gradients in weights than there are convolutions.
func TestLaunchesOfAStep(t *testing.T) {
	for _, device := range kerneltest.Accelerators() {
		for _, precision := range []exec.Precision{exec.FP32, exec.BF16} {
			d := openOn(t, device, precision)
			for _, c := range acceleratorCases(t)[:2] {
				m := c.model(t, d, 1)
				launches, count, weights, convolutions := m.training[0].Launches(), map[string]int{}, 0, 0
				for _, l := range launches {
					count[l.Entry]++
					if strings.HasPrefix(l.Entry, "cu_conv_weight") {
						weights++
					}
				}
				for _, node := range c.net.Nodes {
					if op, ok := node.Op.(nn.Conv); ok && op.Groups <= 1 {
						convolutions++
					}
				}
				m.Close()
				require.Equal(t, "cu_conv_pack", launches[0].Entry, c.net.Name)
				require.Equal(t, "cu_partial", launches[len(launches)-2].Entry, c.net.Name) // then the norm
				require.Equal(t, []int{1, 1, 0, 0}, []int{count["cu_conv_pack"], count["cu_partial"],
					count["cu_batchnorm"], count["cu_batchnorm_backward"]}, c.net.Name)
				require.LessOrEqual(t, weights, convolutions/2, c.net.Name)
			}
		}
	}
}

// Updates in lockstep with the CPU: parameters, averages and running statistics stay together.
func TestUpdatesOnAccelerators(t *testing.T) {
	cpu := openTest(t)
	for _, device := range kerneltest.Accelerators() {
		d := openOn(t, device, exec.FP32)
		for _, r := range []Optimization{
			{Optimizer: "sgd", Momentum: 0.9, Nesterov: true, WeightDecay: 0.01, EMA: 0.75, Clip: 1},
			{Optimizer: "rmsprop", Momentum: 0.9, Rho: 0.9, Eps: 1, WeightDecay: 0.01},
			{Optimizer: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-2, WeightDecay: 0.01},
		} {
			t.Run(device+"/"+r.Optimizer, func(t *testing.T) {
				c := newCase(cellNetwork(t, testCell, 8, 8), 4, 90)
				var states [2][]float32
				for k, dev := range []*exec.Device{cpu, d} {
					m := c.model(t, dev, 1)
					o, err := newOptimizer(m.Parameters, r)
					require.NoError(t, err)
					o.begin()
					for update := range 5 {
						m.KeepStatistics()
						m.Step(uint32(update), 0)
						loss, norm := m.Metrics()
						require.Equal(t, m.TotalLoss(), loss)
						require.Equal(t, m.GradientNorm(), norm)
						if update == 2 { // as if it had not been finite
							m.RestoreStatistics()
							continue
						}
						o.update(0.05)
					}
					states[k] = m.State.Values()
					for _, b := range append(o.moments, o.mean) {
						if b != nil {
							states[k] = append(states[k], b.Values()...)
						}
					}
					m.Close()
				}
				for i, want := range states[0] {
					require.InDelta(t, want, states[1][i], 2e-4*math.Max(1, math.Abs(float64(want))), "number %d", i)
				}
			})
		}
	}
}

// A training on an accelerator that was stopped ends in the same bytes, in both precisions.
func TestTrainOnAccelerators(t *testing.T) {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.985})
	require.NoError(t, err)
	d.Validation, d.Test = &data.Set{}, &data.Set{}
	for _, device := range kerneltest.Accelerators() {
		for _, precision := range []exec.Precision{exec.FP32, exec.BF16} {
			t.Run(device+"/"+string(precision), func(t *testing.T) {
				if precision == exec.BF16 {
					testdata.SkipUnlessAll(t, "three trainings on the simulator's tensor cores")
				}
				j := shapesJob(t, func(r *Recipe) { r.Batch, r.Recalibrate, r.EMA = 20, 1, 0.9 })
				j.Data = d
				place := exec.Config{Device: device, Precision: precision}
				whole, dir := t.TempDir(), t.TempDir()
				result, err := Train(t.Context(), j, Deps{Device: place, Dir: whole})
				require.NoError(t, err)
				require.Equal(t, 6, result.Updates)
				require.True(t, finite(float64(result.TrainLoss[1])))
				ctx, cancel := context.WithCancel(t.Context())
				_, err = Train(ctx, j, Deps{Device: place, Dir: dir, CheckpointEvery: 1, Progress: func(p Progress) {
					if p.Update == 2 {
						cancel()
					}
				}})
				require.True(t, errors.Is(err, ErrInterrupted), err)
				_, err = Train(t.Context(), j, Deps{Device: place, Dir: dir})
				require.NoError(t, err)
				requireSameFile(t, filepath.Join(whole, ResultName), filepath.Join(dir, ResultName))
				requireSameFile(t, filepath.Join(whole, WeightsName), filepath.Join(dir, WeightsName))

				j.OnNaN = OnNaNSkip
				_, err = Train(t.Context(), j, Deps{Device: place, Dir: dir})
				require.ErrorContains(t, err, "checkpoint of another training. Different are: what happens when")
			})
		}
	}
}
