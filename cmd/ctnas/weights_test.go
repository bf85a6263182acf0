package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer/format"
	"github.com/ctnas/ctnas/trainer/nn/zoo"
)

// colourSet is a folder of images of three classes.
func colourSet(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, writeColours(dir, "blue", "green", "red"))
	return dir
}

// Weights of another program are tested with that program's constants and on its images: it must be clear whose they
// are, and stderr and JSON say so.
func TestEvalOfForeignWeights(t *testing.T) {
	dir, data := t.TempDir(), "imagenet:"+colourSet(t)
	path := filepath.Join(dir, "timm.safetensors")
	const arch = "efficientnet_b0"
	code, _, stderr := call(nil, strings.Fields("export "+arch+" --classes 3 --resolution 32 --quiet --safetensors "+
		path)...)
	require.Equal(t, exitOK, code, stderr)
	tensors, _, err := format.Read(path)
	require.NoError(t, err)
	// small variances, so that epsilon matters; shifts, so that something is left of the images
	for _, x := range tensors {
		for i := range x.Data {
			switch {
			case strings.HasSuffix(x.Name, "running_var"):
				x.Data[i] = 1e-3
			case strings.Contains(x.Name, "bn") && strings.HasSuffix(x.Name, ".bias"):
				x.Data[i] = 1
			case strings.Contains(x.Name, "conv") && strings.HasSuffix(x.Name, ".weight"):
				x.Data[i] *= 0.03
			}
		}
	}
	require.NoError(t, format.WriteSafetensors(path, tensors, map[string]string{"format": "pt"}))
	eval := func(flags string) (int, evaluated, string) {
		code, stdout, stderr := call(nil, strings.Fields("eval "+arch+" --resolution 16 --batch 9 --json --weights "+
			path+" --data "+data+" "+flags)...)
		var e evaluated
		if code == exitOK {
			require.NoError(t, json.Unmarshal([]byte(stdout), &e))
		}
		return code, e, stderr
	}
	code, _, stderr = eval("")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "its tensors have the names of two programs: timm (batch norm epsilon 1e-05, "+
		"symmetric padding) and timm-tf (0.001, same), whose networks compute different "+
		"things: say whose they are, --weights-from timm or timm-tf")
	losses := map[string]float64{}
	for from, want := range map[string]zoo.Constants{
		"timm":    {Eps: 1e-5, Momentum: 0.1, Padding: zoo.Symmetric},
		"timm-tf": {Eps: 1e-3, Momentum: 0.1, Padding: zoo.SameTF},
		"ctnas":   {Eps: 1e-3, Momentum: 0.01, Padding: zoo.Symmetric, Dropout: 0.2},
		"timm:ra_in1k --mean 0.1,0.2,0.3 --std 1,1,1 --crop 1 --interpolation bilinear": {Eps: 1e-5, Momentum: 0.1,
			Padding: zoo.Symmetric},
	} {
		code, e, stderr := eval("--weights-from " + from)
		require.Equal(t, exitOK, code, stderr)
		name, flags, _ := strings.Cut(from, " ")
		require.Equal(t, name, e.From)
		images := e.Constants.Images
		e.Constants.Images = nil
		require.Equal(t, want, e.Constants)
		require.Contains(t, stderr, "msg=weights file="+path+" from="+name)
		require.Contains(t, stderr, "msg=images side=16 resized=")
		switch {
		case flags != "":
			require.Equal(t, zoo.Images{Side: 224, Crop: 1, Rounding: "floor", Interpolation: zoo.Bilinear,
				Mean: [3]float32{0.1, 0.2, 0.3}, Std: [3]float32{1, 1, 1}, Channels: "RGB"}, *images)
		case name == "ctnas":
			require.Equal(t, zoo.Bilinear, images.Interpolation)
		default:
			require.Equal(t, zoo.Bicubic, images.Interpolation)
			require.Contains(t, stderr, "not all published weights of this program and network want the same images",
				from)
		}
		for other, loss := range losses {
			require.NotEqual(t, loss, float64(e.Loss), "%s and %s", from, other)
		}
		losses[from] = float64(e.Loss)
	}
	for flags, says := range map[string]string{
		"--weights-from keras":                  `--weights-from "keras": the weights of efficientnet_b0`,
		"--weights-from timm --mean 0.1,0.2":    "--mean [0.1 0.2]: want three numbers",
		"--weights-from timm --std 1,0,1":       "deviations above 0",
		"--weights-from timm --crop 2":          "--crop 2: want 0 to 1",
		"--weights-from timm --interpolation x": `interpolation "x"`,
	} {
		code, _, stderr := eval(flags)
		require.Equal(t, exitUsage, code, flags)
		require.Contains(t, stderr, says)
	}
}

