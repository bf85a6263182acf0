package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// FuzzTraining reads what claims to be the config.yaml of a training: it is refused, or a recipe within its limits,
// which is written and read back.
func FuzzTraining(f *testing.F) {
	s := newTrainSettings()
	s.Arch, s.Data, s.Seed = "nasbench101:best", "shapes", 3
	text, err := s.settings().YAML(nil)
	require.NoError(f, err)
	require.NoError(f, new(trainSettings).parse(text))
	f.Add(text)
	f.Add(append(text, "run:\n  command: ctnas train\n"...))
	f.Add([]byte("arch: a\ndata: shapes\nepochs: 1e9\n"))
	f.Add([]byte("arch: a\ndata: b\nworkers: -3\ncheckpoint-every: -1\non-nan: x\non-corrupt: skip=-1\n"))
	f.Add([]byte("a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\narch: *c\n"))
	f.Add([]byte("&x arch: *x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newTrainSettings()
		var err error
		testdata.WithinMemory(t, len(text), func() { err = s.parse(text) })
		if err != nil {
			return
		}
		require.NoError(t, s.Check())
		require.NoError(t, s.settings().Check())
		require.True(t, s.Arch != "" && s.Data != "")
		require.GreaterOrEqual(t, s.Workers, 0)
		require.GreaterOrEqual(t, s.CheckpointEvery, 0)
		again, err := s.settings().YAML(nil)
		require.NoError(t, err)
		var back trainSettings
		require.NoError(t, back.parse(again), string(again))
		require.Equal(t, s, back)
	})
}
