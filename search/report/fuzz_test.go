package report

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// A result and a ledger as they should be.
const (
	oneArch = `{"space":"nasbench101","pick":"nasbench101:best",` +
		`"architectures":[{"arch":"nasbench101:best","accuracy":0.94}]}`
	oneLabel = "{\"arch\":\"a\",\"accuracy\":0.9,\"round\":0}\n"
)

// Whatever stands in a run's files, the page is written or an error says why not.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(oneArch), []byte(oneLabel), []byte("{\"event\":\"round\",\"step\":0,\"labels\":1,\"best\":0.9}\n"),
		[]byte("seed: 1\nrun: {command: x}\n"))
	f.Add([]byte(`{}`), []byte("{}\n{}\n"), []byte("{\"event\":\"controller\",\"step\":1e300,\"reward\":1}\n"),
		[]byte("a: &a [*a]\n"))
	f.Add([]byte(`{"architectures":[{"accuracy":1e308},{"accuracy":-1e308,"madds":-9223372036854775808},`+
		`{"accuracy":0,"predicted_rank":1}]}`),
		[]byte("{\"accuracy\":1e308}\n{\"accuracy\":-1e308}\n"),
		[]byte("{\"event\":\"cost\",\"step\":0,\"seconds_a\":-1}\n"), []byte("- 1\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, result, ledger, log, config []byte) {
		for name, text := range map[string][]byte{ResultName: result, LedgerName: ledger, LogName: log,
			ConfigName: config} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
		}
		d, err := Load(dir)
		if err != nil {
			return
		}
		require.NoError(t, d.Write(dir))
	})
}

// Whatever stands in retrained.json, the page shows it or an error says why not.
func FuzzRetrained(f *testing.F) {
	f.Add([]byte(`{"labels":"trained","seeds":[1,2],` +
		`"pick":{"arch":"nasbench101:best","test":[0.9,0.8],"mean":0.85,"sd":0.07},` +
		`"random":[{"arch":"x","test":[0.5],"mean":0.5,"params":5}],"beaten":1,` +
		`"random_mean":0.5,"random_sd":null,"random_best":0.5}`))
	f.Add([]byte(`{"pick":{"arch":"<script>","test":[2]},` +
		`"random":[{"mean":null},{"mean":1e308},{"params":-9223372036854775808}]}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"random":null,"seeds":[18446744073709551615]}`))
	dir := f.TempDir()
	require.NoError(f, os.WriteFile(filepath.Join(dir, ResultName), []byte(oneArch), 0o644))
	require.NoError(f, os.WriteFile(filepath.Join(dir, LedgerName), []byte(oneLabel), 0o644))
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, RetrainedName), text, 0o644))
		var r *Retrained
		var err error
		testdata.WithinFactor(t, len(text), 512, func() { r, err = readRetrained(dir) })
		if err != nil {
			return
		}
		for _, x := range r.Random {
			for _, v := range x.Test {
				require.True(t, v >= 0 && v <= 1)
			}
		}
		d, err := Load(dir)
		require.NoError(t, err)
		require.NoError(t, d.Write(dir))
	})
}
