package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer/format"
)

// What is exported is read back, also under another architecture's name where it does not fit; seeds decide the
// weights and images.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const arch = "nasbench101:3:101:0"
	small := []string{"--channels", "4", "--resolution", "16", "--threads", "1"}
	export := func(args ...string) {
		code, stdout, stderr := call(nil, append(append([]string{"export", arch}, small...), args...)...)
		require.Equal(t, exitOK, code, stderr)
		for _, flag := range []string{"--onnx", "--safetensors"} { // a line a file, which says what is in it
			if i := slices.Index(args, flag); i >= 0 {
				require.Regexp(t,
					regexp.QuoteMeta(args[i+1])+`: `+regexp.QuoteMeta(arch)+
						`, random weights \((seed \d|the file says so)\)`+
						`, batch norm epsilon 1e-05, 3 x 16 x 16 to 10 logits, 0.1 MB, `+
						`(logits of 2 random images within [\de.-]+ of ctnas's own|10886 numbers read back the same)`,
					stdout)
			}
		}
		require.Equal(t, !slices.Contains(args, "--weights"), strings.Contains(stderr, "the weights are random"),
			stderr)
	}
	export("--safetensors", at("a"), "--onnx", at("a.onnx"), "--check-input", at("in"), "--check-output", at("out"))
	export("--weights", at("a"), "--seed", "9", "--safetensors", at("b"), "--onnx", at("b.onnx"))
	export("--seed", "9", "--safetensors", at("c"))
	read := func(name string) string {
		text, err := os.ReadFile(at(name))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, read("a"), read("b"))
	require.True(t, read("a.onnx") == read("b.onnx"), "the same weights give the same file")
	require.NotEqual(t, read("a"), read("c"))
	require.Len(t, read("in"), 4*2*3*16*16)
	require.Len(t, read("out"), 4*2*10)
	require.NotEqual(t, strings.Repeat("\x00", 80), read("out"))
	tensors, metadata, err := format.Read(at("a"))
	require.NoError(t, err)
	require.Equal(t, "stem.conv.weight", tensors[0].Name)
	require.Equal(t, "random", metadata["weights_from"])
	require.Equal(t, arch, metadata["arch"])
	require.Contains(t, metadata["constants"], `"batch_norm_eps":0.00001`)
	require.Contains(t, read("a.onnx"), "random")
	for _, c := range []struct {
		line, says string
		code       int
	}{
		{"export " + arch, "nothing to write", exitUsage},
		{"export lenet --onnx x", "unknown network", exitUsage},
		{"export " + arch + " --onnx " + at("x") + " --weights " + at("none"), "no such file", exitFailed},
		{"export nasbench101:best --channels 4 --onnx " + at("x") + " --weights " + at("a"), "tensor", exitFailed},
		{"export " + arch + " --channels 4 --classes 7 --onnx " + at("x") + " --weights " + at("a"),
			`tensor "classifier.weight" has shape [10 16], want [7 16]`, exitFailed},
	} {
		code, _, stderr := call(nil, strings.Fields(c.line)...)
		require.Equal(t, c.code, code, c.line)
		require.Contains(t, stderr, c.says)
		require.NoFileExists(t, at("x"))
	}
}
