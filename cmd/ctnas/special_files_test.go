package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ctnas/ctnas/trainer/format"
)

// specialFiles are names under which no regular file is, and what an error says of each.
func specialFiles(t *testing.T) map[string]string {
	dir := t.TempDir()
	pipe, device, folder := filepath.Join(dir, "pipe"), filepath.Join(dir, "device"), filepath.Join(dir, "folder")
	require.NoError(t, unix.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Symlink("/dev/zero", device))
	require.NoError(t, os.Mkdir(folder, 0o755))
	return map[string]string{
		pipe: "is a pipe, want a regular file", device: "is a device, want a regular file", "/dev/zero": "is a device",
		folder: "is a folder, ", filepath.Join(dir, "missing"): "no such file",
	}
}

// Every flag and every part of an argument that names a file: what is none is refused at once, by its name. Reading on
// would never end (/dev/zero), or never begin (a pipe).
func TestWhatIsNoFileIsRefusedAtOnce(t *testing.T) {
	predictor := filepath.Join(t.TempDir(), "predictor.safetensors")
	require.NoError(t, format.WriteSafetensors(predictor, []format.Tensor{
		{Name: "0.weight", Shape: []int{1, 128}, Data: make([]float32, 128)},
		{Name: "0.bias", Shape: []int{1}, Data: make([]float32, 1)},
	}, nil))
	cell := "--data imagenet:" + colourSet(t) + " --channels 8 --modules 1 --stacks 1 --resolution 16"
	for _, line := range []string{
		"devices --config FILE",
		"space info file:FILE",
		"space sample file:FILE -n 1",
		"space show file:FILE x",
		"search --space file:FILE --labels train:shapes --budget 20",
		"search --space mobilenetv3 --labels predictor:FILE --budget 20",
		"search --space mobilenetv3 --labels predictor:PREDICTOR --latency FILE --max-latency 1ms --budget 20",
		"search --space nasbench101-v4 --labels train:shapes?recipe=FILE --budget 20",
		"search --labels table:FILE --budget 20",
		"rank --labels table:FILE --train 20",
		"table info FILE",
		"table info FILE --space mobilenetv3",
		"table convert FILE -o OUT",
		"compare --space mobilenetv3 --labels predictor:FILE --methods random --budget 20",
		"latency info FILE",
		"train nasbench101:best --recipe FILE --data shapes",
		"eval nasbench101:best --weights FILE " + cell,
		"eval ofa_230m --weights FILE --data shapes",
		"search --space mobilenetv3 --labels supernet:FILE?data=shapes --budget 20",
		"supernet eval FILE --arch ofa_230m --data shapes",
		"supernet rank FILE --labels table:none.csv",
		"export nasbench101:3:101:0 --weights FILE --onnx OUT --channels 8 --modules 1 --stacks 1 --resolution 16",
	} {
		for path, says := range specialFiles(t) {
			out := filepath.Join(t.TempDir(), "out")
			line := strings.NewReplacer("FILE", path, "OUT", out, "PREDICTOR", predictor).Replace(line)
			args := strings.Fields(line)
			if args[0] == "search" || args[0] == "compare" {
				args = append(args, "--out", out)
			}
			code, stdout, stderr := call(nil, args...)
			require.NotEqual(t, exitOK, code, line)
			require.NotEqual(t, exitInterrupted, code, line)
			require.Empty(t, stdout, line)
			require.Contains(t, stderr, path, line)
			require.Contains(t, stderr, says, line)
			require.NotContains(t, stderr, "internal error", line)
			require.NoFileExists(t, out, line)
		}
	}
}

// Image sets likewise; a folder of one that has the wrong files in it says so.
func TestImagesThatAreNoneAreRefusedAtOnce(t *testing.T) {
	for _, kind := range []string{"imagenet", "cifar10", "cifar100", "shards"} {
		for path := range specialFiles(t) {
			for _, line := range []string{"data check KIND:FILE",
				"train nasbench101:3:101:0 --data KIND:FILE --epochs 1"} {
				line := strings.NewReplacer("FILE", path, "KIND", kind).Replace(line)
				code, stdout, stderr := call(nil, strings.Fields(line)...)
				require.NotEqual(t, exitOK, code, line)
				require.Empty(t, stdout, line)
				require.Contains(t, stderr, path, line)
				require.NotContains(t, stderr, "internal error", line)
			}
		}
	}
	// A file of a set.
	for _, c := range []struct{ spec, name string }{
		{"imagenet", "labels.csv"}, {"cifar10", "data_batch_1.bin"}, {"cifar100", "train.bin"},
		{"imagenet", "train/a/1.png"},
	} {
		for path, says := range specialFiles(t) {
			if says == "no such file" || c.name == "train/a/1.png" && strings.HasPrefix(says, "is a folder") {
				continue
			}
			dir := t.TempDir()
			name := filepath.Join(dir, filepath.FromSlash(c.name))
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
			require.NoError(t, os.Symlink(path, name))
			line := "train nasbench101:3:101:0 --epochs 1 --resolution 8 --channels 4 --data " + c.spec + ":" + dir
			code, _, stderr := call(nil, strings.Fields(line)...)
			require.NotEqual(t, exitOK, code, line)
			require.Contains(t, stderr, filepath.FromSlash(c.name), line)
			require.Contains(t, stderr, says, line)
		}
	}
}

// The files of a run's folder likewise.
func TestWhatIsNoFileOfARunIsRefusedAtOnce(t *testing.T) {
	for _, c := range []struct{ line, name string }{
		{"train --resume DIR", "config.yaml"},
		{"search --resume DIR", "config.yaml"},
		{"eval DIR", "config.yaml"},
		{"eval DIR --data shapes --weights x", "config.yaml"},
		{"train nasbench101:best --data shapes --distill 1 --teacher DIR --epochs 1 --val-split 0", "config.yaml"},
		{"report DIR", "result.json"},
	} {
		for path, says := range specialFiles(t) {
			if says == "no such file" {
				continue
			}
			dir := t.TempDir()
			require.NoError(t, os.Symlink(path, filepath.Join(dir, c.name)))
			line := strings.ReplaceAll(c.line, "DIR", dir)
			code, stdout, stderr := call(nil, strings.Fields(line)...)
			require.NotEqual(t, exitOK, code, line)
			require.Empty(t, stdout, line)
			require.Contains(t, stderr, filepath.Join(dir, c.name), line)
			require.Contains(t, stderr, says, line)
		}
	}
}
