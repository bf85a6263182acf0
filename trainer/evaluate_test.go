package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/data"
	"github.com/ctnas/ctnas/trainer/nn"
)

// Nodes measure on different batches of a set, about as many each, and find together what one finds: also where there
// are more nodes than batches.
func TestDividedEvaluation(t *testing.T) {
	kerneltest.OnCPU(t)
	m, err := NewModel(openTest(t), batchNormed(t), Options{Batch: 4, EvalOnly: true})
	require.NoError(t, err)
	defer m.Close()
	m.Initialize(nn.HeFanOut, 3)
	d := shapesJob(t, nil).Data
	measure := func(images int, in Loading) measured {
		found, err := measureSet(t.Context(), []*Model{m}, d, first(d.Train, images), d.EvalTransform(32), in)
		require.NoError(t, err)
		return found
	}
	for _, images := range []int{1, 7, 26} {
		want := measure(images, Loading{})
		require.Len(t, want.Batches, exec.Blocks(images, 4))
		require.Equal(t, images, want.Count[0])
		for _, nodes := range []int{1, 2, 4, 8} {
			var parts []measured
			for node := range nodes {
				part := measure(images, Loading{node: node, nodes: nodes})
				require.LessOrEqual(t, len(part.Batches), exec.Blocks(len(want.Batches), nodes))
				parts = append(parts, part)
			}
			require.Equal(t, want, whole(parts), "%d images, %d nodes", images, nodes)
		}
	}
}

// Images of an evaluation that one node alone meets and cannot read are left out, or end the run, on all nodes.
func TestNodesEvaluateCorrupt(t *testing.T) {
	kerneltest.OnCPU(t)
	dir := testdata.Images(t)
	for _, name := range []string{"val/class0/val0-1.png", "val/class2/val2-2.png"} {
		require.NoError(t, os.Truncate(filepath.Join(dir, name), 100))
	}
	d, err := data.Open("imagenet:"+dir, data.Options{Seed: 1, ValSplit: 0.2})
	require.NoError(t, err)
	job := func(on data.OnCorrupt) Job {
		j := shapesJob(t, func(r *Recipe) { r.Epochs, r.Batch, r.Shards, r.Recalibrate = 1, 16, 4, 1 })
		j.Data, j.Source, j.OnCorrupt = d, "imagenet", on
		return j
	}
	want, err := Train(t.Context(), job(data.OnCorrupt{Skip: true}), Deps{Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	require.Equal(t, 2, want.Corrupt.Count)
	for _, c := range []struct {
		on   data.OnCorrupt
		says string
	}{{data.OnCorrupt{Skip: true}, ""}, {data.OnCorrupt{}, "png: invalid format"},
		{data.OnCorrupt{Skip: true, Most: 1}, "2 images cannot be read, on-corrupt skip=1 allows 1"}} {
		results, errs := onNodes(t, 4, t.TempDir(), func(_ int, d Deps) (*Result, error) {
			return Train(t.Context(), job(c.on), d)
		})
		for i, err := range errs {
			if c.says == "" {
				require.NoError(t, err)
				require.Equal(t, want, results[i])
				continue
			}
			require.True(t, data.IsCorrupt(err), "%v", err)
			require.ErrorContains(t, err, c.says)
		}
	}
}

// Where one node is told to end in the midst of an evaluation all end before it, and make it again when they go on.
func TestNodesEvaluateStopped(t *testing.T) {
	kerneltest.OnCPU(t)
	job := func() Job {
		return shardedJob(t, 4, func(j *Job) { j.Recipe.Accumulate, j.Net = 1, batchNormed(t) })
	}
	want, err := Train(t.Context(), job(), Deps{Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	dir := t.TempDir()
	_, errs := onNodes(t, 4, dir, func(node int, d Deps) (*Result, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d.Progress = func(p Progress) {
			if node == 2 && p.Update == p.Updates {
				cancel()
			}
		}
		return Train(ctx, job(), d)
	})
	for _, err := range errs {
		require.ErrorIs(t, err, ErrInterrupted)
	}
	s, err := readSnapshot(dir)
	require.NoError(t, err)
	require.Empty(t, s.Progress.Validation)
	results, errs := onNodes(t, 2, dir, func(_ int, d Deps) (*Result, error) { return Train(t.Context(), job(), d) })
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, want, results[1])
}
