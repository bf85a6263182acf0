package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/trainer"
)

// plainPNG is a picture of one colour.
func plainPNG(t *testing.T, c color.Color) []byte {
	m := image.NewRGBA(image.Rect(0, 0, 10, 10))
	for i := range 100 {
		m.Set(i%10, i/10, c)
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, m))
	return b.Bytes()
}

// plainShard writes a tar file of 32 pictures in two classes of one colour each.
func plainShard(t *testing.T, path string, classes ...color.Color) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 32 {
		for ext, text := range map[string][]byte{"png": plainPNG(t, classes[i%2]), "cls": fmt.Append(nil, i%2)} {
			h := &tar.Header{Name: fmt.Sprintf("%03d.%s", i, ext), Size: int64(len(text)), Mode: 0o644}
			require.NoError(t, w.WriteHeader(h))
			_, err := w.Write(text)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
}

var (
	red  = color.RGBA{230, 30, 30, 255}
	blue = color.RGBA{30, 30, 230, 255}
)

// smallest are flags of a training of a tenth of a second that tells red from blue.
const smallest = " --recipe shapes --channels 8 --modules 1 --stacks 1 --resolution 8 --batch 8 --epochs 6 " +
	"--warmup 0 --lr 0.05 --recalibrate 1 --quiet --json "

// in runs a command line in a folder.
func in(t *testing.T, dir, line string) string {
	t.Helper()
	t.Chdir(dir)
	code, stdout, stderr := call(nil, strings.Fields(line)...)
	require.Equal(t, exitOK, code, stderr)
	return stdout
}

// A run that was begun with relative names is tested, learned from, resumed and repeated from elsewhere with the same
// files, although there are others under these names there.
func TestRelativePaths(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	plainShard(t, filepath.Join(here, "sub", "s.tar"), red, blue)
	plainShard(t, filepath.Join(there, "sub", "s.tar"), blue, red)
	for dir, epochs := range map[string]string{here: "6", there: "1"} {
		text, err := os.ReadFile("../../trainer/recipes/shapes.yaml")
		require.NoError(t, err)
		text = regexp.MustCompile(`(?m)^epochs: .*$`).ReplaceAll(text, []byte("epochs: "+epochs))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "mine.yaml"), text, 0o644))
	}
	settings := strings.NewReplacer("--recipe shapes", "--recipe mine.yaml", "--epochs 6", "").Replace(smallest)
	const data = " --data shards:sub/s.tar?test=./sub/s.tar "
	in(t, here, "train nasbench101:3:101:0"+data+settings+"--out teacher")
	want := in(t, here, "train nasbench101:3:101:0"+data+settings+"--teacher teacher --distill 0.5 --out run")
	var result trainer.Result
	require.NoError(t, json.Unmarshal([]byte(want), &result))
	require.Equal(t, 1.0, result.Test.Top1)
	require.Equal(t, 6, result.Recipe.Epochs)
	config, err := os.ReadFile(filepath.Join(here, "run", search.ConfigName))
	require.NoError(t, err)
	for _, line := range []string{"data: shards:" + here + "/sub/s.tar?test=" + here + "/sub/s.tar\n",
		"recipe: " + here + "/mine.yaml\n", "teacher: " + here + "/teacher\n"} {
		require.Contains(t, string(config), line)
	}

	run := filepath.Join(here, "run")
	var e evaluated
	require.NoError(t, json.Unmarshal([]byte(in(t, there, "eval "+run+" --json")), &e))
	require.Equal(t, 1.0, e.Top1, "not the images that lie here")
	require.Equal(t, want, in(t, there, "train --quiet --json --resume "+run))
	require.Equal(t, want, in(t, there, "train --quiet --json --out again --config "+
		filepath.Join(run, search.ConfigName)))

	// The same for a search, with this program's method and with another one, and its retraining.
	const labels = "train:shards:sub/s.tar?test=sub/s.tar?recipe=mine.yaml" +
		"&channels=8&modules=1&stacks=1&resolution=8&batch=8&epochs=1&warmup=0&recalibrate=1&val-split=0.25"
	for _, method := range []string{"random",
		"ctnas --iterations 1 --steps 1 --init 2 --per-round 1 --batch 2 --pool 4 --mutations 1 --baseline-samples 1"} {
		name, _, _ := strings.Cut(method, " ")
		in(t, here, "search --quiet --space nasbench101-v3 --budget 3 --label-cache cache --labels "+labels+
			" --method "+method+" --out "+name)
		config, err := os.ReadFile(filepath.Join(here, name, search.ConfigName))
		require.NoError(t, err)
		require.Contains(t, string(config), "label-cache: "+here+"/cache\n")
		settings, err := search.LoadConfig(filepath.Join(here, name))
		require.NoError(t, err)
		require.Contains(t, settings.Labels, "train:shards:"+here+"/sub/s.tar?test="+here+"/sub/s.tar?")
		in(t, there, "retrain --quiet --seeds 1 --random 1 "+filepath.Join(here, name))
		require.NoDirExists(t, filepath.Join(there, "cache"))
	}
	before := in(t, here, "search --quiet --json --resume ctnas")
	require.Equal(t, before, in(t, there, "search --quiet --json --resume "+filepath.Join(here, "ctnas")))
}

