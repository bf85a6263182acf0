package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// Everything that trains does so in the spaces whose architectures are networks for ImageNet or of DARTS's cells: labels of a search, the pick anew, a table, a
// comparator's order, and a network alone, which can be exported.
func TestNetworksOfSpacesAreTrained(t *testing.T) {
	if testing.Short() {
		t.Skip("trains networks of millions of parameters; left out with -short")
	}
	images := testdata.Images(t)
	for sp, query := range map[string]string{
		"mobilenetv3@w1.0,r32-64": "&resolution=0", // where images differ in size an architecture's own counts
		"nasbench201":             "&resolution=8&channels=4&modules=1",
		"darts":                   "&resolution=32&channels=4&stacks=2&modules=1",
		"darts@cifar10":           "&resolution=8&channels=4",
	} {
		t.Run(sp, func(t *testing.T) {
			dir, cache := filepath.Join(t.TempDir(), "run"), t.TempDir()
			labels := "train:imagenet:" + images + "?recipe=shapes&epochs=1&batch=20&warmup=0&val-split=0.3&recalibrate=0" + query
			run := func(args ...string) string {
				code, stdout, stderr := call(nil, append(args, "--label-cache", cache, "--quiet")...)
				require.Equal(t, exitOK, code, stderr)
				return stdout
			}
			run("search", "--space", sp, "--labels", labels, "--budget", "3", "--init", "2", "--per-round", "1", "--members", "1", "--steps", "3", "--iterations", "2",
				"--pool", "16", "--mutations", "4", "--generations", "1", "--out", dir)
			ledger, err := os.ReadFile(filepath.Join(dir, "ledger.jsonl"))
			require.NoError(t, err)
			require.Equal(t, 3, strings.Count(string(ledger), `"source":"trained"`))
			require.Contains(t, run("retrain", dir, "--seeds", "1", "--random", "1"), "The pick reaches")
			table := filepath.Join(t.TempDir(), "few.csv")
			require.Contains(t, run("table", "train", "--space", sp, "--labels", labels, "--count", "2", "-o", table), "2 architectures")
			require.Contains(t, run("search", "--space", sp, "--labels", "table:"+table, "--budget", "2", "--method", "random", "--out", filepath.Join(t.TempDir(), "random")), "2, chosen on validation accuracy")
			if !strings.HasPrefix(sp, "mobilenetv3") { // whose trainings take the longest
				require.Contains(t, run("rank", "--space", sp, "--labels", labels, "--train", "4", "--judged", "4", "--seeds", "1", "--set", "members=1", "--set", "steps=3"), "tau-b")
			}
		})
	}
}

// What cannot be trained is said before anything is.
func TestNetworksThatCannotBeTrained(t *testing.T) {
	images := "train:imagenet:" + testdata.Images(t) + "?recipe=shapes&batch=20&val-split=0.3"
	file := "file:" + filepath.Join(testdata.Root(), "docs", "examples", "nb201-like.yaml")
	for _, c := range [][3]string{
		{file, images, "nothing says what layers their operations are; their labels come from a table"},
		{"mobilenetv3@w1.0,r160-224", images + "&resolution=64", "chooses among 5 sizes of images, and the images or the recipe say 64"},
		{"darts", images + "&channels=1", "no network for images of this size and this recipe"},
	} {
		code, stdout, stderr := call(nil, "search", "--space", c[0], "--labels", c[1], "--label-cache", t.TempDir(), "--out", filepath.Join(t.TempDir(), "run"))
		require.Equal(t, exitFailed, code, stderr)
		require.Contains(t, stderr, c[2])
		require.Empty(t, stdout)
	}
}

// A network of DARTS's cells that read one of their inputs only has layers that nothing depends on; with its auxiliary head it is trained, tested and exported.
func TestNetworkWithUnreadInput(t *testing.T) {
	cell := strings.Repeat("('none', 0), ('sep_conv_3x3', 0), ", 4)
	arch := "darts:Genotype(normal=[" + cell + "], normal_concat=range(2, 6), reduce=[" + cell + "], reduce_concat=range(2, 6))@cifar10"
	dir, file := filepath.Join(t.TempDir(), "run"), filepath.Join(t.TempDir(), "net.onnx")
	size := []string{"--channels", "4", "--stacks", "3", "--modules", "1", "--resolution", "32"}
	for _, args := range [][]string{
		append([]string{"train", arch, "--data", "imagenet:" + testdata.Images(t), "--recipe", "shapes", "--epochs", "1", "--batch", "20", "--warmup", "0", "--out", dir}, size...),
		{"eval", dir},
		append([]string{"export", arch, "--weights", filepath.Join(dir, "weights.safetensors"), "--onnx", file, "--classes", "3"}, size...),
	} {
		code, _, stderr := call(nil, append(args, "--quiet")...)
		require.Equal(t, exitOK, code, stderr)
	}
	weights, err := os.ReadFile(filepath.Join(dir, "weights.safetensors"))
	require.NoError(t, err)
	for _, name := range []string{"stem.1.running_mean", "cells.1.preprocess1.op.1.weight", "cells.2._ops.7.op.7.bias", "auxiliary_head.features.6.weight"} {
		require.Contains(t, string(weights), `"`+name+`"`)
	}
	require.FileExists(t, file)
}
