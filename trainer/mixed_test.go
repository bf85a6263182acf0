package trainer

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// choosing is a space of three choices in each of two layers; a path is named by its choices.
type choosing struct{ smooth bool }

var chosen = []string{"conv", "pool", "none"}

// network has one choice in each layer, or mixes all.
func (s choosing) network(classes int, path string) (*nn.Network, error) {
	b, x := nn.NewBuilder("choosing", nn.Shape{H: 8, W: 8, C: 3})
	act := nn.ReLU
	if s.smooth {
		act = nn.Swish
	}
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 6), act)
	for layer, choice := range append(strings.Fields(path), "mix", "mix")[:2] {
		b := b.Scope("layer%d", layer)
		conv := func() nn.Tensor { return b.Scope("conv").ConvNorm(x, nn.Conv2D(3, 6), nn.Identity) }
		pool := func() nn.Tensor { return b.Apply("pool", nn.NewAvgPool(3, 1), x) }
		switch choice {
		case "conv":
			x = b.Apply("add", nn.Add{}, x, conv())
		case "pool":
			x = b.Apply("add", nn.Add{}, x, pool())
		case "mix":
			start := []float64{0, 0, -float64(layer)}
			row := b.Row(nn.Row{Name: fmt.Sprint("layer", layer), Choices: chosen, Start: start})
			x = b.Apply("add", nn.Add{}, x, b.Apply("mix", nn.Mix{Row: row, Rows: 1, Absent: 4}, conv(), pool()))
		}
	}
	x = b.Apply("global", nn.GlobalPool{}, b.Apply("act", act, x))
	b.Output(b.Apply("classifier", nn.Linear{Out: classes, Bias: true}, x), 1)
	return b.Build()
}

func (s choosing) Mixture(classes int) (nn.Path, error) {
	net, err := s.network(classes, "")
	if err != nil {
		return nn.Path{}, err
	}
	_, p := nn.Alone(net)
	return p, nil
}

func (s choosing) Supernet(classes int) (nn.Shared, error) {
	net, err := s.network(classes, "")
	if err != nil {
		return nn.Shared{}, err
	}
	shared, _ := nn.Alone(net)
	return shared, nil
}

func (s choosing) Path(path string, classes int) (nn.Path, error) {
	net, err := s.network(classes, path)
	if err != nil {
		return nn.Path{}, err
	}
	shared, err := s.Supernet(classes)
	p := nn.Path{Network: net}
	for _, v := range net.Variables() {
		p.Bindings = append(p.Bindings, nn.Binding{Shared: slices.IndexFunc(shared.Variables,
			func(other nn.Variable) bool { return other.Name == v.Name })})
	}
	return p, err
}

func (s choosing) Derive(weights [][]float32) (string, error) {
	var path []string
	for _, w := range weights {
		path = append(path, chosen[slices.Index(w, slices.Max(w))])
	}
	return strings.Join(path, " "), nil
}

func mixedJob(t testing.TB, method string, change func(r *SupernetRecipe)) SupernetJob {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.5})
	require.NoError(t, err)
	d.Train, d.Validation = first(d.Train, 60), first(d.Validation, 50)
	r := SupernetRecipeDefaults()
	r.Method, r.Epochs, r.Batch, r.Resolution, r.Recalibrate = method, 3, 20, 8, 1
	r.Optimizer, r.Momentum, r.WeightDecay, r.DecayAll, r.LR, r.Clip = "sgd", 0.9, 1e-3, true, 0.1, 5
	r.AlphaLR, r.AlphaBeta1, r.AlphaBeta2, r.AlphaDecay, r.AlphaStart = 0.1, 0.5, 0.999, 1e-3, 1e-3
	if method == MethodFBNet {
		r.GumbelStart, r.GumbelDecay, r.GumbelLeast = 5, 0.5, 0.5
	}
	if change != nil {
		change(&r)
	}
	return SupernetJob{Space: "choosing", Paths: choosing{}, Data: d, Source: "shapes", Recipe: r, Seed: 7,
		OnNaN: OnNaNStop}
}

