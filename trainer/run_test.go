package trainer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// shapesJob trains a small cell for some updates.
func shapesJob(t testing.TB, change func(r *Recipe)) Job {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.9})
	require.NoError(t, err)
	d.Validation, d.Test = &data.Set{}, first(d.Test, 300)
	r, err := OpenRecipe("shapes")
	require.NoError(t, err)
	r.Epochs, r.Batch, r.Recalibrate = 2, 50, 2
	if change != nil {
		change(&r)
	}
	return Job{Arch: testCell, Net: shapesNetwork(t), Data: d, Source: "shapes", Recipe: r, Seed: 7, OnNaN: OnNaNStop}
}

// headedNetwork has drop paths and an auxiliary head.
func headedNetwork(t testing.TB) *nn.Network {
	b, x := nn.NewBuilder("headed", nn.Shape{H: 32, W: 32, C: 3})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 8).Strided(2), nn.ReLU)
	y := b.Scope("one").ConvNorm(x, nn.Conv2D(3, 8), nn.ReLU)
	x = b.Scope("reduce").FactorizedReduce(b.Apply("sum", nn.Add{}, x, b.Apply("path", nn.DropPath{P: 0.5}, y)), 16)
	aux := b.Apply("aux", nn.Linear{Out: 10, Bias: true}, b.Apply("auxpool", nn.GlobalPool{},
		b.Apply("auxact", nn.ReLU, x)))
	y = b.Scope("two").ConvNorm(x, nn.Conv2D(3, 16), nn.Sigmoid)
	x = b.Apply("pool", nn.GlobalPool{}, b.Apply("both", nn.Concat{}, x, b.Apply("path2", nn.DropPath{P: 0.25}, y)))
	b.Output(b.Apply("classifier", nn.Linear{Out: 10, Bias: true}, x), 1)
	b.Output(aux, 0.1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

func shapesNetwork(t testing.TB) *nn.Network {
	b, x := nn.NewBuilder("small", nn.Shape{H: 32, W: 32, C: 3})
	x = b.Scope("stem").ConvNorm(x, nn.Conv2D(3, 8).Strided(2), nn.ReLU)
	x = b.Scope("two").ConvNorm(x, nn.Conv2D(3, 16).Strided(2), nn.HSwish)
	x = b.Apply("dropout", nn.Dropout{P: 0.1}, b.Apply("pool", nn.GlobalPool{}, x))
	b.Output(b.Apply("classifier", nn.Linear{Out: 10, Bias: true}, x), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// Every optimizer's update is that of its definition, from the gradients that the reference finds; weights decay where
// they should.
func TestUpdates(t *testing.T) {
	d := openTest(t)
	c := newCase(cellNetwork(t, testCell, 16, 8), 4, 60)
	p := reference.New(c.net, c.values).Forward(c.images, c.batch, trainMode)
	_, outputs := p.Loss(c.loss, c.labels, nil)
	grads := p.Backward(outputs...).Values
	for _, r := range []Optimization{
		{Optimizer: "sgd", Momentum: 0.9, Nesterov: true, WeightDecay: 0.1, EMA: 0.75},
		{Optimizer: "sgd", Momentum: 0.9, WeightDecay: 0.1, DecayAll: true, Clip: 0.01},
		{Optimizer: "sgd", Momentum: 0.9, ClipValue: 0.001},
		{Optimizer: "rmsprop", Momentum: 0.9, Rho: 0.9, Eps: 1, WeightDecay: 0.1},
		{Optimizer: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-3, WeightDecay: 0.1},
	} {
		m, err := NewModel(d, c.net, Options{Batch: c.batch, Loss: c.loss, Seed: trainMode.Seed, Clip: r.Clip})
		require.NoError(t, err)
		m.SetValues(c.values)
		o, err := newOptimizer(m.Parameters, r)
		require.NoError(t, err)
		o.begin()
		c.fill(m)
		m.Step(trainMode.Step, 0)
		o.update(0.5)
		values := m.Values()
		scale := 1.0
		if r.Clip > 0 {
			scale = math.Min(1, r.Clip/m.GradientNorm())
			require.Less(t, scale, 1.0)
		}
		limited := 0
		for i, v := range c.net.Variables() {
			if !v.Role.Trainable() {
				continue
			}
			decay := 0.0
			if r.DecayAll || v.Role == nn.Weight {
				decay = r.WeightDecay
			}
			for k, got := range values[i] {
				w := float64(c.values[i][k])
				g := scale*grads[i][k] + decay*w
				if most := r.ClipValue; most > 0 && math.Abs(g) > most {
					g = math.Copysign(most, g)
					limited++
				}
				switch r.Optimizer {
				case "sgd":
					if r.Nesterov {
						w -= 0.5 * 1.9 * g
					} else {
						w -= 0.5 * g
					}
				case "rmsprop":
					w -= 0.5 * g / math.Sqrt(1+0.1*(g*g-1)+1)
				case "adamw":
					g -= decay * w
					w -= 0.5*decay*w + 0.5*g/(math.Abs(g)+1e-3)
				}
				require.InDelta(t, w, got, 2e-2*math.Max(1e-2, math.Abs(w-float64(c.values[i][k]))), "%s %s",
					r.Optimizer, v.Name)
			}
		}
		require.Equal(t, r.ClipValue > 0, limited > 0)
		if r.EMA > 0 {
			require.NoError(t, o.averaged(func() error {
				for i, mean := range m.Values() {
					for k, got := range mean {
						require.InDelta(t, 0.75*c.values[i][k]+0.25*values[i][k], got,
							1e-5*math.Max(1, math.Abs(float64(got))))
					}
				}
				return nil
			}))
			require.Equal(t, values, m.Values())
		}
		m.Close()
	}
}

func TestRates(t *testing.T) {
	r := RecipeDefaults()
	r.Epochs, r.LR, r.Warmup, r.FinalLR, r.Decay, r.DecayEvery = 10, 1, 2, 0.1, 0.5, 4
	for schedule, want := range map[string]map[int]float64{
		"cosine": {0: 0.05, 19: 1, 20: 1, 60: 0.55, 99: 0.1 + 0.45*(1+math.Cos(math.Pi*79./80)), 100: 0.1},
		"linear": {10: 0.55, 20: 1, 60: 0.55, 100: 0.1}, "constant": {0: 0.05, 20: 1, 99: 1},
		"exponential": {20: 1, 40: math.Sqrt(0.5), 60: 0.5}, "step": {59: 1, 60: 0.5, 99: 0.5},
	} {
		r.Schedule = schedule
		for update, rate := range want {
			require.InDelta(t, rate, r.Rate(update, 10), 1e-12, "%s at %d", schedule, update)
		}
	}
}

func TestRecipes(t *testing.T) {
	require.Equal(t, []string{"darts-cifar", "darts-imagenet", "fast-cifar", "mobilenetv3", "nasbench101", "ofa",
		"shapes", "spos"}, RecipeNames())
	for _, name := range RecipeNames() {
		r, err := OpenRecipe(name)
		require.NoError(t, err)
		require.NoError(t, r.Check())
	}
	for text, want := range map[string]string{
		"epochs: 0":       "epochs 0: want 1 to 1000000",
		"epochs: 2.5":     "line 1: epochs: 2.5: want a whole number",
		"lr: .nan":        "lr NaN: want 0 to 1000",
		"optimiser: sgd":  `line 1: unknown key "optimiser"`,
		"optimizer: lion": `optimizer "lion": want sgd, rmsprop, adam, adamw`,
		"schedule: 3":     `schedule "3"`,
		"- 1":             "line 1: want names of settings with values",
		"epochs: [1]":     "cannot unmarshal",
		"warmup: 5":       "warmup 5: want 0 to 1",
		"mixup: -1":       "mixup -1: want 0 to 100",
		"drop-path: 1":    "drop-path 1: want 0 to",
		"temperature: 0":  "temperature 0: want 0.001",

		"drop-path-schedule: cosine": `drop-path-schedule "cosine": want constant, linear`,
		"batch: 99999999":            "batch 99999999: want 1 to 65536",
		"lr: &a [*a]":                "cannot unmarshal",
	} {
		_, err := parseRecipe([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
	_, err := OpenRecipe("none")
	require.ErrorContains(t, err, `recipe "none" is none of darts-cifar`)
}

// A recipe's keys are one for each field, and its fingerprint and JSON those that folders and caches of before have.
func TestRecipeKeys(t *testing.T) {
	r := RecipeDefaults()
	l := r.Settings()
	fields := slices.DeleteFunc(reflect.VisibleFields(reflect.TypeFor[Recipe]()),
		func(f reflect.StructField) bool { return f.Anonymous })
	require.Len(t, l.Names(), len(fields))
	for i, f := range fields {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		require.Equal(t, strings.ReplaceAll(l.Names()[i], "-", "_"), key)
	}
	hash := r.Hash()
	require.NoError(t, l.Set("lr", "5e-2"))
	require.NoError(t, l.Set("nesterov", "true"))
	require.NoError(t, l.Set("optimizer", "adam"))
	require.Equal(t, []any{0.05, true, "adam"}, []any{r.LR, r.Nesterov, r.Optimizer})
	require.NotEqual(t, hash, r.Hash())
	for name, known := range map[string]string{
		"darts-cifar":    "9b46ed05",
		"darts-imagenet": "c651ad46",
		"fast-cifar":     "4229b2d7",
		"mobilenetv3":    "6fe175ea",
		"nasbench101":    "4f43dbc6",
		"ofa":            "721e1165",
		"shapes":         "3bade0bb",
		"spos":           "f32d5dab",
	} {
		r, err := OpenRecipe(name)
		require.NoError(t, err)
		require.Equal(t, known, r.Hash(), "labels in caches are found by it")
	}
}

// A cell of DARTS has drop paths and an auxiliary head, which cost nothing until a recipe asks for them; one of
// NAS-Bench-101 has neither.
func TestRecipeIdle(t *testing.T) {
	r, err := OpenRecipe("darts-cifar")
	require.NoError(t, err)
	require.Positive(t, r.DropPath)
	darts, err := zoo.DARTSNetwork{Genotype: zoo.Genotype{Normal: pairs, Reduce: pairs}, Small: true, Side: 32,
		Classes: 10, Channels: 4, Cells: 3, Stacks: 3}.Build()
	require.NoError(t, err)
	require.Empty(t, r.Idle(darts))
	require.Equal(t, []string{"drop-path", "aux-weight"}, r.Idle(cellNetwork(t, "nasbench101:3:111:0", 4, 8)))
	require.Empty(t, RecipeDefaults().Idle(cellNetwork(t, "nasbench101:3:111:0", 4, 8)))

	stored := func(net *nn.Network) (paths int) {
		for _, i := range nn.Fuse(net).Stored {
			if op, ok := net.Nodes[i].Op.(nn.DropPath); ok {
				require.InDelta(t, r.DropPath, op.P, 1e-12)
				paths++
			}
		}
		return paths
	}
	require.Zero(t, stored(darts))
	require.Equal(t, 3*6+2*2, stored(darts.Regularized(r.DropPath, 0)),
		"all operations but the identities; these have a part where a cell halves")
}

// pairs is a cell of four separable convolutions, two identities, a pooling and a dilated convolution.
var pairs = zoo.CellGraph{Nodes: []zoo.Node{{Left: "sep_conv_3x3", Right: "skip_connect", RightFrom: 1},
	{Left: "sep_conv_3x3", Right: "sep_conv_5x5", RightFrom: 2},
	{Left: "skip_connect", Right: "max_pool_3x3", RightFrom: 1},
	{Left: "dil_conv_3x3", LeftFrom: 2, Right: "sep_conv_3x3", RightFrom: 3}}, Concat: []int{2, 3, 4, 5}}

// A training that was stopped is asked again when it is resumed, and may go on to the same end as one that never
// stopped.
func TestStop(t *testing.T) {
	j := shapesJob(t, func(r *Recipe) { r.Epochs = 3 })
	j.Data.Validation = j.Data.Test
	whole, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 2}})
	require.NoError(t, err)
	d := Deps{Device: exec.Config{Threads: 2}, Dir: t.TempDir()}
	asked := 0
	d.Stop = func(e Evaluation) bool { asked++; return e.Epoch == 2 }
	for range 2 {
		r, err := Train(t.Context(), j, d)
		require.NoError(t, err)
		require.Equal(t, whole.Validation[:2], r.Validation)
		require.Equal(t, 16, r.Updates)
	}
	require.Equal(t, 3, asked)
	d.Stop = nil
	r, err := Train(t.Context(), j, d)
	require.NoError(t, err)
	require.Equal(t, whole, r)
}

func FuzzRecipe(f *testing.F) {
	for _, name := range RecipeNames() {
		text, err := recipeFiles.ReadFile("recipes/" + name + ".yaml")
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := parseRecipe(text); err == nil {
			require.NoError(t, r.Check())
			rate := r.Rate(3, 7)
			require.True(t, rate >= 0 && rate <= 1e3, rate)
		}
	})
}

// A network that gives every class the same logit is right where the first class is: what chance gives, not all and not
// none.
func TestEqualLogitsAreChance(t *testing.T) {
	j := shapesJob(t, nil)
	m, err := NewModel(openTest(t), j.Net, Options{Batch: 64})
	require.NoError(t, err)
	defer m.Close()
	values := m.Values()
	for i := range values {
		clear(values[i])
	}
	m.SetValues(values)
	e, err := Evaluate(t.Context(), m, j.Data, j.Data.Test, j.Data.EvalTransform(m.Net.Input().H), Loading{})
	require.NoError(t, err)
	require.Equal(t, 0.1, e.Top1)
	require.Equal(t, 0.5, e.Top5)
	require.InDelta(t, math.Log(10), float64(e.Loss), 1e-5)

	// What is not finite has no loss, and nothing that is right.
	values[len(values)-1][0] = float32(math.NaN())
	m.SetValues(values)
	e, err = Evaluate(t.Context(), m, j.Data, j.Data.Test, j.Data.EvalTransform(m.Net.Input().H), Loading{})
	require.NoError(t, err)
	require.True(t, math.IsNaN(float64(e.Loss)))
	require.Zero(t, e.Top1)
}

// It learns, and does not depend on the number of threads and workers.
func TestTrain(t *testing.T) {
	j := shapesJob(t, func(r *Recipe) { r.Epochs, r.LR = 15, 0.1 })
	j.Data.Validation = j.Data.Test
	dir := t.TempDir()
	result, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Workers: 1, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, 15*8, result.Updates)
	require.Len(t, result.TrainLoss, 15)
	require.Less(t, result.TrainLoss[14], result.TrainLoss[0]-0.1)
	require.Equal(t, result.Validation[14], *result.Test)
	require.Greater(t, result.Test.Top5, result.Test.Top1)
	require.Equal(t, 300, result.Test.Images)

	again := t.TempDir()
	other, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 3}, Workers: 2, Dir: again})
	require.NoError(t, err)
	require.Equal(t, result, other)
	for _, name := range []string{ResultName, WeightsName} {
		requireSameFile(t, filepath.Join(dir, name), filepath.Join(again, name))
	}
	list, spoiled, err := events.Read(dir)
	require.NoError(t, err)
	require.Empty(t, spoiled)
	require.NotEmpty(t, list)

	// The saved weights are those that were tested.
	d := openTest(t)
	m, err := NewModel(d, j.Net, Options{Batch: 64})
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, LoadWeights(filepath.Join(dir, WeightsName), m))
	e, err := Evaluate(t.Context(), m, j.Data, j.Data.Test, j.Data.EvalTransform(m.Net.Input().H), Loading{})
	require.NoError(t, err)
	require.Equal(t, result.Test.Top1, e.Top1)
	require.InDelta(t, float64(result.Test.Loss), float64(e.Loss), 1e-5)
	wrong, err := NewModel(d, cellNetwork(t, testCell, 8, 8), Options{Batch: 2})
	require.NoError(t, err)
	defer wrong.Close()
	require.ErrorContains(t, LoadWeights(filepath.Join(dir, WeightsName), wrong), "weights.safetensors")
}

