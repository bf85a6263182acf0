package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
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
			for range 2 { // what is valid anywhere stays
				got, err := recorded(t, flag, typed)
				require.NoError(t, err)
				require.Equal(t, want, got, flag)
				typed = got
			}
		}
	}
	_, err := recorded(t, "labels", "nothing")
	require.ErrorContains(t, err, "--labels")
}

// recorded is the value of a flag of a search, a training or a comparison as its folder keeps it.
func recorded(t *testing.T, flag, value string) (string, error) {
	c, s, o := new(search.Config), newTrainSettings(), new(compareFlags)
	kept := ""
	for _, l := range []*setting.List{c.Settings(), s.settings(), o.settings()} {
		if l.Lookup(flag) == nil {
			continue
		}
		require.NoError(t, l.Set(flag, value))
		if err := labelsError(l.Absolute()); err != nil {
			return "", err
		}
		text, err := l.YAML(nil)
		require.NoError(t, err)
		values := map[string]any{}
		require.NoError(t, yaml.Unmarshal(text, &values))
		kept = fmt.Sprint(values[flag])
	}
	return kept, nil
}

// Every flag that a folder keeps and that names a file is made absolute.
func TestEveryPathIsMadeAbsolute(t *testing.T) {
	a, root := aProgram()
	paths := 0
	for _, name := range []string{"search", "train", "compare"} {
		cmd, _, err := root.Find([]string{name})
		require.NoError(t, err)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			what, _ := pflag.UnquoteUsage(f)
			if what != "file" && what != "folder" || a.lists[cmd].Lookup(f.Name) == nil {
				return
			}
			if f.Name == "farm-keys" || f.Name == "node-keys" { // which no folder keeps
				return
			}
			paths++
			kept, err := recorded(t, f.Name, "x")
			require.NoError(t, err)
			require.True(t, filepath.IsAbs(kept), "%s --%s", name, f.Name)
		})
	}
	require.Positive(t, paths)
}
