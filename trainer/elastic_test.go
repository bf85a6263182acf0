package trainer

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// elasticSpace is a space as a supernet's training sees it.
type elasticSpace struct{ space.Shrinking }

func (e elasticSpace) Supernet(classes int) (nn.Shared, error) {
	return e.Shrinking.Supernet(space.NetworkSize{Classes: classes})
}

func (e elasticSpace) Sides() (least, most int) {
	all := e.Shrinking.(space.MobileNetV3).Resolutions()
	return all[0], all[len(all)-1]
}

func (e elasticSpace) Largest(side int) string  { return e.Shrinking.Largest(side).String() }
func (e elasticSpace) Smallest(side int) string { return e.Shrinking.Smallest(side).String() }

func (e elasticSpace) Sample(s *philox.Stream, c zoo.Choices, side int) (string, error) {
	a, err := e.SamplePath(s, c, side)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

func (e elasticSpace) Path(path string, classes int) (nn.Path, error) {
	a, err := e.Parse(path)
	if err != nil {
		return nn.Path{}, err
	}
	return e.Shrinking.Path(a, space.NetworkSize{Classes: classes})
}

func (e elasticSpace) Sort(s nn.Shared, values [][]float32, trained []int) (func([][]float32) ([][]float32, error),
	error) {
	order, err := e.SortChannels(s, values, trained...)
	return func(values [][]float32) ([][]float32, error) { return order.Apply(s, values) }, err
}

// elasticJob trains the supernet of a small space on images of 16 pixels for some updates.
func elasticJob(t testing.TB, recipe string, change func(r *SupernetRecipe)) SupernetJob {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.975})
	require.NoError(t, err)
	sp, err := space.Open("mobilenetv3@w0.35,r16,s16")
	require.NoError(t, err)
	r, err := OpenSupernetRecipe(recipe)
	require.NoError(t, err)
	r.Epochs, r.Batch, r.Recalibrate, r.Judged = 2, 25, 1, 1
	if change != nil {
		change(&r)
	}
	d.Validation = &data.Set{}
	return SupernetJob{Space: sp.Name(), Paths: elasticSpace{sp.(space.Shrinking)}, Data: d, Source: "shapes",
		Recipe: r, Seed: 7, OnNaN: OnNaNStop}
}

// first are the first images of a set.
func first(s *data.Set, n int) *data.Set {
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	return s.Subset(places)
}

// trainElastic runs a training, and again and again stopped at random updates, with other threads and with paths that
// are recorded anew every time: both end in the same bytes, which it returns the result of.
func trainElastic(t *testing.T, j SupernetJob) *SupernetResult {
	kerneltest.OnCPU(t)
	whole, dir := t.TempDir(), t.TempDir()
	result, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: whole})
	require.NoError(t, err)
	s := philox.New(99, philox.PurposeTest, 2)
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		left := 2 + s.Intn(result.Cost.Updates/2)
		j.Cache = int64(stops % 2) // a byte, or as many as there may be
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
	require.Positive(t, stops)
	for _, name := range []string{ResultName, WeightsName, WeightsTorchName} {
		requireSameFile(t, filepath.Join(whole, name), filepath.Join(dir, name))
	}
	again, err := TrainSupernet(t.Context(), j, Deps{Dir: dir})
	require.NoError(t, err)
	require.True(t, again.Finished)
	j.Seed++
	_, err = TrainSupernet(t.Context(), j, Deps{Dir: dir})
	require.ErrorContains(t, err, "checkpoint of another training. Different are: the seed (7 then, 8 now)")
	return result
}

// The largest, the smallest and a random path learn; whatever stops the training, it ends in the same bytes.
func TestSandwich(t *testing.T) {
	j := elasticJob(t, "shapes", func(r *SupernetRecipe) {
		r.Epochs, r.Accumulate, r.EMA, r.DropPath, r.Dropout, r.ZeroGamma = 3, 2, 0.5, 0.2, 0.2, true
	})
	j.Data.Validation = first(j.Data.Test, 50)
	r := trainElastic(t, j)
	require.Equal(t, []any{MethodSandwich, 6, int64(300), int64(3 * 12)},
		[]any{r.Method, r.Cost.Updates, r.Cost.Images, r.Cost.Steps})
	require.Len(t, r.TrainLoss, 3)
	require.Less(t, float64(r.TrainLoss[2]), float64(r.TrainLoss[0]))
	require.Len(t, r.Paths, 3*3)
	roles := map[string]string{}
	for _, p := range r.Paths {
		require.Equal(t, 50, p.Images)
		require.Equal(t, cmp.Or(roles[p.Role], p.Path), p.Path, "the same path in every epoch")
		roles[p.Role] = p.Path
	}
	require.Equal(t, j.Paths.(Elastic).Largest(16), roles[RoleLargest])
	require.Equal(t, j.Paths.(Elastic).Smallest(16), roles[RoleSmallest])
	require.Contains(t, roles, "random 1")

	// What the paths take is counted: of an update the largest's and the smallest's is known.
	classes := len(j.Data.Classes)
	madds := func(path string) int64 {
		p, err := j.Paths.(Elastic).Path(path, classes)
		require.NoError(t, err)
		return p.Cost().MAdds
	}
	sure := uint64(3 * 300 * (madds(roles[RoleLargest]) + madds(roles[RoleSmallest])))
	require.Greater(t, r.Cost.MAdds, sure+3*300*uint64(madds(roles[RoleSmallest])))
	require.Less(t, r.Cost.MAdds, sure+3*300*uint64(madds(roles[RoleLargest])))
}

