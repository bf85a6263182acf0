package trainer

import (
	"cmp"
	"context"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
	"github.com/ctnas/ctnas/trainer/nn/reference"
)

// normsAlone is a job whose shards differ from a whole batch by their batch norms alone.
func normsAlone(t *testing.T, shards int, change func(r *Recipe)) Job {
	return shardedJob(t, shards, func(j *Job) {
		r := &j.Recipe
		r.Accumulate, r.Mixup, r.DropPath, r.EMA, r.Clip = 1, 0, 0, 0, 0
		j.Net = thriceNormed(t)
		change(r)
	})
}

// updated is a run behind one update.
func updated(t *testing.T, j Job, d Deps) *run {
	r := newRun(j, d)
	_, err := r.open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.close(nil)) })
	require.NoError(t, r.update(t.Context()))
	require.NoError(t, r.agree())
	return r
}

// Batch norms over all shards have the gradient and the running statistics of one batch: those of a training that does
// not divide it, and those of the reference, in float64. Norms over a shard have others.
func TestSyncBN(t *testing.T) {
	kerneltest.OnCPU(t)
	d := Deps{Ranks: 2, Device: exec.Config{Threads: 2}}
	shared := updated(t, normsAlone(t, 4, func(r *Recipe) { r.SyncBN = true }), d)
	require.Len(t, shared.ranks, 4)
	ghosts := updated(t, normsAlone(t, 4, func(*Recipe) {}), d)
	whole := updated(t, normsAlone(t, 0, func(r *Recipe) { r.SyncBN = true }), Deps{Device: d.Device})

	fresh := newRun(normsAlone(t, 0, func(*Recipe) {}), Deps{Device: d.Device})
	_, err := fresh.open(t.Context())
	require.NoError(t, err)
	ref := reference.New(fresh.Net, fresh.m.Values())
	require.NoError(t, fresh.close(nil))
	images := make([]float64, len(whole.feed.images))
	for i, v := range whole.feed.images {
		images[i] = float64(v)
	}
	labels := make([]int, len(whole.feed.labels))
	for i, v := range whole.feed.labels {
		labels[i] = int(v)
	}
	pass := ref.Forward(images, len(labels), reference.Mode{Train: true})
	_, outputs := pass.Loss(nn.Loss{}, labels, nil)
	want := pass.Backward(outputs...).Values
	pass.UpdateStatistics()

	differs := false
	for i, v := range whole.Net.Variables() {
		if !v.Role.Trainable() {
			for k, w := range ref.Values[i] {
				require.InDelta(t, w, shared.m.Values()[i][k], 1e-5*math.Max(1, math.Abs(w)), v.Name)
				differs = differs || math.Abs(w-float64(ghosts.m.Values()[i][k])) > 1e-4*math.Max(1, math.Abs(w))
			}
			continue
		}
		most := 0.0
		for _, g := range want[i] {
			most = max(most, math.Abs(g))
		}
		require.Positive(t, most, v.Name)
		got, one, ghost := shared.m.Gradients()[i], whole.m.Gradients()[i], ghosts.m.Gradients()[i]
		apart := 0.0
		for k, g := range want[i] {
			require.InDelta(t, g, got[k], 2e-5*most, v.Name)
			require.InDelta(t, one[k], got[k], 2e-5*most, v.Name)
			apart = max(apart, math.Abs(g-float64(ghost[k])))
		}
		require.Greater(t, apart, 1e-3*most, "%s: the norms of shards alone have the same gradient", v.Name)
	}
	require.True(t, differs, "the norms of shards alone have the same variances")
	require.InDelta(t, whole.state.Loss, shared.state.Loss, 1e-6)
}