func requireSameFile(t *testing.T, a, b string) {
	x, err := os.ReadFile(a)
	require.NoError(t, err)
	y, err := os.ReadFile(b)
	require.NoError(t, err)
	require.Equal(t, x, y, a)
}

// Stopped at random updates again and again, a training ends in the same bytes. Every kind of state is in play.
func TestResume(t *testing.T) {
	for name, change := range map[string]func(r *Recipe){
		"sgd":  func(r *Recipe) { r.EMA, r.Accumulate, r.Clip = 0.9, 3, 1 },
		"adam": func(r *Recipe) { r.Optimizer, r.LR = "adamw", 0.003 },
		"mixed": func(r *Recipe) {
			r.Mixup, r.DropPath, r.DropPathSchedule, r.AuxWeight, r.Distill, r.Temperature =
				0.4, 0.3, "linear", 0.4, 0.5, 2
		},
		"rms": func(r *Recipe) { r.Optimizer, r.LR, r.Eps, r.Cutout = "rmsprop", 0.01, 1, 8 },
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "sgd" {
				t.Skip("one optimizer is enough with -short")
			}
			j := shapesJob(t, change)
			if j.Recipe.Distill > 0 {
				j.Net, j.Teacher = headedNetwork(t), newTeacher(t)
			}
			whole := t.TempDir()
			_, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: whole})
			require.NoError(t, err)
			s := philox.New(99, philox.PurposeTest, 1)
			dir := t.TempDir()
			stops := 0
			for {
				ctx, cancel := context.WithCancel(t.Context())
				left := 1 + s.Intn(4)
				_, err := Train(ctx, j, Deps{Device: exec.Config{Threads: 2}, Dir: dir, CheckpointEvery: 1,
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
				stops++
				if stops%2 == 0 { // as if the last checkpoint had been torn
					path := filepath.Join(dir, checkpoint.Dir, checkpoint.Latest)
					require.NoError(t, os.Truncate(path, 1000))
				}
			}
			require.Positive(t, stops)
			requireSameFile(t, filepath.Join(whole, ResultName), filepath.Join(dir, ResultName))
			requireSameFile(t, filepath.Join(whole, WeightsName), filepath.Join(dir, WeightsName))

			j.Seed++
			_, err = Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: dir})
			require.ErrorContains(t, err, "checkpoint of another training. Different are: the seed (7 then, 8 now)")
		})
	}
}