// Progressive shrinking goes through its stages, with its first one's network as the teacher; stopped anywhere it ends
// in the same bytes. From a file of that network it begins with the stage behind it.
func TestShrinking(t *testing.T) {
	j := elasticJob(t, "shapes-ofa", func(r *SupernetRecipe) {
		r.Stages = []string{"full epochs=2 lr=0.05", "kernel epochs=1 lr=0.05", "depth2 epochs=1 lr=0.02 paths=2",
			"expand1 epochs=1 lr=0.02 paths=2", "expand2 epochs=1 lr=0.02 paths=2"}
		r.Dropout = 0.1
	})
	j.Data.Train = first(j.Data.Train, 50)
	r := trainElastic(t, j)
	require.Equal(t, SupernetCost{Updates: 12, Images: 300, Steps: 2*2 + 2 + 3*2*2, Teacher: 8, MAdds: r.Cost.MAdds},
		r.Cost)

	dir := t.TempDir()
	j.Recipe.Stages = j.Recipe.Stages[:1]
	_, err := TrainSupernet(t.Context(), j, Deps{Dir: dir})
	require.NoError(t, err)
	j.Teacher = filepath.Join(dir, WeightsName)
	_, err = TrainSupernet(t.Context(), j, Deps{})
	require.ErrorContains(t, err, "there is no stage behind full")
	j.Recipe.Stages = []string{"full epochs=2 lr=0.05", "kernel epochs=1 lr=0.05"}
	taught, err := TrainSupernet(t.Context(), j, Deps{})
	require.NoError(t, err)
	require.Equal(t, 2, taught.Cost.Updates)
	require.Len(t, taught.Teacher, 64)
	largest, err := j.Paths.(Elastic).Path(j.Paths.(Elastic).Largest(16), len(j.Data.Classes))
	require.NoError(t, err)
	j.Teacher = filepath.Join(dir, "network.safetensors") // that network by itself
	require.NoError(t, WriteWeights(j.Teacher, largest.Network, largest.Initialize(nn.HeFanOut, 3), nil))
	other, err := TrainSupernet(t.Context(), j, Deps{})
	require.NoError(t, err)
	require.NotEqual(t, taught.Teacher, other.Teacher)
	require.NotEqual(t, taught.TrainLoss, other.TrainLoss)
	j.Teacher, j.Recipe.Stages = "", j.Recipe.Stages[1:]
	_, err = TrainSupernet(t.Context(), j, Deps{})
	require.ErrorContains(t, err, "the first stage is kernel: want full, or a teacher")
	j = elasticJob(t, "shapes", nil)
	j.Teacher = filepath.Join(dir, WeightsName)
	_, err = TrainSupernet(t.Context(), j, Deps{})
	require.ErrorContains(t, err, "a teacher is for method ofa")
}

// Sorting the channels before a stage leaves the largest path's predictions as they were, and the optimizer begins
// anew.
func TestSortingBetweenStages(t *testing.T) {
	j := elasticJob(t, "shapes-ofa", func(r *SupernetRecipe) {
		r.Stages = []string{"full epochs=1 lr=0.05", "expand1 epochs=1 lr=0.02"}
		r.EMA = 0.5
	})
	j.Data.Validation = first(j.Data.Test, 50)
	r, err := newElasticRun(j, Deps{Device: exec.Config{Threads: 2}})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close(nil)) }()
	_, err = r.open(t.Context())
	require.NoError(t, err)
	for range 4 {
		require.NoError(t, r.update(t.Context()))
	}
	largest := j.Paths.(Elastic).Largest(16)
	values, mean := r.s.Values(), r.o.mean.Values()
	before, err := r.judge(t.Context(), []wanted{{key: largest}})
	require.NoError(t, err)
	require.NoError(t, r.ready())
	after, err := r.judge(t.Context(), []wanted{{key: largest}})
	require.NoError(t, err)
	require.InEpsilon(t, float64(before[0].Loss), float64(after[0].Loss), 1e-4,
		"but for rounding in sums of another order")
	require.Equal(t, before[0].Top1, after[0].Top1)
	require.NotEqual(t, values, r.s.Values())
	require.NotEqual(t, mean, r.o.mean.Values())
	require.Equal(t, make([]float32, r.s.Params), r.o.moments[0].Values())
	require.Equal(t, 1, r.state.Elastic.Stage)
}
