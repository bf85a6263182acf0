package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/kernels/kerneltest"
	"github.com/ctnas/ctnas/trainer/cluster"
	"github.com/ctnas/ctnas/trainer/data"
)

// onNodes trains on so many nodes at the same time, of which node 0 has a folder. It returns what came of each.
func onNodes[R any](t *testing.T, nodes int, dir string, train func(i int, d Deps) (R, error)) ([]R, []error) {
	all, err := cluster.Local(nodes, time.Minute)
	require.NoError(t, err)
	results, errs := make([]R, nodes), make([]error, nodes)
	var running sync.WaitGroup
	for i, n := range all {
		running.Go(func() {
			d := Deps{Device: exec.Config{Threads: 1}, Nodes: n}
			if i == 0 {
				d.Dir = dir
			}
			results[i], errs[i] = train(i, d)
			if err := errs[i]; errors.Is(err, ErrInterrupted) {
				n.Close(nil)
			} else {
				n.Close(err)
			}
		})
	}
	running.Wait()
	return results, errs
}

func weightsOf(t *testing.T, dir string) []byte {
	text, err := os.ReadFile(filepath.Join(dir, WeightsName))
	require.NoError(t, err)
	return text
}

// A training ends in the same bytes on any number of nodes, with any number of devices each, as on one; also where it
// was stopped in the midst of an epoch, by whichever node, and went on with other ones.
func TestNodes(t *testing.T) {
	kerneltest.OnCPU(t)
	job := func() Job {
		return shardedJob(t, 4, func(j *Job) { j.OnCorrupt = data.OnCorrupt{Skip: true} })
	}
	whole := t.TempDir()
	want, err := Train(t.Context(), job(), Deps{Dir: whole, Device: exec.Config{Threads: 1}})
	require.NoError(t, err)
	for _, c := range []struct{ nodes, ranks int }{{1, 4}, {2, 1}, {2, 2}, {4, 1}} {
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
	for i, nodes := range []int{2, 4, 1} {
		_, errs := onNodes(t, nodes, dir, func(node int, d Deps) (*Result, error) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d.CheckpointEvery = 1000
			d.Progress = func(p Progress) {
				if node == nodes-1 && p.Update == 1+i {
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
		require.Equal(t, 1+i, s.Progress.Update)
	}
	results, errs := onNodes(t, 2, dir, func(_ int, d Deps) (*Result, error) { return Train(t.Context(), job(), d) })
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, want, results[1])
	require.Equal(t, weightsOf(t, whole), weightsOf(t, dir))

	// It has ended: all nodes are told.
	results, errs = onNodes(t, 2, dir, func(_ int, d Deps) (*Result, error) { return Train(t.Context(), job(), d) })
	require.NoError(t, errors.Join(errs...))
	for _, r := range results {
		require.True(t, r.Finished)
		require.Equal(t, want.TrainLoss, r.TrainLoss)
	}
}

// Nodes that would train something else, and one that has other weights, end all of them, with one line that names
// both; nothing is written.
func TestNodesDiffer(t *testing.T) {
	kerneltest.OnCPU(t)
	dir := t.TempDir()
	_, errs := onNodes(t, 4, dir, func(node int, d Deps) (*Result, error) {
		return Train(t.Context(), shardedJob(t, 4, func(j *Job) {
			if node == 2 {
				j.Seed, j.Recipe.LR = 77, 0.25
			}
		}), d)
	})
	for _, err := range errs {
		require.ErrorContains(t, err, "node 0 (local 0) and node 2 (local 2) are about to train different things")
		require.ErrorContains(t, err, "77 on node 2")
		require.ErrorContains(t, err, "lr 0.25 on node 2")
	}
	require.NoFileExists(t, filepath.Join(dir, "checkpoint", "latest"))

	_, errs = onNodes(t, 2, dir, func(node int, d Deps) (*Result, error) {
		r := newRun(shardedJob(t, 2, nil), d)
		r.Progress = func(p Progress) {
			if node == 1 && p.Update == 2 {
				r.ranks[0].params.State.WriteF32(5, []float32{1})
			}
		}
		return conduct(t.Context(), r)
	})
	for _, err := range errs {
		require.ErrorContains(t, err, "node 1 (local 1) has other weights than node 0 (local 0)")
	}
	require.NoFileExists(t, filepath.Join(dir, "checkpoint", "latest"))
}

// An update whose loss is not finite on one node is left out on all, with the name of the first output that is not.
func TestNodesSkip(t *testing.T) {
	kerneltest.OnCPU(t)
	job := func() Job {
		return shardedJob(t, 4, func(j *Job) {
			j.Recipe.Accumulate, j.OnNaN = 1, OnNaNSkip
			j.Net = j.Net.Regularized(j.Recipe.DropPath, j.Recipe.AuxWeight)
		})
	}
	whole, dir := t.TempDir(), t.TempDir()
	want, err := conduct(t.Context(), poisoned{newRun(job(), Deps{Dir: whole, Device: exec.Config{Threads: 1}})})
	require.NoError(t, err)
	require.Equal(t, 3, want.Skipped)
	results, errs := onNodes(t, 4, dir, func(_ int, d Deps) (*Result, error) {
		return conduct(t.Context(), poisoned{newRun(job(), d)})
	})
	require.NoError(t, errors.Join(errs...))
	for _, r := range results {
		require.Equal(t, want, r)
	}
	require.Equal(t, weightsOf(t, whole), weightsOf(t, dir))
	text, err := os.ReadFile(filepath.Join(dir, "log.jsonl"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"where":"input"`)
}

// A node whose device fails ends the others with its reason, and what is left is the checkpoint before.
func TestNodesFail(t *testing.T) {
	kerneltest.OnCPU(t)
	own := errors.New("the device is on fire")
	dir := t.TempDir()
	_, errs := onNodes(t, 2, dir, func(node int, d Deps) (*Result, error) {
		d.CheckpointEvery = 2
		d.Progress = func(p Progress) {
			if node == 1 && p.Update == 3 {
				exec.Fail(own)
			}
		}
		return Train(t.Context(), shardedJob(t, 2, nil), d)
	})
	require.ErrorIs(t, errs[1], own)
	require.ErrorContains(t, errs[0], "node 1 (local 1) has ended with an error: the device is on fire")
	s, err := readSnapshot(dir)
	require.NoError(t, err)
	require.Equal(t, 2, s.Progress.Update)
}

// A supernet's training ends in the same bytes on nodes as on one machine, by whatever method, and where other nodes go
// on with it, which have its teacher from node 0.
func TestNodesSupernets(t *testing.T) {
	kerneltest.OnCPU(t)
	ofa := elasticJob(t, "shapes-ofa", func(r *SupernetRecipe) {
		r.Batch, r.Shards, r.Judged, r.Recalibrate = 8, 4, 0, 1
		r.Stages = []string{"full epochs=1 lr=0.05", "kernel epochs=1 lr=0.05 paths=2"}
	})
	ofa.Data.Train = first(ofa.Data.Train, 16)
	for name, j := range map[string]SupernetJob{
		"teacher": ofa,
		"drawn":   cellsJob(t, func(r *SupernetRecipe) { r.Batch, r.Shards, r.Epochs = 8, 4, 1 }, oneConvolution),
		"mixture": mixedJob(t, MethodDARTS, func(r *SupernetRecipe) {
			r.Shards, r.Batch, r.Epochs, r.SecondOrder = 4, 16, 1, true
		}),
	} {
		t.Run(name, func(t *testing.T) {
			read := func(dir string) (all string) {
				for _, name := range []string{ResultName, WeightsName} {
					text, err := os.ReadFile(filepath.Join(dir, name))
					require.NoError(t, err)
					all += string(text)
				}
				return all
			}
			whole, dir := t.TempDir(), t.TempDir()
			want, err := TrainSupernet(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: whole})
			require.NoError(t, err)
			stop := want.Cost.Updates/2 + 1
			_, errs := onNodes(t, 4, dir, func(node int, d Deps) (*SupernetResult, error) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				d.Progress = func(p Progress) {
					if node == 2 && p.Update == stop {
						cancel()
					}
				}
				return TrainSupernet(ctx, j, d)
			})
			for _, err := range errs {
				require.ErrorIs(t, err, ErrInterrupted)
			}
			_, errs = onNodes(t, 2, dir, func(_ int, d Deps) (*SupernetResult, error) {
				return TrainSupernet(t.Context(), j, d)
			})
			require.NoError(t, errors.Join(errs...))
			require.Equal(t, read(whole), read(dir))
		})
	}
}