// Weights depend on the shards alone, whatever ranks and nodes divide them, and a training may go on with others.
func TestSyncRanks(t *testing.T) {
	kerneltest.OnCPU(t)
	job := func() Job {
		return shardedJob(t, 4, func(j *Job) {
			j.Recipe.SyncBN = true
			j.Data.Train = first(j.Data.Train, 96)
			j.OnCorrupt = data.OnCorrupt{Skip: true}
		})
	}
	whole := t.TempDir()
	want, err := Train(t.Context(), job(), Deps{Dir: whole, Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	for _, c := range []struct{ nodes, ranks int }{{2, 2}, {4, 1}} {
		dir := t.TempDir()
		results, errs := onNodes(t, c.nodes, dir, func(_ int, d Deps) (*Result, error) {
			d.Ranks = c.ranks
			return Train(t.Context(), job(), d)
		})
		for i := range results {
			require.NoError(t, errs[i])
			require.Equal(t, want, results[i])
		}
		require.Equal(t, weightsOf(t, whole), weightsOf(t, dir), "%+v", c)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Train(ctx, job(), Deps{Dir: dir, Ranks: 4, Device: exec.Config{Threads: 1}, CheckpointEvery: 1,
		Progress: func(p Progress) {
			if p.Update == 1 {
				cancel()
			}
		}})
	require.ErrorIs(t, err, ErrInterrupted)
	got, err := Train(t.Context(), job(), Deps{Dir: dir, Ranks: 2, Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, weightsOf(t, whole), weightsOf(t, dir))
}

// The paths of a supernet have the norms of the whole batch too, as many as there are in an update.
func TestSyncSupernet(t *testing.T) {
	kerneltest.OnCPU(t)
	update := func(shards, ranks int, sync bool) *sampledRun {
		j := cellsJob(t, func(r *SupernetRecipe) { r.Batch, r.Shards, r.SyncBN = 16, shards, sync }, oneConvolution,
			otherOperations)
		r, err := newSampledRun(j, Deps{Ranks: ranks, Device: exec.Config{Threads: 1}})
		require.NoError(t, err)
		_, err = r.open(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.close(nil)) })
		require.NoError(t, r.update(t.Context()))
		require.NoError(t, r.agree())
		return r
	}
	apart := func(a, b *sampledRun) (most float64) {
		size := 0.0
		for i, v := range a.s.Grad.Values() {
			most = max(most, math.Abs(float64(v-b.s.Grad.Values()[i])))
			size = max(size, math.Abs(float64(v)))
		}
		return most / size
	}
	whole, one, two := update(0, 1, false), update(2, 1, true), update(2, 2, true)
	require.Less(t, apart(whole, one), 1e-4)
	require.Greater(t, apart(whole, update(2, 1, false)), 1e-3)
	require.Equal(t, one.s.State.Values(), two.s.State.Values())
}

// A shard whose loss is not finite spoils the norms of all: the update is left out everywhere, and the shard is named.
func TestSyncSkip(t *testing.T) {
	kerneltest.OnCPU(t)
	j := normsAlone(t, 4, func(r *Recipe) { r.SyncBN = true })
	j.OnNaN = OnNaNSkip
	r := newRun(j, Deps{Ranks: 2, Device: exec.Config{Threads: 1}})
	_, err := r.open(t.Context())
	require.NoError(t, err)
	before, mended := r.m.State.Values(), spoil(r.feed)
	require.NoError(t, r.update(t.Context()))
	require.Equal(t, 1, r.state.Skipped)
	require.Equal(t, before, r.m.State.Values())
	mended()
	require.NoError(t, r.update(t.Context()))
	require.NotEqual(t, before, r.m.State.Values())
	require.NoError(t, r.agree())
	require.NoError(t, r.close(nil))
}

// Accelerators' ranks have the same norms, through the host's memory or by copies from each other, in both orders of
// the fake driver; two ranks of one GPU too.
func TestAcceleratorSync(t *testing.T) {
	fake := os.Getenv("CTNAS_FAKE_CUDA")
	for _, name := range kerneltest.Accelerators() {
		var first []float32
		for _, c := range []struct {
			ranks int
			fake  string
		}{{1, ""}, {2, ""}, {2, ",ahead"}} {
			t.Setenv("CTNAS_FAKE_CUDA", cmp.Or(fake, "devices:2")+c.fake)
			devices := strings.Join(kerneltest.Alike(t, name, c.ranks), ",")
			r := newRun(normsAlone(t, 2, func(r *Recipe) { r.Batch, r.SyncBN = 4, true }),
				Deps{Device: exec.Config{Device: devices}})
			_, err := r.open(t.Context())
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, r.update(t.Context()))
			}
			require.NoError(t, r.agree())
			if first == nil {
				first = r.m.State.Values()
			}
			require.Equal(t, first, r.m.State.Values(), "%+v", c)
			require.NoError(t, r.close(nil))
		}
	}
}
