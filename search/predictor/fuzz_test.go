package predictor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/format"
)

// FuzzPredictor reads what claims to be an accuracy predictor: it is refused, or it predicts.
func FuzzPredictor(f *testing.F) {
	for _, name := range []func(int, string) string{tutorialName, packagedName} {
		for _, widths := range [][]int{{128, 2, 1}, {121, 2, 1}, {128, 1}} {
			path := filepath.Join(f.TempDir(), "p.safetensors")
			require.NoError(f, format.WriteSafetensors(path, tensorsOf(name, widths...), nil))
			content, err := os.ReadFile(path)
			require.NoError(f, err)
			f.Add(content)
		}
	}
	f.Add([]byte("PK\x03\x04"))
	sp, err := space.Open("mobilenetv3@w1.2,r160-224")
	require.NoError(f, err)
	stream := philox.New(1, philox.PurposeTest, 0)
	var archs []space.Arch
	for range 4 {
		archs = append(archs, sp.Sample(stream))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var n network
		var err error
		testdata.WithinFactor(t, len(data), 512, func() { n, err = decode(data) })
		if err != nil {
			require.Less(t, len(err.Error()), 4<<10)
			return
		}
		p := &Predictor{name: "p", network: n}
		for _, a := range archs {
			if !p.Has(a) {
				continue
			}
			got, err := p.Label(t.Context(), []space.Arch{a})
			require.NoError(t, err)
			require.True(t, got[0] >= 0 && got[0] <= 1, got[0])
		}
	})
}
