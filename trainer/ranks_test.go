package trainer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// shardedJob trains with everything that a shard could do differently: drop paths, an auxiliary head, mixup, an average
// of weights, a clipped gradient, several steps an update.
func shardedJob(t testing.TB, shards int, change func(j *Job)) Job {
	j := shapesJob(t, func(r *Recipe) {
		r.Batch, r.Shards, r.Accumulate, r.Epochs = 16, shards, 2, 1
		r.Mixup, r.EMA, r.DropPath, r.DropPathSchedule, r.Clip = 0.2, 0.9, 0.5, "linear", 0.5
	})
	j.Net = headedNetwork(t)
	j.Data.Test, j.Data.Validation = &data.Set{}, j.Data.Train.Subset(numbers(160, 205))
	j.Data.Train = j.Data.Train.Subset(numbers(0, 160))
	if change != nil {
		change(&j)
	}
	return j
}

func numbers(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}

// A batch's shards have the same sum, bit for bit, on whatever number of devices: weights and result are equal.
func TestRanks(t *testing.T) {
	teacher := filepath.Join(t.TempDir(), "teacher.safetensors")
	kerneltest.OnCPU(t)
	m, err := NewModel(openTest(t), headedNetwork(t), Options{Batch: 1, EvalOnly: true})
	require.NoError(t, err)
	m.Initialize(nn.HeFanOut, 3)
	require.NoError(t, SaveWeights(teacher, m, nil))
	m.Close()
	taught := func(j *Job) {
		j.Recipe.Distill, j.Recipe.Mixup = 0.5, 0
		j.Teacher = &Teacher{Net: headedNetwork(t), Weights: teacher,
			Images: &zoo.Images{Mean: [3]float32{0.1, 0.2, 0.3}, Std: [3]float32{0.3, 0.2, 0.1}}}
	}
	for name, c := range map[string]struct {
		shards int
		ranks  []int
		change func(j *Job)
	}{
		"all":     {8, []int{1, 2, 4, 8}, nil},
		"teacher": {4, []int{1, 2, 4}, taught},
		"one":     {1, []int{1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var first []byte
			var result *Result
			for _, n := range c.ranks {
				dir := t.TempDir()
				r, err := Train(t.Context(), shardedJob(t, c.shards, c.change), Deps{Dir: dir, Ranks: n,
					Device: exec.Config{Threads: 2}})
				require.NoError(t, err)
				weights, err := os.ReadFile(filepath.Join(dir, WeightsName))
				require.NoError(t, err)
				if first == nil {
					first, result = weights, r
				}
				require.Equal(t, result, r, "%d ranks", n)
				require.Equal(t, first, weights, "%d ranks", n)
			}
		})
	}
}

// poisoned is a run in which some batches have an image that is not finite, in the third of four shards.
type poisoned struct{ *run }

func (p poisoned) open(ctx context.Context) (*Result, error) {
	result, err := p.run.open(ctx)
	if p.feed == nil {
		return result, err
	}
	next := p.feed.next
	p.feed.next = func(ctx context.Context) (*data.Batch, error) {
		b, err := next(ctx)
		if err == nil && b.Batch%2 == 1 && b.Batch < 7 {
			b.Images[len(b.Images)*5/8] = float32(math.NaN())
		}
		return b, err
	}
	return result, err
}

// A run that stopped in the middle of an epoch goes on with another number of ranks, after updates that were left out
// too, and ends in the same bits.
func TestRanksResume(t *testing.T) {
	kerneltest.OnCPU(t)
	job := func() Job {
		return shardedJob(t, 4, func(j *Job) {
			j.Recipe.Accumulate, j.OnNaN = 1, OnNaNSkip
			j.Net = j.Net.Regularized(j.Recipe.DropPath, j.Recipe.AuxWeight)
		})
	}
	weights := func(dir string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, WeightsName))
		require.NoError(t, err)
		return text
	}
	train := func(ctx context.Context, dir string, ranks, stop int) (*Result, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return conduct(ctx, poisoned{newRun(job(), Deps{Dir: dir, Ranks: ranks, Device: exec.Config{Threads: 1},
			CheckpointEvery: 1, Progress: func(p Progress) {
				if p.Update == stop {
					cancel()
				}
			}})})
	}
	whole, dir := t.TempDir(), t.TempDir()
	want, err := train(t.Context(), whole, 1, -1)
	require.NoError(t, err)
	require.Equal(t, 3, want.Skipped)
	for i, ranks := range []int{2, 4, 1} {
		_, err = train(t.Context(), dir, ranks, 2+2*i)
		require.ErrorIs(t, err, ErrInterrupted)
	}
	got, err := train(t.Context(), dir, 2, -1)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, weights(whole), weights(dir))
}

