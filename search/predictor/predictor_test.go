package predictor

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
)

// The authors' network gave these outputs for these inputs.
func TestPredictionsOfTheData(t *testing.T) {
	p, err := Open(testdata.Path(t, "mobilenetv3/ofa_acc_predictor.f32"))
	require.NoError(t, err)
	f, err := os.Open(testdata.Path(t, "mobilenetv3/ofa_acc_predictor_check.csv"))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 51)
	for _, r := range rows[1:] {
		sp, err := space.Open("mobilenetv3@w1.2,r" + r[3])
		require.NoError(t, err)
		a, err := sp.(space.MobileNetV3).NewMobileNet(r[0], r[1], r[2])
		require.NoError(t, err)
		require.True(t, p.Has(a))
		got, err := p.Label(t.Context(), []space.Arch{a})
		require.NoError(t, err)
		want, err := strconv.ParseFloat(r[4], 64)
		require.NoError(t, err)
		require.InDelta(t, want, got[0], 2e-6, a)
	}
	other, err := space.Open("mobilenetv3@w1.2,r236")
	require.NoError(t, err)
	a := other.Sample(philox.New(1, philox.PurposeTest, 0))
	require.False(t, p.Has(a))
	_, err = p.Label(t.Context(), []space.Arch{a})
	require.ErrorIs(t, err, ledger.ErrNoLabel)
}

func TestBadFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.f32")
	require.NoError(t, os.WriteFile(path, make([]byte, 100), 0o600))
	_, err := Open(path)
	require.ErrorContains(t, err, "has 100 bytes")
	data := make([]byte, 1491204)
	data[7], data[6] = 0x7f, 0xc0
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "offset 4 is NaN")
}