// Wherever a context ends, images being ready or not, the answer is ErrInterrupted, nothing more is trained, and the
// rest of the run ends in the same bytes.
func TestInterruptedAtEveryUpdate(t *testing.T) {
	j := shapesJob(t, func(r *Recipe) { r.Batch, r.Accumulate = 100, 1 })
	whole := t.TempDir()
	result, err := Train(t.Context(), j, Deps{Dir: whole})
	require.NoError(t, err)
	for _, test := range []struct {
		name string
		// Of what follows the last update: a test, statistics for it, statistics for the weights that are saved.
		change func(j *Job)
	}{
		{"with a test", func(*Job) {}},
		{"statistics alone", func(j *Job) { d := *j.Data; d.Test = &data.Set{}; j.Data = &d }},
		{"with validation", func(j *Job) { d := *j.Data; d.Validation = d.Test; j.Data = &d }},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := j
			test.change(&j)
			for at := 1; at <= result.Updates; at++ {
				dir := t.TempDir()
				ctx, cancel := context.WithCancel(t.Context())
				updates := 0
				_, err := Train(ctx, j, Deps{Dir: dir, Workers: 1, Progress: func(p Progress) {
					if updates = p.Update; p.Update == at {
						cancel()
					}
				}})
				require.ErrorIs(t, err, ErrInterrupted, "after update %d", at)
				require.Equal(t, at, updates, "nothing is trained behind the end of its context")
				s, err := readSnapshot(dir)
				require.NoError(t, err)
				require.Equal(t, at, s.Progress.Update)
				if test.name == "with a test" && at%3 == 0 {
					_, err = Train(t.Context(), j, Deps{Dir: dir})
					require.NoError(t, err)
					requireSameFile(t, filepath.Join(whole, WeightsName), filepath.Join(dir, WeightsName))
				}
			}
		})
	}
}