// Devices that have other weights end the run, at a checkpoint, after an epoch and after a training that ends in the
// midst of one: what is left is the checkpoint before.
func TestRanksDisagree(t *testing.T) {
	kerneltest.OnCPU(t)
	for _, c := range []struct{ accumulate, epochs, updates, at int }{{1, 1, 10, 10}, {4, 3, 7, 7}, {1, 1, 10, 4}} {
		var r *run
		dir := t.TempDir()
		j := shardedJob(t, 2, func(j *Job) {
			j.Recipe.Accumulate, j.Recipe.Epochs, j.Recipe.EMA = c.accumulate, c.epochs, 0
			j.Net = batchNormed(t)
		})
		r = newRun(j, Deps{Dir: dir, Ranks: 2, Device: exec.Config{Threads: 1}, CheckpointEvery: 1,
			Progress: func(p Progress) {
				if require.Equal(t, c.updates, p.Updates); p.Update == c.at {
					r.ranks[1].params.State.WriteF32(5, []float32{1})
				}
			}})
		_, err := conduct(t.Context(), r)
		require.ErrorContains(t, err, "rank 1 has other weights")
		s, err := readSnapshot(dir)
		require.NoError(t, err)
		require.Equal(t, c.at-1, s.Progress.Update)
	}
}

// spoil puts a number that is none into the third of four shards of a feed's batches, until mended is called.
func spoil(f *feed) (mended func()) {
	next := f.next
	f.next = func(ctx context.Context) (*data.Batch, error) {
		b, err := next(ctx)
		if err == nil {
			b.Images[len(b.Images)*5/8] = float32(math.NaN())
		}
		return b, err
	}
	return func() { f.next = next }
}

// An update whose loss is not finite in one shard is left out on every rank, and the first such shard is named.
func TestRanksSkip(t *testing.T) {
	kerneltest.OnCPU(t)
	for _, ranks := range []int{1, 4} {
		j := shardedJob(t, 4, func(j *Job) {
			j.Recipe.Accumulate, j.Recipe.Mixup, j.OnNaN = 1, 0, OnNaNSkip
		})
		r := newRun(j, Deps{Ranks: ranks, Device: exec.Config{Threads: 1}})
		_, err := r.open(t.Context())
		require.NoError(t, err)
		before := r.m.State.Values()
		mended := spoil(r.feed)
		require.NoError(t, r.update(t.Context()))
		require.Equal(t, 1, r.state.Skipped)
		require.Equal(t, 0.5, r.state.Rate)
		require.Equal(t, before, r.m.State.Values())
		require.NoError(t, r.agree())
		where, err := r.inspect()
		require.NoError(t, err)
		require.Equal(t, "input", where) // that of the first shard is finite
		mended()
		require.NoError(t, r.update(t.Context()))
		require.NotEqual(t, before, r.m.State.Values())
		require.NoError(t, r.agree())
		if ranks > 1 {
			r.ranks[3].params.State.WriteF32(5, []float32{1})
			require.ErrorContains(t, r.agree(), "rank 3")
		}
		require.NoError(t, r.close(nil))
	}
}

