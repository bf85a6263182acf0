package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/search"
)

// Every setting of config.yaml is a flag, and a preset's settings come through the flags unchanged.
func TestEverySettingOfASearchIsAFlag(t *testing.T) {
	for _, preset := range []string{search.PresetDefault, search.PresetPaper, search.PresetReleased} {
		want, err := search.Preset(preset)
		require.NoError(t, err)
		a := &app{}
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		a.addFlags(f)
		given, err := search.Preset(search.PresetDefault)
		require.NoError(t, err)
		given.Settings().Bind(f)
		text, err := want.Settings().YAML(nil)
		require.NoError(t, err)
		require.NoError(t, setFromYAML(f, text))
		got, err := searchConfig(f)
		require.NoError(t, err)
		require.Equal(t, want, got)

		f = pflag.NewFlagSet("", pflag.ContinueOnError)
		a.addFlags(f)
		given.Settings().Bind(f)
		require.NoError(t, f.Parse([]string{"--preset", preset, "--max-params", "9M"}))
		want.MaxParams = 9e6
		got, err = searchConfig(f)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestCommandLineIsForAShell(t *testing.T) {
	a := &app{args: []string{"search", "--labels", "table:a b.csv?run=1&split=test", "--out", "it's"}}
	require.Equal(t, `ctnas search --labels 'table:a b.csv?run=1&split=test' --out 'it'\''s'`, a.commandLine())
}
