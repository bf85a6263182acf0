package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/format"
)

// colours are classes that are told apart at a glance.
var colours = map[string]color.Color{"red": red, "blue": blue, "green": color.RGBA{30, 230, 30, 255},
	"yellow": color.RGBA{230, 230, 30, 255}}

// colourSet is a folder of images of these classes, which may be called otherwise: "red" or "name=red".
func colourSet(t *testing.T, classes string) string {
	dir := t.TempDir()
	for _, class := range strings.Fields(classes) {
		name, colour, renamed := strings.Cut(class, "=")
		if !renamed {
			colour = name
		}
		for part, n := range map[string]int{"train": 12, "val": 3} {
			folder := filepath.Join(dir, part, name)
			require.NoError(t, os.MkdirAll(folder, 0o755))
			for i := range n {
				path := filepath.Join(folder, fmt.Sprintf("%d.png", i))
				require.NoError(t, os.WriteFile(path, plainPNG(t, colours[colour]), 0o644))
			}
		}
	}
	return dir
}

// A network is tested on images by the names of their classes, and never with a class taken for another one without a
// word.
func TestEvalMatchesClasses(t *testing.T) {
	dir := t.TempDir()
	data := colourSet(t, "blue green red")
	var result trainer.Result
	line := "train nasbench101:3:101:0 --data imagenet:" + data + smallest + "--epochs 12 --out run"
	require.NoError(t, json.Unmarshal([]byte(in(t, dir, line)), &result))
	require.Equal(t, 1.0, result.Test.Top1)
	require.Equal(t, []string{"blue", "green", "red"}, result.Classes)
	weights := filepath.Join(dir, "run", trainer.WeightsName)
	file, err := trainer.OpenWeights(weights)
	require.NoError(t, err)
	names, err := file.Classes()
	require.NoError(t, err)
	require.Equal(t, result.Classes, names)

	plainShard(t, filepath.Join(dir, "numbered.tar"), blue, colours["green"])
	direct := "nasbench101:3:101:0 --channels 8 --modules 1 --stacks 1 --resolution 8 --weights " + weights
	const some = "the images are of %d of the weights' 3 classes, matched by name; there are none of %s"
	for _, c := range []struct{ line, says string }{
		{"run", ""},
		{"run --data imagenet:" + data, ""},
		{"run --data imagenet:" + colourSet(t, "red"), fmt.Sprintf(some, 1, "blue, green")},
		{"run --data imagenet:" + colourSet(t, "green red"), fmt.Sprintf(some, 2, "blue")},
		{direct + " --data imagenet:" + colourSet(t, "green red"), fmt.Sprintf(some, 2, "blue")},
		{"run --split train --data shards:" + dir + "/numbered.tar", "the images' classes have numbers, not names: " +
			"they are taken for the weights' classes in their order, blue, green, red"},
		{"run --data imagenet:" + colourSet(t, "0=blue 1=green 2=red"), "the images' classes have numbers"},
	} {
		line, says := c.line, c.says
		var e evaluated
		require.NoError(t, json.Unmarshal([]byte(in(t, dir, "eval --json "+line)), &e), line)
		require.Equal(t, 1.0, e.Top1, line)
		if says == "" {
			require.Empty(t, e.Classes)
			continue
		}
		require.Contains(t, e.Classes, says)
		require.Contains(t, in(t, dir, "eval "+line), "\nclasses: "+e.Classes+"\n")
	}
	const unknown = "the weights do not know these classes of the images: %s; they know blue, green, red"
	for line, says := range map[string]string{
		"run --data imagenet:" + colourSet(t, "green red yellow"): fmt.Sprintf(unknown, "yellow"),
		direct + " --data imagenet:" + colourSet(t, "a=blue red"): fmt.Sprintf(unknown, "a"),
	} {
		code, stdout, stderr := call(nil, strings.Fields("eval "+line)...)
		require.Equal(t, exitFailed, code, line)
		require.Empty(t, stdout)
		require.Contains(t, stderr, says)
	}

	// Weights that say nothing are taken by position, and it is said.
	tensors, _, err := format.Read(weights)
	require.NoError(t, err)
	bare := filepath.Join(dir, "bare.safetensors")
	require.NoError(t, format.WriteSafetensors(bare, tensors, nil))
	stdout := in(t, dir, "eval "+strings.Replace(direct, weights, bare, 1)+" --data imagenet:"+data)
	require.Contains(t, stdout, "100.00 %")
	require.Contains(t, stdout, "\nclasses: the weights do not name their classes: "+
		"those of the images are taken in their order, blue, green, red\n")
}

// A teacher's classes are matched by name: one that knows more teaches too, one that does not know all is refused.
func TestTeacherMatchesClasses(t *testing.T) {
	dir := t.TempDir()
	const arch = "nasbench101:3:101:0 --data imagenet:"
	in(t, dir, "train "+arch+colourSet(t, "blue green red")+smallest+"--out teacher")
	settings := strings.ReplaceAll(smallest, "--quiet", "") + "--teacher teacher --distill 1"
	student := func(classes string) (int, string) {
		code, _, stderr := call(nil, strings.Fields("train "+arch+colourSet(t, classes)+settings)...)
		return code, stderr
	}
	code, stderr := student("blue green red")
	require.Equal(t, exitOK, code)
	require.NotContains(t, stderr, "classes of the teacher")
	code, stderr = student("green red")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stderr, "classes of the teacher")
	require.Contains(t, stderr, "matched by name; there are none of blue")
	code, stderr = student("green red yellow")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--teacher "+dir+"/teacher: the weights do not know these classes of the images: "+
		"yellow; they know blue, green, red")
}