// The gradient of a sharded batch is that of as many steps, accumulated, one for each shard: batch norms see the same
// images. The running statistics are the means over the shards.
func TestShardsAsSteps(t *testing.T) {
	kerneltest.OnCPU(t)
	open := func(change func(r *Recipe)) *run {
		r := newRun(shardedJob(t, 0, func(j *Job) {
			j.Recipe.Mixup, j.Recipe.DropPath, j.Recipe.EMA, j.Recipe.Clip = 0, 0, 0, 0
			j.Net = batchNormed(t)
			change(&j.Recipe)
		}), Deps{Device: exec.Config{Threads: 2}})
		_, err := r.open(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.close(nil)) })
		require.NoError(t, r.update(t.Context()))
		return r
	}
	sharded := open(func(r *Recipe) { r.Batch, r.Shards, r.Accumulate = 16, 4, 1 })
	steps := open(func(r *Recipe) { r.Batch, r.Accumulate = 4, 4 })
	a, b := sharded.m.Grad.Values(), steps.m.Grad.Values()
	most := 0.0
	for _, v := range b {
		most = max(most, math.Abs(float64(v)))
	}
	require.Greater(t, most, 1e-3)
	for i := range a {
		require.InDelta(t, b[i], a[i], 1e-6*most)
	}
	require.InDelta(t, steps.state.Loss, sharded.state.Loss, 1e-6)
	require.InDelta(t, steps.m.GradientNorm(), sharded.m.GradientNorm(), 1e-6*steps.m.GradientNorm())

	// The statistics that a shard would leave by itself.
	m := steps.m
	sum := make([]float64, m.State.Len()-m.Params)
	for shard := range 4 {
		require.NoError(t, steps.begin())
		from, to := len(sharded.feed.images)*shard/4, len(sharded.feed.images)*(shard+1)/4
		m.Images.WriteF32(0, sharded.feed.images[from:to])
		m.Labels.WriteI32(0, sharded.feed.labels[4*shard:4*shard+4])
		m.Step(0, 0)
		for i, v := range m.State.Values()[m.Params:] {
			sum[i] += float64(v)
		}
	}
	for i, v := range sharded.m.State.Values()[m.Params:] {
		require.InDelta(t, sum[i]/4, v, 1e-6)
	}
}