// Weights and α learn, and a training that is stopped again and again, with other threads, ends in the same bytes.
func TestMixtures(t *testing.T) {
	for name, j := range map[string]SupernetJob{
		"first order":  mixedJob(t, MethodDARTS, nil),
		"second order": mixedJob(t, MethodDARTS, func(r *SupernetRecipe) { r.SecondOrder = true }),
		"gumbel": mixedJob(t, MethodFBNet, func(r *SupernetRecipe) {
			r.CostScale, r.CostExponent, r.AlphaFrom = 0.2, 0.6, 1
		}),
	} {
		t.Run(name, func(t *testing.T) {
			whole, dir := t.TempDir(), t.TempDir()
			result, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: whole})
			require.NoError(t, err)
			m := result.Mixture
			require.Len(t, m.Epochs, j.Recipe.Epochs)
			require.Equal(t, []MixtureRow{{"layer0", chosen}, {"layer1", chosen}}, m.Rows)
			last := m.Epochs[len(m.Epochs)-1]
			require.Equal(t, last.Derived, m.Derived)
			for row, w := range last.Weights {
				require.InDelta(t, 1, w[0]+w[1]+w[2], 1e-5)
				require.Greater(t, math.Abs(float64(w[0]-w[1])), 0.01, "row %d learned nothing", row)
			}
			if j.Recipe.AlphaFrom == 1 {
				require.InDelta(t, 1./3, m.Epochs[0].Weights[0][0], 1e-3)
				require.InDelta(t, 1/(2+math.Exp(-1)), m.Epochs[0].Weights[1][0], 1e-3)
			}
			require.Less(t, result.TrainLoss[2], result.TrainLoss[0])
			require.Len(t, result.Paths, 2*j.Recipe.Epochs)
			require.Equal(t, RoleDerived, result.Paths[5].Role)
			require.Equal(t, m.Derived, result.Paths[5].Path)
			require.Equal(t, 50, result.Paths[5].Images)

			s := philox.New(99, philox.PurposeTest, 2)
			stops := 0
			for {
				ctx, cancel := context.WithCancel(t.Context())
				left := 1 + s.Intn(4)
				_, err := TrainSupernet(ctx, j, Deps{Device: exec.Config{Threads: 2}, Dir: dir, CheckpointEvery: 1,
					Progress: func(Progress) {
						if left--; left == 0 {
							cancel()
						}
					}})
				cancel()
				if err == nil {
					break
				}
				require.ErrorIs(t, err, ErrInterrupted)
				if stops++; stops%2 == 0 { // as if it had been killed while it wrote
					require.NoError(t, os.Truncate(filepath.Join(dir, checkpoint.Dir, checkpoint.Latest), 1000))
				}
			}
			require.Greater(t, stops, 1)
			for _, name := range []string{WeightsName, WeightsTorchName, ResultName} {
				want, err := os.ReadFile(filepath.Join(whole, name))
				require.NoError(t, err)
				got, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				require.Equal(t, string(want), string(got), name)
			}
		})
	}
}

// A mixture's batches in shards leave the same weights and α on any number of ranks, and one that is stopped goes on
// with another number of them.
func TestMixtureRanks(t *testing.T) {
	kerneltest.OnCPU(t)
	sharded := func(r *SupernetRecipe) { r.Shards, r.Batch, r.Epochs = 4, 16, 2 }
	for name, j := range map[string]SupernetJob{
		"second order": mixedJob(t, MethodDARTS, func(r *SupernetRecipe) {
			sharded(r)
			r.SecondOrder = true
		}),
		"gumbel": mixedJob(t, MethodFBNet, func(r *SupernetRecipe) {
			sharded(r)
			r.CostScale, r.CostExponent, r.Recalibrate = 0.2, 0.6, 0
		}),
	} {
		t.Run(name, func(t *testing.T) {
			read := func(dir string) (all string) {
				for _, name := range []string{WeightsName, ResultName} {
					text, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					all += string(text)
				}
				return all
			}
			one := t.TempDir()
			_, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 2}, Dir: one})
			require.NoError(t, err)
			for _, n := range []int{2, 4} {
				dir := t.TempDir()
				_, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 2}, Ranks: n, Dir: dir})
				require.NoError(t, err)
				require.Equal(t, read(one), read(dir), "%d ranks", n)
			}
			dir := t.TempDir()
			for i, n := range []int{4, 1, 2} {
				ctx, cancel := context.WithCancel(t.Context())
				_, err := TrainSupernet(ctx, j, Deps{Device: exec.Config{Threads: 1}, Ranks: n, Dir: dir,
					CheckpointEvery: 1, Progress: func(p Progress) {
						if p.Update == 1+i {
							cancel()
						}
					}})
				cancel()
				require.ErrorIs(t, err, ErrInterrupted)
			}
			_, err = TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Ranks: 4, Dir: dir})
			require.NoError(t, err)
			require.Equal(t, read(one), read(dir))
		})
	}
}