// A checkpoint that cannot be written is told, and not that the run can go on.
func TestInterruptedWithoutACheckpoint(t *testing.T) {
	j := shapesJob(t, nil)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Train(ctx, j, Deps{Dir: dir, Progress: func(Progress) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, checkpoint.Dir)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, checkpoint.Dir), nil, 0o644))
		cancel()
	}})
	require.ErrorContains(t, err, "has no checkpoint of its update 1")
	require.NotErrorIs(t, err, ErrInterrupted)
	require.NotErrorIs(t, err, context.Canceled)
}

// newTeacher is a network with weights that nobody trained.
func newTeacher(t testing.TB) *Teacher {
	d := openTest(t)
	net := shapesNetwork(t)
	m, err := NewModel(d, net, Options{Batch: 1, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.Initialize(nn.HeFanOut, 5)
	path := filepath.Join(t.TempDir(), WeightsName)
	require.NoError(t, SaveWeights(path, m, nil))
	return &Teacher{Net: net, Weights: path}
}

// A student comes nearer to its teacher's predictions than one that learns from the labels alone.
func TestTeacher(t *testing.T) {
	teacher := newTeacher(t)
	apart := func(distill float64) float64 { // of the predictions on some images, from the teacher's
		j := shapesJob(t, func(r *Recipe) { r.Epochs, r.LR, r.Distill, r.Temperature = 6, 0.05, distill, 1 })
		if distill > 0 {
			j.Teacher = teacher
		}
		dir := t.TempDir()
		result, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 2}, Dir: dir})
		require.NoError(t, err)
		require.Equal(t, distill > 0, result.Teacher != "")
		d := openTest(t)
		var all [2][]float32
		for i, path := range []string{filepath.Join(dir, WeightsName), teacher.Weights} {
			m, err := NewModel(d, j.Net, Options{Batch: 50, EvalOnly: true})
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, LoadWeights(path, m))
			_, err = Evaluate(t.Context(), m, j.Data, j.Data.Test, j.Data.EvalTransform(m.Net.Input().H),
				Loading{Workers: 1})
			require.NoError(t, err)
			all[i] = m.Logits() // of the last batch
		}
		sum := 0.0
		for k := range 50 {
			p, q := softmax(all[0][10*k:10*k+10]), softmax(all[1][10*k:10*k+10])
			for c := range p {
				sum += math.Abs(p[c] - q[c])
			}
		}
		return sum / 50
	}
	alone, taught := apart(0), apart(20)
	t.Logf("total variation times two: %.3f alone, %.3f taught", alone, taught)
	require.Less(t, taught, 0.7*alone)

	train := func(change func(j *Job)) error {
		j := shapesJob(t, func(r *Recipe) { r.Distill = 1 })
		j.Teacher = teacher
		change(&j)
		_, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}})
		return err
	}
	require.ErrorContains(t, train(func(j *Job) { j.Teacher = nil }), "distill 1: want a teacher")
	require.ErrorContains(t, train(func(j *Job) { j.Recipe.Distill = 0 }), "distill, the weight of its loss, is 0")
	require.ErrorContains(t, train(func(j *Job) {
		j.Teacher = &Teacher{Net: cellNetwork(t, testCell, 8, 8), Weights: teacher.Weights}
	}), "the teacher is for images of 8x8x3, want 32x32x3")
	require.ErrorContains(t, train(func(j *Job) {
		j.Teacher = &Teacher{Net: teacher.Net, Weights: "nowhere"}
	}), "the teacher's weights: open nowhere")
	require.ErrorContains(t, train(func(j *Job) {
		j.Teacher = &Teacher{Net: headedNetwork(t), Weights: teacher.Weights}
	}), "the teacher's weights: "+teacher.Weights)
}