// batchNormed has no drawn numbers.
func batchNormed(t testing.TB) *nn.Network {
	b, x := nn.NewBuilder("normed", nn.Shape{H: 32, W: 32, C: 3})
	x = b.Scope("one").ConvNorm(x, nn.Conv2D(3, 8).Strided(2), nn.ReLU)
	b.Output(b.Apply("classifier", nn.Linear{Out: 10, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// thriceNormed is small, and has several parts of a gradient that are whole one after the other.
func thriceNormed(t testing.TB) *nn.Network {
	b, x := nn.NewBuilder("normed", nn.Shape{H: 8, W: 8, C: 3})
	x = b.Scope("one").ConvNorm(x, nn.Conv2D(3, 8), nn.ReLU)
	left, right := b.Scope("left").ConvNorm(x, nn.Conv2D(1, 8), nn.Identity),
		b.Scope("right").ConvNorm(x, nn.Conv2D(3, 8), nn.ReLU)
	x = b.Apply("add", nn.Add{}, left, right)
	b.Output(b.Apply("classifier", nn.Linear{Out: 10, Bias: true}, b.Apply("pool", nn.GlobalPool{}, x)), 1)
	net, err := b.Build()
	require.NoError(t, err)
	return net
}

// A supernet's batches in shards leave the same weights on any number of ranks: of paths that a sampler draws, several
// steps an update, and of once-for-all's stages with their teacher, sorted channels and images of several sides. One
// that stops goes on with another number of ranks.
func TestSupernetRanks(t *testing.T) {
	kerneltest.OnCPU(t)
	ofa := elasticJob(t, "shapes-ofa", func(r *SupernetRecipe) {
		r.Batch, r.Shards, r.EMA, r.Judged, r.SideStep, r.Recalibrate = 8, 4, 0.5, 0, 16, 3
		r.Stages = []string{"full epochs=1 lr=0.05", "kernel epochs=1 lr=0.05 paths=2",
			"expand1 epochs=1 lr=0.01 paths=2"}
	})
	ofa.Data.Validation = first(ofa.Data.Test, 5)
	ofa.Data.Train = first(ofa.Data.Train, 16)
	sp, err := space.Open("mobilenetv3@w0.35,r16-32,s16")
	require.NoError(t, err)
	ofa.Paths = elasticSpace{sp.(space.Shrinking)}
	drawn := cellsJob(t, func(r *SupernetRecipe) {
		r.Batch, r.Shards, r.Accumulate, r.Untouched, r.Judged = 8, 4, 2, UntouchedStay, 2
	}, oneConvolution, otherOperations)
	drawn.Data.Train, drawn.Data.Validation = first(drawn.Data.Train, 64), first(drawn.Data.Test, 8)
	rewarded := drawn
	rewarded.Recipe.Method, rewarded.Recipe.Recalibrate = MethodENAS, 0
	rewarded.Sampler = &rewarding{Sampler: drawn.Sampler, paths: []string{oneConvolution, otherOperations,
		"nasbench101:3:101:1"}}
	for name, j := range map[string]SupernetJob{"ofa": ofa, "drawn": drawn, "rewarded": rewarded} {
		t.Run(name, func(t *testing.T) {
			read := func(dir string) (all string) {
				for _, name := range []string{ResultName, WeightsName} {
					text, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					all += string(text)
				}
				return all
			}
			learned := func() string { return "" }
			train := func(ctx context.Context, d Deps) (*SupernetResult, error) {
				if s, ok := j.Sampler.(*rewarding); ok {
					s.found, learned = "", func() string { return s.found }
				}
				return TrainSupernet(ctx, j, d)
			}
			var first, found string
			for _, n := range []int{1, 4} {
				dir := t.TempDir()
				r, err := train(t.Context(), Deps{Dir: dir, Ranks: n, Device: exec.Config{Threads: 2}})
				require.NoError(t, err)
				require.NotEmpty(t, r.Paths)
				if first == "" {
					first, found = read(dir), learned()
				}
				require.Equal(t, first, read(dir), "%d ranks", n)
				require.Equal(t, found, learned(), "%d ranks", n)
			}
			dir := t.TempDir()
			for i, n := range []int{4, 1, 2} {
				ctx, cancel := context.WithCancel(t.Context())
				_, err := train(ctx, Deps{Dir: dir, Ranks: n, Device: exec.Config{Threads: 2},
					CheckpointEvery: 1, Progress: func(p Progress) {
						if p.Update == 2*i+1 {
							cancel()
						}
					}})
				cancel()
				require.ErrorIs(t, err, ErrInterrupted)
			}
			_, err := train(t.Context(), Deps{Dir: dir, Ranks: 4})
			require.NoError(t, err)
			require.Equal(t, first, read(dir))
			require.Equal(t, found, learned())
		})
	}
}

// Paths that are judged together have what each has alone, also where one of them takes more memory than any path
// before it.
func TestJudgedTogether(t *testing.T) {
	kerneltest.OnCPU(t)
	cells := []string{oneConvolution, otherOperations, "nasbench101:4:111111:00"}
	judge := func(ranks int, groups ...[]string) (found []Evaluation) {
		j := cellsJob(t, func(r *SupernetRecipe) { r.Batch, r.Shards, r.Recalibrate = 8, 4, 2 }, oneConvolution)
		j.Data.Train, j.Data.Validation = first(j.Data.Train, 64), first(j.Data.Test, 9)
		r, err := newSampledRun(j, Deps{Ranks: ranks, Device: exec.Config{Threads: 1}})
		require.NoError(t, err)
		defer func() { require.NoError(t, r.close(nil)) }()
		_, err = r.open(t.Context())
		require.NoError(t, err)
		for _, group := range groups {
			var all []wanted
			for _, key := range group {
				all = append(all, wanted{key: key})
			}
			some, err := r.judge(t.Context(), all)
			require.NoError(t, err)
			found = append(found, some...)
		}
		return found
	}
	alone := judge(1, cells[:1], cells[1:2], cells[2:])
	require.NotEqual(t, alone[0], alone[1])
	require.Equal(t, alone, judge(4, cells))
	require.Equal(t, alone, judge(2, cells))
}

// rewarding is a sampler that measures paths after each epoch, and keeps what it finds.
type rewarding struct {
	Sampler
	paths []string
	found string
}

func (r *rewarding) Learn(ctx context.Context, epoch int, measure Measure) error {
	one, err := measure(ctx, r.paths, epoch, epoch+1)
	if err != nil {
		return err
	}
	several, err := measure(ctx, r.paths[1:], 1, 6)
	r.found += fmt.Sprintln(epoch, one, several)
	return err
}

func (r *rewarding) State() ([]byte, error) { return []byte(r.found), nil }

func (r *rewarding) Restore(state []byte) error {
	r.found = string(state)
	return nil
}

// An update of a supernet that is left out in one shard is left out on every rank.
func TestSupernetRanksSkip(t *testing.T) {
	kerneltest.OnCPU(t)
	j := cellsJob(t, func(r *SupernetRecipe) { r.Batch, r.Shards = 8, 4 }, oneConvolution)
	j.OnNaN = OnNaNSkip
	r, err := newSampledRun(j, Deps{Ranks: 2, Device: exec.Config{Threads: 2}})
	require.NoError(t, err)
	_, err = r.open(t.Context())
	require.NoError(t, err)
	before := r.s.State.Values()
	mended := spoil(r.feed)
	require.NoError(t, r.update(t.Context()))
	require.Equal(t, 1, r.state.Skipped)
	require.Equal(t, before, r.s.State.Values())
	where, err := r.inspect()
	require.NoError(t, err)
	require.Contains(t, where, "input of path")
	mended()
	require.NoError(t, r.update(t.Context()))
	require.NoError(t, r.agree())
	require.NotEqual(t, before, r.s.State.Values())
	require.NoError(t, r.close(nil))
}

// The gradient of a supernet's sharded batch is that of as many steps.
func TestSupernetShardsAsSteps(t *testing.T) {
	kerneltest.OnCPU(t)
	gradient := func(change func(r *SupernetRecipe)) ([]float32, float64, float64) {
		r, err := newSampledRun(cellsJob(t, change, otherOperations), Deps{Device: exec.Config{Threads: 2}})
		require.NoError(t, err)
		_, err = r.open(t.Context())
		require.NoError(t, err)
		require.NoError(t, r.update(t.Context()))
		g, norm := r.s.Grad.Values(), r.s.GradientNorm()
		require.NoError(t, r.close(nil))
		return g, norm, r.state.Loss
	}
	a, norm, loss := gradient(func(r *SupernetRecipe) { r.Batch, r.Shards = 16, 4 })
	b, want, mean := gradient(func(r *SupernetRecipe) { r.Batch, r.Accumulate = 4, 4 })
	require.InDelta(t, mean, loss, 1e-6)
	require.InDelta(t, want, norm, 1e-5*want)
	require.Greater(t, want, 1e-2)
	for i := range a {
		require.InDelta(t, b[i], a[i], 1e-6*want)
	}
}

// What a rank adds up of its shards, one after the other, is what ranks add up together: also of zeros with a sign and
// of what is not finite.
func TestShardsAsRanks(t *testing.T) {
	kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
		m, err := NewModel(d, batchNormed(t), Options{Batch: 1, Shards: 8})
		require.NoError(t, err)
		defer m.Close()
		for _, n := range []int{2, 8} {
			var each []*exec.Buffer
			for range n {
				values := make([]float32, m.Grad.Len())
				for k := range values {
					switch k % 3 {
					case 0:
						values[k] = float32(math.Copysign(0, float64(rand.IntN(5)-4)))
					case 1:
						values[k] = float32(math.Ldexp(rand.Float64()-0.5, rand.IntN(40)-20))
					default:
						odd := []float64{1, math.Inf(1), math.Inf(-1), math.NaN()}
						values[k] = float32(odd[max(0, rand.IntN(20)-16)])
					}
				}
				each = append(each, m.arena.Floats(values))
			}
			s := newSharding(m.Parameters, nil, n, n, 1, 0)
			for shard, b := range each {
				s.next(shard)
				m.Grad.WriteF32(0, b.Values())
				s.took(shard)
			}
			require.NoError(t, exec.SumTree(each, nil))
			bits := func(b *exec.Buffer) (out []uint32) {
				for _, v := range b.Values() {
					if v != v { // one NaN is as good as another
						v = float32(math.NaN())
					}
					out = append(out, math.Float32bits(v))
				}
				return out
			}
			require.Equal(t, bits(each[0]), bits(m.Grad), "%d shards", n)
		}
	})
}

// Several devices find what one does, where there are fewer batches than devices too, and of the last, smaller batch.
func TestEvaluateAll(t *testing.T) {
	kerneltest.OnCPU(t)
	d := shapesJob(t, nil).Data
	var models []*Model
	for range 3 {
		m, err := NewModel(openTest(t), headedNetwork(t), Options{Batch: 4, EvalOnly: true})
		require.NoError(t, err)
		defer m.Close()
		m.Initialize(nn.HeFanOut, 3)
		models = append(models, m)
	}
	for _, images := range []int{1, 4, 7, 12, 18} {
		var one Evaluation
		for n := 1; n <= len(models); n++ {
			e, err := EvaluateAll(t.Context(), models[:n], d, first(d.Train, images), d.EvalTransform(32), Loading{})
			require.NoError(t, err)
			if n == 1 {
				one = e
			}
			require.Equal(t, one, e, "%d images on %d devices", images, n)
			require.Equal(t, images, e.Images)
		}
	}
}

// Devices that cannot divide the shards are told what would fit.
func TestCheckRanks(t *testing.T) {
	r := RecipeDefaults()
	r.Batch = 48
	require.NoError(t, r.CheckRanks(1))
	require.EqualError(t, r.CheckRanks(2), "shards 0: 2 devices cannot divide a batch of 1 shards among them: want 1 "+
		"of them, or --shards 2 (results depend on shards, not on devices)")
	r.Shards = 4
	for _, n := range []int{1, 2, 4} {
		require.NoError(t, r.CheckRanks(n))
	}
	require.ErrorContains(t, r.CheckRanks(3), "want 2 of them (results")
	require.ErrorContains(t, r.CheckRanks(8), "want 4 of them, or --shards 8 (")
	for _, bad := range []int{3, 32, 128} {
		r.Shards = bad
		require.ErrorContains(t, r.Check(), "shards")
	}
}

// A feed puts each shard where it belongs, of images that are smaller than the largest ones too, one batch ahead on
// accelerators, which make the images themselves: of bytes, and the same batches.
func TestFeedOfShards(t *testing.T) {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.985})
	require.NoError(t, err)
	const receivers, shards, images = 2, 2, 3 // a shard
	tr := d.TrainTransform(12)
	tr.Jitter = data.Jitter{Brightness: 0.3, Contrast: 0.3, Saturation: 0.3}
	c := data.Config{Batch: receivers * shards * images, Transform: tr, Sides: []int{5, 9, 12}, Seed: 3, Train: true,
		Mixup: 0.5, Shards: receivers * shards}
	kerneltest.EachExecutor(t, func(t *testing.T, dev *exec.Device) {
		plain, err := data.NewLoader(d.Train, c)
		require.NoError(t, err)
		defer plain.Close()
		raw := c
		raw.Raw = dev.Accelerated()
		l, err := data.NewLoader(d.Train, raw)
		require.NoError(t, err)
		a := dev.NewArena()
		defer a.Free()
		var to []receiver
		for range receivers {
			to = append(to, receiver{arena: a, in: newInputs(a, images, 12*12*3, 10, false, true)})
		}
		f := newFeed(l, 5, portion{all: receivers * shards, each: shards}, to...)
		defer f.close()
		for range 5 {
			want, err := plain.Next(t.Context())
			require.NoError(t, err)
			b, err := f.take(t.Context())
			require.NoError(t, err)
			require.Equal(t, want.Labels, b.Labels)
			require.Equal(t, want.Side, b.Side)
			f.ahead(t.Context())
			size := images * want.Side * want.Side * 3
			for _, shard := range []int{0, 1, 0} {
				for i := range receivers {
					f.place(i, shard)
					got, labels, partners := make([]float32, size), make([]int32, images), make([]int32, images)
					to[i].in.Images.ReadF32(0, got)
					to[i].in.Labels.ReadI32(0, labels)
					to[i].in.Partners.ReadI32(0, partners)
					at := i*shards + shard
					require.Equal(t, want.Labels[at*images:(at+1)*images], labels)
					require.Equal(t, want.Partners[at*images:(at+1)*images], partners)
					require.InDeltaSlice(t, want.Images[at*size:(at+1)*size], got, 2e-5)
					require.Equal(t, want.Weight, to[i].in.Mix.Values()[0])
				}
			}
		}
	})
}

