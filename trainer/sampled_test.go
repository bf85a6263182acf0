package trainer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// cells are paths of small cells, and a sampler of some of them in turn.
type cells struct {
	sp   space.NASBench101
	size space.NetworkSize
	turn []string
}

func (c cells) of(classes int) space.NetworkSize {
	size := c.size
	size.Classes = classes
	return size
}

func (c cells) Supernet(classes int) (nn.Shared, error) { return c.sp.Supernet(c.of(classes)) }

func (c cells) Path(path string, classes int) (nn.Path, error) {
	return c.sp.WrittenPath(path, c.of(classes))
}

func (c cells) Decisions() []nn.Row                     { return c.sp.Decisions() }
func (c cells) Chosen(path string) ([]nn.Choice, error) { return c.sp.Chosen(path) }
func (c cells) Paths(update int) ([]string, error)      { return []string{c.turn[update%len(c.turn)]}, nil }
func (cells) Learn(context.Context, int, Measure) error { return nil }
func (cells) State() ([]byte, error)                    { return nil, nil }
func (cells) Restore([]byte) error                      { return nil }

// cellsJob trains cells in turn.
func cellsJob(t *testing.T, change func(*SupernetRecipe), turn ...string) SupernetJob {
	d, err := data.Open("shapes", data.Options{Seed: 1, ValSplit: 0.975})
	require.NoError(t, err)
	d.Validation = &data.Set{}
	sp, err := space.Open("nasbench101-v4")
	require.NoError(t, err)
	r := SupernetRecipeDefaults()
	r.Method, r.Epochs, r.Batch, r.WeightDecay, r.LR = MethodSPOS, 2, 25, 0.01, 0.05
	r.Channels, r.Stacks, r.Modules, r.Resolution = 4, 2, 1, 8
	change(&r)
	c := cells{sp.(space.NASBench101), space.NetworkSize{Side: 8, Channels: 4, Stacks: 2, Modules: 1}, turn}
	return SupernetJob{Space: sp.Name(), Paths: c, Sampler: c, Data: d, Source: "shapes", Recipe: r, Seed: 7,
		OnNaN: OnNaNStop}
}

// Two cells: one of a 3x3 convolution, one of a pooling and of a 1x1 convolution.
const (
	oneConvolution  = "nasbench101:3:101:0"
	otherOperations = "nasbench101:4:100101:21"
)

// touchedBy are the shared variables that a path has.
func touchedBy(t *testing.T, c cells, path string, classes int) map[int]bool {
	p, err := c.Path(path, classes)
	require.NoError(t, err)
	touched := map[int]bool{}
	for _, b := range p.Bindings {
		touched[b.Shared] = true
	}
	return touched
}

// What no path of a training has stays at its start where it is to stay, and decays otherwise; with both the training
// may stop anywhere.
func TestUntouchedVariables(t *testing.T) {
	for _, untouched := range []string{UntouchedMove, UntouchedStay} {
		for _, optimizer := range []string{"sgd", "rmsprop"} {
			t.Run(fmt.Sprint(untouched, " ", optimizer), func(t *testing.T) {
				j := cellsJob(t, func(r *SupernetRecipe) {
					r.Untouched, r.Optimizer, r.EMA = untouched, optimizer, 0.5
				}, oneConvolution)
				c := j.Paths.(cells)
				whole := trainElastic(t, j)
				classes := len(whole.Classes)
				shared, err := c.Supernet(classes)
				require.NoError(t, err)
				before := shared.Initialize(initializers[j.Recipe.Init], j.Seed)
				dir := t.TempDir()
				_, err = TrainSupernet(t.Context(), j, Deps{Dir: dir, Device: exec.Config{Threads: 1}})
				require.NoError(t, err)
				after, err := ReadShared(dir+"/"+WeightsName, shared)
				require.NoError(t, err)
				touched := touchedBy(t, c, oneConvolution, classes)
				require.Less(t, len(touched), len(shared.Variables))
				for i, v := range shared.Variables {
					if v.Role != nn.Weight {
						continue
					}
					if untouched == UntouchedStay && !touched[i] {
						require.Equal(t, before[i], after[i], v.Name)
					} else {
						require.NotEqual(t, before[i], after[i], v.Name)
					}
				}
			})
		}
	}
}

// How often each choice was trained is counted, once an update however many batches that has, over stops too.
func TestFairness(t *testing.T) {
	j := cellsJob(t, func(r *SupernetRecipe) { r.Accumulate, r.Epochs = 2, 3 }, oneConvolution, otherOperations)
	r := trainElastic(t, j)
	require.Equal(t, 6, r.Cost.Updates)
	ops := []string{"conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"}
	require.Equal(t, []Fairness{{"vertex1", ops, []int64{3, 0, 3}, 0, 3}, {"vertex2", ops, []int64{0, 3, 0}, 0, 3}},
		r.Fairness)
	other, err := TrainSupernet(t.Context(), elasticJob(t, "shapes", nil), Deps{})
	require.NoError(t, err)
	require.Nil(t, other.Fairness)
}