// Weights that are not finite are not evaluated, learned from or, unless that is wanted, exported; a file says where
// they are.
func TestWeightsThatAreNotFinite(t *testing.T) {
	dir := t.TempDir()
	path, out := filepath.Join(dir, "nan.safetensors"), filepath.Join(dir, "out.onnx")
	arch := "nasbench101:3:101:0 --channels 8 --modules 1 --stacks 2 --resolution 16"
	code, _, stderr := call(nil, strings.Fields("export "+arch+" --classes 3 --quiet --safetensors "+path)...)
	require.Equal(t, exitOK, code, stderr)
	tensors, metadata, err := format.Read(path)
	require.NoError(t, err)
	tensors[0].Data[5], tensors[0].Data[7] = float32(math.NaN()), float32(math.Inf(1))
	require.NoError(t, format.WriteSafetensors(path, tensors, metadata))
	data := " --data imagenet:" + colourSet(t)
	for _, line := range []string{
		"eval " + arch + data + " --weights " + path,
		"export " + arch + " --onnx " + out + " --weights " + path,
		"train " + arch + data + " --recipe shapes --epochs 1 --batch 4 --distill 1 --teacher-arch " +
			"nasbench101:3:101:0 --teacher " + path,
	} {
		code, stdout, stderr := call(nil, strings.Fields(line)...)
		require.Equal(t, exitFailed, code, line)
		require.Empty(t, stdout)
		require.Contains(t, stderr,
			`nan.safetensors: weights that are not finite: tensor "stem.conv.weight" has 2 of 216 numbers that are`)
		require.NoFileExists(t, out)
	}
	code, stdout, stderr := call(nil, strings.Fields("export "+arch+" --allow-nonfinite --onnx "+out+" --weights "+
		path)...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "to 3 logits")
	require.Contains(t, stdout, "not checked: the weights are not finite")
	require.FileExists(t, out)
}

// The table of constants is that of the packages.
func TestConstantsOfPackages(t *testing.T) {
	code, stdout, stderr := call(nil, "zoo", "--constants", "--json")
	require.Equal(t, exitOK, code, stderr)
	var rows []constantsRow
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Greater(t, len(rows), len(zoo.Names()))
	code, text, _ := call(nil, "zoo", "--constants", "mnasnet_b1", "--format", "csv")
	require.Equal(t, exitOK, code)
	require.Contains(t, text,
		`mnasnet_b1,torchvision,mnasnet1_0,1e-05,0.0003,symmetric,0.2,"224 of 256, bilinear, RGB, mean 0.485 0.456`)
	code, text, _ = call(nil, "zoo", "mobilenetv3_large_1.0")
	require.Equal(t, exitOK, code)
	require.Regexp(t, `(?m)^timm:ra_in1k +mobilenetv3_large_100 +1e-05 +0.1 +symmetric `, text)
	require.Regexp(t, `(?m)^timm-tf:in1k +tf_mobilenetv3_large_100 +0.001 +0.1 +same `, text)
	if testing.Short() {
		t.Skip("runs PyTorch")
	}
	python := testdata.Python(t, "torch", "torchvision", "timm", "safetensors", "ofa")
	path := filepath.Join(t.TempDir(), "constants.json")
	require.NoError(t, os.WriteFile(path, []byte(stdout), 0o644))
	out, err := exec.Command(python, filepath.Join(testdata.Root(), "scripts", "peers", "zoo_weights.py"),
		"--constants", path).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Log(string(out))
}