// Ranks that have other α end the run.
func TestMixtureRanksDisagree(t *testing.T) {
	kerneltest.OnCPU(t)
	j := mixedJob(t, MethodDARTS, func(r *SupernetRecipe) { r.Shards, r.Epochs = 2, 1 })
	r, err := newMixedRun(j, Deps{Ranks: 2, Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	r.Progress = func(p Progress) {
		if p.Update == 1 {
			r.nets[1].Mixture.Alpha.WriteF32(2, []float32{1})
		}
	}
	_, err = conduct(t.Context(), r)
	require.ErrorContains(t, err, "rank 1 has other weights")
}

// An update whose images are not finite in one shard, those of the weights or those of α, is left out on every rank,
// and the first such shard's input is named.
func TestMixtureRanksSkip(t *testing.T) {
	kerneltest.OnCPU(t)
	for _, ranks := range []int{1, 2} {
		j := mixedJob(t, MethodDARTS, func(r *SupernetRecipe) { r.Shards, r.Batch, r.SecondOrder = 4, 8, true })
		j.OnNaN = OnNaNSkip
		r, err := newMixedRun(j, Deps{Ranks: ranks, Device: exec.Config{Threads: 1}})
		require.NoError(t, err)
		_, err = r.open(t.Context())
		require.NoError(t, err)
		for i, f := range []*feed{r.feed, r.second} {
			before := r.ranks[0].buffers()
			values := [][]float32{before[0].Values(), before[2].Values()}
			mended := spoil(f)
			require.NoError(t, r.update(t.Context()))
			mended()
			require.Equal(t, i+1, r.state.Skipped)
			require.Equal(t, values[0], before[0].Values())
			require.Equal(t, values[1], before[2].Values())
			require.NoError(t, r.agree())
			where, err := r.inspect()
			require.NoError(t, err)
			require.Equal(t, "input", where)
		}
		require.NoError(t, r.update(t.Context()))
		require.NoError(t, r.agree())
		require.NoError(t, r.close(nil))
	}
}

// Accelerators' ranks have the same weights and α as one.
func TestMixtureAcceleratorRanks(t *testing.T) {
	for _, name := range kerneltest.Accelerators() {
		var first [][]float32
		for _, devices := range []string{name, strings.Join(kerneltest.Alike(t, name, 2), ",")} {
			j := mixedJob(t, MethodFBNet, func(r *SupernetRecipe) { r.Shards, r.Batch = 2, 4 })
			r, err := newMixedRun(j, Deps{Device: exec.Config{Device: devices}})
			require.NoError(t, err)
			_, err = r.open(t.Context())
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, r.update(t.Context()))
			}
			require.NoError(t, r.agree())
			var got [][]float32
			for _, b := range r.ranks[0].buffers() {
				got = append(got, b.Values())
			}
			if first == nil {
				first = got
			}
			require.Equal(t, first, got, devices)
			require.NoError(t, r.close(nil))
		}
	}
}

// The gradient of α in second order is that of the loss on held-out images of weights that have taken a step on the
// training images, which differences of that loss in α say too; in shards, whose norms are their own, on ranks.
func TestSecondOrder(t *testing.T) {
	t.Run("one", func(t *testing.T) { secondOrder(t, 1) })
	t.Run("shards", func(t *testing.T) { secondOrder(t, 2) })
}

