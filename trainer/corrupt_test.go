package trainer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/trainer/data"
)

// damagedJob trains on images of which one cannot be read, nor one of the test's.
func damagedJob(t *testing.T) Job {
	dir := testdata.Images(t)
	for _, name := range []string{"train/class1/train1-3.png", "val/class0/val0-1.png"} {
		require.NoError(t, os.Truncate(filepath.Join(dir, name), 100))
	}
	d, err := data.Open("imagenet:"+dir, data.Options{Seed: 1, ValSplit: 0.2})
	require.NoError(t, err)
	j := shapesJob(t, func(r *Recipe) { r.Epochs, r.Batch, r.Recalibrate = 3, 16, 1 })
	j.Data, j.Source = d, "imagenet"
	return j
}

// What replaces a damaged image, and what is said of it, depends neither on the number of workers nor on where a run
// stopped, and a run that such an image ended goes on without it.
func TestOnCorrupt(t *testing.T) {
	j := damagedJob(t)
	j.OnCorrupt = data.OnCorrupt{Skip: true}
	whole := t.TempDir()
	result, err := Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Workers: 1, Dir: whole})
	require.NoError(t, err)
	require.Equal(t, 11, result.Test.Images)
	require.Equal(t, &data.CorruptImages{Count: 2, First: []string{
		"train: train/class1/train1-3.png: png: invalid format: not enough pixel data",
		"test: val/class0/val0-1.png: png: invalid format: not enough pixel data",
	}}, result.Corrupt)
	list, _, err := events.Read(whole)
	require.NoError(t, err)
	at := slices.IndexFunc(list, func(e events.Event) bool { return e.Name == "corrupt_images" })
	require.GreaterOrEqual(t, at, 0)
	require.Equal(t, 2., list[at].Values["count"])
	require.Contains(t, list[at].Text["first"], "not enough pixel data; test: val/class0/val0-1.png")

	killed := t.TempDir()
	for err = ErrInterrupted; err != nil; {
		ctx, cancel := context.WithCancel(t.Context())
		left := 2
		_, err = Train(ctx, j, Deps{Device: exec.Config{Threads: 2}, Workers: 3, Dir: killed, CheckpointEvery: 1,
			Progress: func(Progress) {
				if left--; left == 0 {
					cancel()
				}
			}})
		cancel()
		if err != nil {
			require.ErrorIs(t, err, ErrInterrupted)
		}
	}

	ended := t.TempDir()
	strict := j
	strict.OnCorrupt = data.OnCorrupt{}
	_, err = Train(t.Context(), strict, Deps{Device: exec.Config{Threads: 1}, Dir: ended})
	require.True(t, data.IsCorrupt(err), "%v", err)
	require.ErrorContains(t, err, "train1-3.png: png: invalid format")
	_, err = readSnapshot(ended)
	require.NoError(t, err, "what was done until then is kept")
	_, err = Train(t.Context(), j, Deps{Device: exec.Config{Threads: 1}, Dir: ended})
	require.NoError(t, err)
	for _, dir := range []string{killed, ended} {
		requireSameFile(t, filepath.Join(whole, ResultName), filepath.Join(dir, ResultName))
		requireSameFile(t, filepath.Join(whole, WeightsName), filepath.Join(dir, WeightsName))
	}

	// More than allowed, of all parts together; and what a checkpoint has left out may not be more either.
	few := j
	few.OnCorrupt.Most = 1
	_, err = Train(t.Context(), few, Deps{Device: exec.Config{Threads: 1}})
	require.True(t, data.IsCorrupt(err))
	require.ErrorContains(t, err, "2 images cannot be read, on-corrupt skip=1 allows 1")
	require.ErrorContains(t, err, "val0-1.png")
	_, err = Train(t.Context(), strict, Deps{Device: exec.Config{Threads: 1}, Dir: ended})
	require.ErrorContains(t, err, "on-corrupt stop does not allow to go on without 1 images that cannot be read")
}