func TestRecorded(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for flag, cases := range map[string]map[string]string{
		"labels": {
			"table:t": "table:" + dir + "/t", "table:ab?run=1": "table:" + dir + "/ab?run=1",
			"table:shapes91": "table:shapes91", "table:/t?run=2": "table:/t?run=2",
			"predictor:p": "predictor:" + dir + "/p", "train:shapes": "train:shapes",
			"train:cifar10:d?recipe=fast-cifar": "train:cifar10:" + dir + "/d?recipe=fast-cifar",
			"train:shards:a*.tar?test=b.tar?recipe=fast-cifar": "train:shards:" + dir + "/a*.tar?test=" + dir +
				"/b.tar?recipe=fast-cifar", "": "",
		},
		"data":        {"shapes": "shapes", "imagenet:../x": "imagenet:" + filepath.Dir(dir) + "/x", "": ""},
		"space":       {"nasbench101": "nasbench101", "file:s.yaml": "file:" + dir + "/s.yaml"},
		"recipe":      {"shapes": "shapes", "r.yaml": dir + "/r.yaml"},
		"latency":     {"l.csv": dir + "/l.csv", "": ""},
		"label-cache": {"c": dir + "/c", "/c": "/c"},
		"teacher":     {"t": dir + "/t", "": ""},
		"budget":      {"3": "3"},
	} {
		for typed, want := range cases {
			got, err := recorded(flag, typed)
			require.NoError(t, err)
			require.Equal(t, want, got, flag)
			again, err := recorded(flag, got)
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
	}
	_, err := recorded("labels", "nothing")
	require.ErrorContains(t, err, "--labels")
}

// Every flag that a folder keeps and that names a file goes through absolute.
func TestEveryPathIsMadeAbsolute(t *testing.T) {
	a := &app{stdout: io.Discard, stderr: io.Discard, env: func(string) (string, bool) { return "", false }}
	root := newRoot(a)
	for _, name := range []string{"search", "train", "compare"} {
		cmd, _, err := root.Find([]string{name})
		require.NoError(t, err)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			what, _ := pflag.UnquoteUsage(f)
			if what != "file" && what != "folder" || slices.Contains(notRecorded, f.Name) {
				return
			}
			require.Contains(t, absolute, f.Name, "%s --%s", name, f.Name)
		})
	}
}

// Images that were replaced under their names are other images: they are trained on anew, and what stood on the old
// ones refuses them.
func TestReplacedImages(t *testing.T) {
	dir := t.TempDir()
	plainShard(t, filepath.Join(dir, "s.tar"), red, blue)
	labels := "train:shards:s.tar?test=s.tar?recipe=shapes" +
		"&channels=8&modules=1&stacks=1&resolution=8&batch=8&epochs=6&warmup=0&recalibrate=1&val-split=0.25&lr=0.05"
	in(t, dir, "search --quiet --space nasbench101-v3 --budget 3 --method random --out run --label-cache cache"+
		" --labels "+labels)
	table := func() string {
		in(t, dir, "table train --quiet --space nasbench101-v3 --count 1 --label-cache cache -o t.csv --labels "+labels)
		text, err := os.ReadFile("t.csv")
		require.NoError(t, err)
		return string(text)
	}
	before := table()
	require.Contains(t, before, ",1,1\n")
	in(t, dir, "retrain run --quiet --seeds 1 --random 1")
	in(t, dir, "train nasbench101:3:101:0 --data shards:s.tar"+smallest+"--out training")

	info, err := os.Stat("s.tar")
	require.NoError(t, err)
	plainShard(t, filepath.Join(dir, "s.tar"), red, red) // nothing can be learned
	require.NoError(t, os.Chtimes("s.tar", info.ModTime(), info.ModTime()))
	require.NotEqual(t, before, table())
	code, _, stderr := call(nil, "retrain", "run", "--quiet", "--seeds", "1", "--random", "1")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "run was begun on other images: their checksum was ")
	require.Contains(t, stderr, "; to retrain on those give --labels")
	in(t, dir, "retrain run --quiet --seeds 1 --random 1 --labels "+labels)
	for _, lost := range []string{"weights.safetensors", "checkpoint"} { // whatever the folder still has
		code, _, stderr = call(nil, "train", "--resume", "training", "--quiet")
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "training was begun on other images: their checksum was ")
		require.NoError(t, os.RemoveAll(filepath.Join("training", lost)))
	}
}