func softmax(x []float32) []float64 {
	out, sum := make([]float64, len(x)), 0.0
	for i, v := range x {
		out[i] = math.Exp(float64(v))
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// Drop paths' probabilities rise epoch by epoch, as in DARTS.
func TestPathRates(t *testing.T) {
	r := RecipeDefaults()
	r.Epochs = 4
	require.Equal(t, []float64{1, 1}, []float64{r.PathRate(0), r.PathRate(3)})
	r.DropPathSchedule = "linear"
	require.Equal(t, []float64{0, 0.25, 0.75}, []float64{r.PathRate(0), r.PathRate(1), r.PathRate(3)})
}

// What is not finite is noticed at once and named; skipping goes on at half the rate with everything as it was.
func TestDivergence(t *testing.T) {
	j := shapesJob(t, func(r *Recipe) {
		r.LR, r.Warmup, r.Schedule = 1000, 0, "constant"
		r.Momentum = 0.99
		r.Decoupled, r.WeightDecay = true, 10
	})
	_, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 2}})
	require.ErrorContains(t, err, "first not finite: ")
	require.Regexp(t, `update \d+: the loss is`, err.Error())
	var diverged *Diverged
	require.ErrorAs(t, err, &diverged)
	require.NotEmpty(t, diverged.Where)

	d := openTest(t)
	c := newCase(cellNetwork(t, testCell, 16, 8), 4, 62)
	m := c.model(t, d, 1)
	defer m.Close()
	m.Step(0, 0)
	where, err := m.Inspect()
	require.NoError(t, err)
	require.Empty(t, where)
	weight := m.Net.Find("stack1/module2/vertex1/conv")
	m.variable(weight, 0).WriteF32(3, []float32{float32(math.Inf(1))})
	before := m.Values()
	m.Step(0, 0)
	m.SetValues(before)
	where, err = m.Inspect()
	require.NoError(t, err)
	require.Equal(t, "stack1/module2/vertex1/conv", where)
	require.Equal(t, before, m.Values(), "looking changes nothing")
}

