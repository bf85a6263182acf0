package main

import (
	"testing"

	"github.com/ctnas/ctnas/internal/setting"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// What a configuration sets is what the file of a run that was configured so sets again.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("seed: 3\nmethods: [a, b]\nlabels: table:x\nmax-madds: 482M\nrun:\n  seed: [1]\n"))
	f.Add([]byte("seed: &x 3\nthreads: *x\n"))
	f.Add([]byte("labels: |\n  a\n  b\nset: [x=1]\nmethods: ['x,y', z]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		bound := func() (*pflag.FlagSet, *setting.List) {
			var o compareFlags
			l := setting.Join(o.settings(), new(app).settings())
			set := pflag.NewFlagSet("test", pflag.ContinueOnError)
			l.Bind(set)
			return set, l
		}
		flags, first := bound()
		if setFromYAML(flags, text) != nil {
			return
		}
		kept, err := first.YAML(map[string]string{"command": "x"})
		require.NoError(t, err)
		flags, second := bound()
		require.NoError(t, setFromYAML(flags, kept), string(kept))
		again, err := second.YAML(map[string]string{"command": "x"})
		require.NoError(t, err)
		require.Equal(t, string(kept), string(again))
	})
}
