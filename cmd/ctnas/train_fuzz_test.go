package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/trainer"
)

// FuzzTraining reads what claims to be the config.yaml of a training: it is refused, or a recipe within its limits,
// which is written and read back.
func FuzzTraining(f *testing.F) {
	s := trainSettings{Arch: "nasbench101:best", Data: "shapes", RecipeName: "shapes", Recipe: trainer.RecipeDefaults(), Seed: 3}
	text, err := yaml.Marshal(s)
	require.NoError(f, err)
	require.NoError(f, new(trainSettings).parse(text))
	f.Add(text)
	f.Add(append(text, "run:\n  command: ctnas train\n"...))
	f.Add([]byte("arch: a\ndata: b\nepochs: 1e9\n"))
	f.Add([]byte("arch: a\ndata: b\nworkers: -3\ncheckpoint-every: -1\non-nan: x\non-corrupt: skip=-1\n"))
	f.Add([]byte("a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\narch: *c\n"))
	f.Add([]byte("&x arch: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := trainSettings{Recipe: trainer.RecipeDefaults()}
		var err error
		testdata.WithinMemory(t, len(text), func() { err = s.parse(text) })
		if err != nil {
			return
		}
		require.NoError(t, s.Check())
		require.True(t, s.Arch != "" && s.Data != "")
		require.GreaterOrEqual(t, s.Workers, 0)
		require.GreaterOrEqual(t, s.CheckpointEvery, 0)
		again, err := yaml.Marshal(s)
		require.NoError(t, err)
		var back trainSettings
		require.NoError(t, back.parse(again), string(again))
		require.Equal(t, s, back)
	})
}