func TestSkip(t *testing.T) {
	j := shapesJob(t, nil)
	j.OnNaN = OnNaNSkip
	r := newRun(j, Deps{Device: exec.Config{Threads: 2}})
	defer func() { require.NoError(t, r.close(nil)) }()
	_, err := r.open(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.update(t.Context()))
	before := r.m.Values()
	bad := r.m.variable(r.m.Net.Find("stem/conv"), 0)
	good := bad.Values()
	bad.WriteF32(0, []float32{float32(math.NaN())})
	require.NoError(t, r.update(t.Context()))
	bad.WriteF32(0, good)
	require.Equal(t, before, r.m.Values())
	require.Equal(t, 1, r.state.Skipped)
	require.Equal(t, 0.5, r.state.Rate)
	require.NoError(t, r.update(t.Context()))
	require.NotEqual(t, before, r.m.Values())
	require.Zero(t, r.state.InARow)
	bad.WriteF32(0, []float32{float32(math.NaN())})
	for range mostSkipped + 1 {
		require.NoError(t, err)
		err = r.update(t.Context())
	}
	require.ErrorContains(t, err, "first not finite: stem/conv")
}

// A checkpoint is of the moment at which it was taken, whatever is trained until it is written. Without a word about
// when, one is taken at an epoch's end and after a long time, but not where they would take more than their share.
func TestCheckpointsAreOfTheirMoment(t *testing.T) {
	r := newRun(shapesJob(t, func(r *Recipe) { r.EMA, r.Epochs = 0.9, 2 }), Deps{Device: exec.Config{Threads: 2},
		Dir: t.TempDir()})
	defer func() { require.NoError(t, r.close(nil)) }()
	_, err := r.open(t.Context())
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, r.update(t.Context()))
		rest, err := r.snapshot()
		require.NoError(t, err)
		want, err := rest()
		require.NoError(t, err)
		rest, err = r.snapshot()
		require.NoError(t, err)
		require.NoError(t, r.update(t.Context()))
		require.NoError(t, r.endEpoch(t.Context()))
		got, err := rest()
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		rest, err = r.snapshot()
		require.NoError(t, err)
		next, err := rest()
		require.NoError(t, err)
		require.False(t, bytes.Equal(want, next))
	}

	now := time.Now()
	for _, c := range []struct {
		since, took time.Duration
		ends, want  bool
	}{
		{time.Second, 0, true, true}, {time.Second, 0, false, false}, {time.Minute, time.Second, true, false},
		{2 * time.Minute, time.Second, true, true}, {9 * time.Minute, time.Second, false, false},
		{11 * time.Minute, time.Second, false, true}, {11 * time.Minute, 10 * time.Second, false, false},
	} {
		r.saved = saved{now.Add(-c.since), c.took}
		require.Equal(t, c.want, r.due(c.ends), "%v", c)
		r.CheckpointEvery, r.state.Update = 7, 14
		require.True(t, r.due(c.ends))
		r.state.Update = 15
		require.False(t, r.due(c.ends))
		r.CheckpointEvery = 0
	}
}