func secondOrder(t *testing.T, shards int) {
	j := mixedJob(t, MethodDARTS, func(r *SupernetRecipe) {
		r.SecondOrder, r.Batch, r.LR, r.WeightDecay, r.AlphaStart = true, 6, 0.05, 0.01, 0.5
		r.Shards = shards
	})
	j.Paths = choosing{smooth: true} // differences across a corner are no gradient
	r, err := newMixedRun(j, Deps{Device: exec.Config{Threads: 1}, Ranks: shards})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close(nil)) }()
	_, err = r.open(t.Context())
	require.NoError(t, err)
	net := r.network.Network
	labels := [2][]int{{0, 3, 1, 2, 2, 0}, {1, 1, 0, 3, 2, 3}}
	var images [2][]float64
	each, pixels := 6/shards, net.Input().Len()
	_, momentum := kerneltest.Random(r.o.moments[0].Len(), 12)
	for i := range momentum {
		momentum[i] *= 0.01
	}
	for i, n := range r.nets {
		for k, in := range []inputs{n.inputs, n.Second} {
			_, images[k] = kerneltest.Random(6*pixels, uint32(10+k))
			in.Images.WriteF32(0, narrow(images[k][i*each*pixels:(i+1)*each*pixels]))
			var integers []int32
			for _, l := range labels[k][i*each : (i+1)*each] {
				integers = append(integers, int32(l))
			}
			in.Labels.WriteI32(0, integers)
		}
		r.ranks[i].o.moments[0].WriteF32(0, narrow(momentum))
	}
	before := r.s.State.Values()
	require.NoError(t, r.secondOrder())
	require.Equal(t, before[:r.s.Params], r.s.State.Values()[:r.s.Params])
	for _, p := range r.parts {
		require.Equal(t, r.s.Mixture.AlphaGrad.Values(), p.Mixture.AlphaGrad.Values())
	}

	values := r.s.Values()
	lossOf := func(m *reference.Model, k int) (loss float64, gradients []*reference.Gradients) {
		for i := range shards {
			p := m.Forward(images[k][i*each*pixels:(i+1)*each*pixels], each, reference.Mode{Train: true})
			part, outputs := p.Loss(nn.Loss{}, labels[k][i*each:(i+1)*each], nil)
			loss, gradients = loss+part/float64(shards), append(gradients, p.Backward(outputs...))
		}
		return loss, gradients
	}
	var alpha []float64
	for _, a := range r.s.Mixture.Alpha.Values() {
		alpha = append(alpha, float64(a))
	}
	objective := func(alpha []float64, ahead bool) float64 {
		m := reference.New(net, values)
		for row := range m.Mixture {
			copy(m.Mixture[row], softened(alpha[3*row:3*row+3], 1))
		}
		if ahead {
			_, all := lossOf(m, 0)
			for i := range m.Values {
				for k := range all[0].Values[i] {
					step := 0.9*momentum[r.s.offset[i]+k] + 0.01*m.Values[i][k]
					for _, g := range all {
						step += g.Values[i][k] / float64(shards)
					}
					m.Values[i][k] -= 0.05 * step
				}
			}
		}
		loss, _ := lossOf(m, 1)
		return loss
	}
	size, wrong := 0.0, 0.0
	for k, got := range r.s.Mixture.AlphaGrad.Values() {
		var d [2]float64
		for i, ahead := range []bool{true, false} {
			near := func(by float64) float64 {
				a := slices.Clone(alpha)
				a[k] += by
				return objective(a, ahead)
			}
			d[i] = (near(1e-4) - near(-1e-4)) / 2e-4
		}
		require.InDelta(t, d[0], got, 2e-6, "α %d", k)
		size, wrong = size+math.Abs(d[0]-float64(got)), wrong+math.Abs(d[1]-float64(got))
	}
	require.Less(t, 100*size, wrong, "the first order would do as well")
}

// What cannot be trained is an error that names its setting.
func TestMixedErrors(t *testing.T) {
	for want, change := range map[string]func(r *SupernetRecipe){
		"alpha-lr 0: want more":                         func(r *SupernetRecipe) { r.AlphaLR = 0 },
		"accumulate 2: want 1":                          func(r *SupernetRecipe) { r.Accumulate = 2 },
		"gumbel-start 5: want more than 0 with fbnet":   func(r *SupernetRecipe) { r.GumbelStart = 5 },
		"cost-scale 0.2 and cost-exponent 0: want both": func(r *SupernetRecipe) { r.CostScale = 0.2 },
		"alpha-from 3: want less than the 3 epochs":     func(r *SupernetRecipe) { r.AlphaFrom = 3 },
		"second-order: the step ahead is that of optimizer sgd": func(r *SupernetRecipe) {
			r.SecondOrder, r.Optimizer = true, "adam"
		},
		"second-order: fbnet has none": func(r *SupernetRecipe) {
			r.SecondOrder, r.Method, r.GumbelStart = true, MethodFBNet, 5
		},
		"settings of mixtures: want none, for spos mixes nothing": func(r *SupernetRecipe) { r.Method = MethodSPOS },
		"batches of 55": func(r *SupernetRecipe) { r.Batch = 55 },
	} {
		_, err := TrainSupernet(t.Context(), mixedJob(t, MethodDARTS, change), Deps{Device: exec.Config{Threads: 1}})
		require.ErrorContains(t, err, want)
	}
	j := mixedJob(t, MethodFBNet, nil)
	j.Paths = elasticSpace{}
	_, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}})
	require.ErrorContains(t, err, "method fbnet: there is no network that mixes the choices of choosing")
}
