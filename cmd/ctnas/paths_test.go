package main

import (
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

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