// A resume refuses images that have changed under their names, a changed key of the recipe and another program, and
// says which.
func TestResumeSaysWhatChanged(t *testing.T) {
	images, dir := testdata.Images(t), t.TempDir()
	job := func() Job {
		j := shapesJob(t, func(r *Recipe) { r.Batch = 20 })
		var err error
		j.Data, err = data.Open("imagenet:"+images, data.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, j.Data.Close()) })
		return j
	}
	j := job()
	result, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: dir})
	require.NoError(t, err)
	sum, err := j.Data.Checksum(t.Context())
	require.NoError(t, err)
	require.Equal(t, sum, result.Checksum)
	try := func(j Job, version string) error {
		_, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: dir, Version: version})
		return err
	}
	require.NoError(t, try(job(), ""))
	j = job()
	j.Recipe.LR, j.Recipe.Epochs = 0.5, j.Recipe.Epochs+1
	require.ErrorContains(t, try(j, "new"),
		fmt.Sprintf("Different are: the recipe (epochs %d, lr %g then, epochs %d, lr 0.5 now); the program's version "+
			"(none then, new now)", j.Recipe.Epochs-1, job().Recipe.LR, j.Recipe.Epochs))

	one := filepath.Join(images, "train", "class1", "train1-3.png")
	text, err := os.ReadFile(filepath.Join(images, "train", "class2", "train2-3.png"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(one, text, 0o644))
	j = job()
	now, err := j.Data.Checksum(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, try(j, ""), "Different are: the images: their number, order, contents, labels or "+
		"classes ("+sum+" then, "+now+" now)")
}

