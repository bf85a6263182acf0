package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// One damaged image ends a training, which goes on without it from where it stood, and an evaluation, which leaves it
// out. Both say so.
func TestOnCorruptCommand(t *testing.T) {
	images := testdata.Images(t)
	for _, name := range []string{"train/class1/train1-3.png", "val/class0/val0-1.png"} {
		require.NoError(t, os.Truncate(filepath.Join(images, name), 90))
	}
	dir := filepath.Join(t.TempDir(), "run")
	args := append(strings.Fields("train nasbench101:4:110011:12 --recipe shapes --channels 4 --resolution 8 "+
		"--batch 10 --epochs 2 --recalibrate 1 --manifests off --data"),
		"imagenet:"+images)
	code, _, stderr := call(nil, append(args, "--out", dir)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "train1-3.png: png: invalid format")
	require.Contains(t, stderr, "go on without such images with: ctnas train --resume "+dir+" --on-corrupt skip\n")
	require.Contains(t, stderr, "`ctnas data check SET` finds all")
	code, stdout, stderr := call(nil, "train", "--resume", dir, "--on-corrupt", "skip=2", "--manifests", "off")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "2 images that cannot be read were left out: train: train/class1/train1-3.png")
	require.Contains(t, stdout, "left out      2 images that cannot be read: train: train/class1/train1-3.png")
	var result, fresh trainer.Result
	text, err := os.ReadFile(filepath.Join(dir, trainer.ResultName))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &result))
	require.Equal(t, 2, result.Corrupt.Count)
	code, stdout, stderr = call(nil, append(args, "--on-corrupt", "skip", "--json")...)
	require.Equal(t, exitOK, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &fresh))
	require.Equal(t, result, fresh, "nothing depends on when it was allowed")

	code, _, stderr = call(nil, append(args, "--on-corrupt", "skip=1")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "2 images cannot be read, on-corrupt skip=1 allows 1: train: train/class1/train1-3.png")
	code, _, stderr = call(nil, append(args, "--on-corrupt", "skip=0")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "want stop, skip, or skip=N")

	code, _, stderr = call(nil, "eval", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "val0-1.png")
	code, stdout, stderr = call(nil, "eval", dir, "--on-corrupt", "skip", "--json")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "1 images that cannot be read were left out")
	var e evaluated
	require.NoError(t, json.Unmarshal([]byte(stdout), &e))
	require.Equal(t, 11, e.Images)
	require.Equal(t, 1, e.Corrupt.Count)
	require.Equal(t, result.Test.Top1, e.Top1)
}

// What a set holds is printed, and a set with an image that cannot be read fails.
func TestDataCheckCommand(t *testing.T) {
	images := testdata.Images(t)
	code, stdout, stderr := call(nil, "data", "check", "imagenet:"+images, "--quiet")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, `set      imagenet, 3 classes
train    60 images: 60 PNG
         3 classes, of 20 (class0) to 20 images (class0)
         all of 8x8 pixels
test     12 images: 12 PNG
         3 classes, of 4 (class0) to 4 images (class0)
         all of 8x8 pixels
damaged  none
`, stdout)
	require.NoError(t, os.Truncate(filepath.Join(images, "train/class1/train1-3.png"), 90))
	require.NoError(t, os.Rename(filepath.Join(images, "val/class2/val2-0.png"), filepath.Join(images,
		"val/class2/val2-0.gif")))
	code, stdout, stderr = call(nil, "data", "check", "imagenet:"+images, "--quiet")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "damaged   train: train/class1/train1-3.png: png: invalid format")
	require.Contains(t, stdout, "not read  1 .gif files (val/class2/val2-0.gif)")
	require.Contains(t, stderr, "1 images cannot be read")
	code, stdout, _ = call(nil, "data", "check", "imagenet:"+images, "--json")
	require.Equal(t, exitFailed, code)
	var c data.Checked
	require.NoError(t, json.Unmarshal([]byte(stdout), &c))
	require.Len(t, c.Damaged, 1)
	require.Equal(t, 11, c.Splits[1].Images)

	code, _, stderr = call(nil, "train", "nasbench101:best", "--data", "imagenet:"+images, "--recipe", "shapes",
		"--channels", "8", "--manifests", "off", "--batch", "1000")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "imagenet: 1 files or folders are not read: 1 .gif files (val/class2/val2-0.gif)")
}
