package report

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever stands in a run's files, the page is written or an error says why not.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"space":"nasbench101","pick":"nasbench101:best","architectures":[{"arch":"nasbench101:best","accuracy":0.94}]}`),
		[]byte("{\"arch\":\"a\",\"accuracy\":0.9,\"round\":0}\n"), []byte("{\"event\":\"round\",\"step\":0,\"labels\":1,\"best\":0.9}\n"), []byte("seed: 1\nrun: {command: x}\n"))
	f.Add([]byte(`{}`), []byte("{}\n{}\n"), []byte("{\"event\":\"controller\",\"step\":1e300,\"reward\":1}\n"), []byte("a: &a [*a]\n"))
	f.Add([]byte(`{"architectures":[{"accuracy":1e308},{"accuracy":-1e308,"madds":-9223372036854775808},{"accuracy":0,"predicted_rank":1}]}`),
		[]byte("{\"accuracy\":1e308}\n{\"accuracy\":-1e308}\n"), []byte("{\"event\":\"cost\",\"step\":0,\"seconds_a\":-1}\n"), []byte("- 1\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, result, ledger, log, config []byte) {
		for name, text := range map[string][]byte{ResultName: result, LedgerName: ledger, LogName: log, ConfigName: config} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
		}
		d, err := Load(dir)
		if err != nil {
			return
		}
		require.NoError(t, d.Write(dir))
	})
}