func FuzzSnapshot(f *testing.F) {
	s := snapshot{Ident: identity{Arch: "x"}, Progress: progress{Step: 3, TrainLoss: []Real{1}},
		buffers: [][]float32{{1, float32(math.Inf(-1))}, {}}}
	rest, err := s.encode()
	require.NoError(f, err)
	text, err := rest()
	require.NoError(f, err)
	back, err := decodeSnapshot(text)
	require.NoError(f, err)
	require.Equal(f, s.Progress, back.Progress)
	require.Equal(f, s.buffers, back.buffers)
	head := len(checkpointMagic) + sha256.Size
	f.Add(text[head:])
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		var s *snapshot
		var err error
		// encoding/gob makes room for 10 MiB of a list before it has seen any of it.
		got := testdata.Allocated(func() {
			s, err = decodeSnapshot(append(append([]byte(checkpointMagic), sum[:]...), body...))
		})
		require.LessOrEqual(t, got, uint64(64<<20+4096*len(body)))
		if err == nil {
			require.NotNil(t, s)
		}
	})
}

func TestTrainErrors(t *testing.T) {
	j := shapesJob(t, nil)
	j.OnNaN = "pray"
	_, err := Train(t.Context(), j, Deps{})
	require.ErrorContains(t, err, `on-nan "pray"`)
	j = shapesJob(t, func(r *Recipe) { r.Batch = 500 })
	_, err = Train(t.Context(), j, Deps{})
	require.ErrorContains(t, err, "batch 500: there are 400 images")
	j = shapesJob(t, func(r *Recipe) { r.Accumulate = 100 })
	_, err = Train(t.Context(), j, Deps{})
	require.ErrorContains(t, err, "accumulate 100: there are 16 steps")
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, checkpoint.Dir), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, checkpoint.Dir, checkpoint.Latest), []byte("x"), 0o644))
	_, err = Train(t.Context(), shapesJob(t, nil), Deps{Dir: dir})
	require.ErrorContains(t, err, "not a checkpoint")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Train(ctx, shapesJob(t, nil), Deps{})
	require.True(t, errors.Is(err, ErrInterrupted))
}