// learning is a sampler that learns: how many epochs have passed.
type learning struct {
	cells
	learned []byte
}

func (l *learning) Learn(context.Context, int, Measure) error {
	l.learned = append(l.learned, '+')
	return nil
}

func (l *learning) State() ([]byte, error) { return l.learned, nil }

func (l *learning) Restore(state []byte) error {
	l.learned = slices.Clone(state)
	return nil
}

// Who asks again for a training that has ended gets its sampler as it was at the end: candidates are drawn by it.
func TestEndedTrainingHasItsSampler(t *testing.T) {
	j := cellsJob(t, func(*SupernetRecipe) {}, oneConvolution)
	j.Data.Validation = j.Data.Train
	dir := t.TempDir()
	for _, what := range []string{"trained", "ended"} {
		l := &learning{cells: j.Paths.(cells)}
		j.Sampler = l
		_, err := TrainSupernet(t.Context(), j, Deps{Dir: dir, Device: exec.Config{Threads: 1}})
		require.NoError(t, err, what)
		require.Equal(t, "++", string(l.learned), what)
	}
}

// Momentum does not move what the latest update's path has not; what it has moves as ever. On every device.
func TestMomentumOfUntouchedVariables(t *testing.T) {
	kerneltest.EachDevice(t, func(t *testing.T, d *exec.Device) {
		c := cellsJob(t, func(*SupernetRecipe) {}, oneConvolution, otherOperations).Paths.(cells)
		shared, err := c.Supernet(5)
		require.NoError(t, err)
		train := func(stay bool, updates int) [][]float32 {
			s, err := NewSupernet(d, shared, SupernetOptions{Batch: 3, Image: nn.Shape{H: 8, W: 8, C: 3}, Classes: 5})
			require.NoError(t, err)
			defer s.Close()
			if stay {
				s.leaveUntouched()
			}
			o, err := newOptimizer(s.Parameters, Optimization{Optimizer: "sgd", Momentum: 0.9})
			require.NoError(t, err)
			s.SetValues(shared.Initialize(nn.HeFanOut, 3))
			images, _ := kerneltest.Random(s.Images.Len(), 1)
			s.Images.WriteF32(0, images)
			s.Labels.WriteI32(0, []int32{1, 4, 0})
			for k, path := range c.turn[:updates] {
				m, err := s.Path(path, PathOptions{}, func() (nn.Path, error) { return c.Path(path, 5) })
				require.NoError(t, err)
				s.ZeroGradient()
				m.Step(uint32(k), 0)
				s.touch([]*Model{m})
				s.FinishGradient()
				o.update(0.1)
			}
			return s.Values()
		}
		first, moved, stayed := train(true, 1), train(false, 2), train(true, 2)
		require.Equal(t, train(false, 1), first, "nothing has momentum yet")
		seen := map[string]bool{}
		one, other := touchedBy(t, c, c.turn[0], 5), touchedBy(t, c, c.turn[1], 5)
		for i, v := range shared.Variables {
			if v.Role != nn.Weight {
				continue
			}
			switch {
			case other[i]:
				require.Equal(t, moved[i], stayed[i], v.Name)
				require.NotEqual(t, first[i], stayed[i], v.Name)
				seen["has"] = true
			case one[i]:
				require.Equal(t, first[i], stayed[i], v.Name)
				require.NotEqual(t, first[i], moved[i], v.Name)
				seen["had"] = true
			default:
				require.Equal(t, first[i], moved[i], v.Name)
				seen["never had"] = true
			}
		}
		require.Len(t, slices.Collect(maps.Keys(seen)), 3)
	})
}

// breaking is cells whose training is broken off while an update is between two of its batches.
type breaking struct {
	cells
	at   int // the update
	stop func()
}

func (b breaking) Paths(update int) ([]string, error) {
	if update == b.at {
		b.stop()
	}
	return b.cells.Paths(update)
}

// An update that is broken off between its batches has not happened, not in what is counted either.
func TestUpdatesBreakOff(t *testing.T) {
	j := cellsJob(t, func(r *SupernetRecipe) { r.Accumulate = 2 }, oneConvolution, otherOperations)
	whole, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	require.Greater(t, whole.Cost.Updates, 2)
	dir, c := t.TempDir(), j.Sampler.(cells)
	for at := range whole.Cost.Updates {
		ctx, cancel := context.WithCancel(t.Context())
		j.Sampler = breaking{c, at, cancel}
		_, err := TrainSupernet(ctx, j, Deps{Device: exec.Config{Threads: 1}, Dir: dir})
		cancel()
		require.ErrorIs(t, err, ErrInterrupted)
	}
	j.Sampler = c
	again, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, whole.Cost, again.Cost)
	require.Equal(t, whole.Fairness, again.Fairness)
	require.Equal(t, whole.TrainLoss, again.TrainLoss)
}
