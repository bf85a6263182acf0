package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// What a configuration sets is what the resolved configuration sets again.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("seed: 3\nmethods: [a, b]\ntext: table:x\nmax-madds: 482M\nrun:\n  seed: [1]\n"))
	f.Add([]byte("seed: &x 3\nthreads: *x\n"))
	f.Add([]byte("text: |\n  a\n  b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		flags := func() *pflag.FlagSet {
			set := pflag.NewFlagSet("test", pflag.ContinueOnError)
			(&app{}).addFlags(set)
			set.StringSlice("methods", nil, "")
			set.String("text", "", "")
			set.Float64("rate", 0.5, "")
			set.Var(new(sizeValue), "max-madds", "")
			return set
		}
		first, second := flags(), flags()
		if setFromYAML(first, text) != nil {
			return
		}
		resolved, err := resolvedConfig(first, map[string]string{"command": "x"})
		require.NoError(t, err)
		require.NoError(t, setFromYAML(second, resolved), string(resolved))
		again, err := resolvedConfig(second, map[string]string{"command": "x"})
		require.NoError(t, err)
		require.Equal(t, string(resolved), string(again))
	})
}