// Accelerators' ranks have the same sum, through the host's memory or by copies from each other, beside the backward
// pass or behind it, of several shards a rank and several steps an update too. On the fake driver the sums are done as
// late as may be, which a rank that does not wait for them shows, and as early, which those show that do not wait.
func TestAcceleratorRanks(t *testing.T) {
	fake := os.Getenv("CTNAS_FAKE_CUDA")
	for _, name := range kerneltest.Accelerators() {
		for _, shards := range []int{2, 4} {
			var first []float32
			for _, c := range []struct {
				ranks, bucket int
				fake          string
			}{{1, 1, ""}, {2, 1, ""}, {2, 1, ",ahead"}, {2, 100, ",ahead"}, {2, leastBucket, ""}} {
				t.Setenv("CTNAS_FAKE_CUDA", cmp.Or(fake, "devices:2")+c.fake)
				devices := strings.Join(kerneltest.Alike(t, name, c.ranks), ",")
				j := shardedJob(t, shards, func(j *Job) {
					j.Recipe.Batch, j.Recipe.Accumulate, j.Net = 2*shards, shards/2, thriceNormed(t)
				})
				r := newRun(j, Deps{Device: exec.Config{Device: devices}})
				r.bucket = c.bucket
				_, err := r.open(t.Context())
				require.NoError(t, err)
				beside := c.ranks > 1 && c.bucket < leastBucket && exec.Peers([]*exec.Device{r.dev})
				require.Equal(t, beside, len(r.buckets) > 0)
				for range 2 {
					require.NoError(t, r.update(t.Context()))
				}
				require.NoError(t, r.agree())
				got := r.m.State.Values()
				if first == nil {
					first = got
				}
				require.Equal(t, first, got, "%+v", c)
				require.Equal(t, strings.Split(devices, ","), r.devices)
				require.NoError(t, r.close(nil))
			}
		}
	}
}

// A step that is cut computes what the whole one does, to the bit, and at each cut the end of the gradient is whole.
// Each part is a bucket at least, but for the last.
func TestSegments(t *testing.T) {
	for name, c := range map[string]struct {
		net     *nn.Network
		bucket  int
		several bool
	}{"heads": {headedNetwork(t), 200, true}, "normed": {thriceNormed(t), 1, true},
		"all at once": {thriceNormed(t), 1 << 20, false}} {
		t.Run(name, func(t *testing.T) {
			kerneltest.EachExecutor(t, func(t *testing.T, d *exec.Device) {
				var models [2]*Model
				for i, bucket := range []int{0, c.bucket} {
					m, err := NewModel(d, c.net, Options{Batch: 2, Shards: 2, Bucket: bucket, Seed: 3})
					require.NoError(t, err)
					defer m.Close()
					m.Initialize(nn.HeFanOut, 3)
					_, images := kerneltest.Random(m.Images.Len(), 5)
					m.Images.WriteF32(0, narrow(images))
					m.Labels.WriteI32(0, []int32{1, 0})
					models[i] = m
				}
				whole, cut := models[0], models[1]
				require.Empty(t, whole.rest)
				require.Equal(t, c.several, len(cut.rest) > 1, len(cut.rest))
				whole.Step(1, 0)
				want := whole.Grad.Values()
				cut.begin(1, 0)
				to := cut.Params
				for _, s := range cut.rest {
					require.GreaterOrEqual(t, to-s.whole, c.bucket)
					require.Equal(t, want[s.whole:], cut.Grad.Values()[s.whole:])
					to = s.whole
					s.program.Run(1)
				}
				require.Equal(t, want, cut.Grad.Values())
				require.Equal(t, whole.Loss.Values(), cut.Loss.Values())
				cut.Step(1, 0)
				require.Equal(t, want, cut.Grad.Values())
			})
		})
	}
}

// Of MobileNetV3-Large's gradient the most is summed while the step goes on, by few launches more.
func TestBuckets(t *testing.T) {
	net, err := zoo.MobileNetV3Large(224, 1000)
	require.NoError(t, err)
	d := exec.OpenRecorder(exec.BF16)
	count := func(bucket int) (m *Model, launches int) {
		m, err := NewModel(d, net, Options{Batch: 256, Shards: 2, Bucket: bucket})
		require.NoError(t, err)
		launches = len(m.training[0].Launches())
		for _, s := range m.rest {
			launches += len(s.program.Launches())
		}
		return m, launches
	}
	whole, least := count(0)
	defer whole.Close()
	m, all := count(leastBucket)
	defer m.Close()
	require.GreaterOrEqual(t, len(m.rest), 2)
	require.LessOrEqual(t, all, least+2*len(m.rest)+2)
	to, left := m.Params, all-len(m.training[0].Launches())
	for _, s := range m.rest {
		require.Positive(t, left)
		t.Logf("%.1f MiB are whole with %d of %d launches to come", float64(to-s.whole)/(1<<18), left, all)
		left -= len(s.program.Launches())
		to = s.whole
	}
	t.Logf("%.1f MiB are summed behind them; %d launches without cuts", float64(to)/(1<<18), least)
	require.Less(t, to, m.Params/2)
}
