package zoo

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/internal/testdata"
)

// FuzzOnceForAll reads texts of sub-networks: they are refused, or the network is built.
func FuzzOnceForAll(f *testing.F) {
	f.Add("2,3,3,3,4:3,3,0,0,7,5,3,0,5,5,5,0,3,7,5,0,5,7,3,3:3,3,0,0,4,3,3,0,6,4,3,0,4,4,3,0,6,6,6,4@w1")
	f.Add("2,2,2,2,2:3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0:3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0,3,3,0,0@w1.2,r160")
	f.Add("2,2,2,2,2::@w1,r9999999999999999999")
	f.Add("@w0x1p0")
	f.Fuzz(func(t *testing.T, text string) {
		var o OnceForAll
		var err error
		testdata.WithinMemory(t, len(text), func() { o, err = ParseOnceForAll(text) })
		if err != nil {
			require.Less(t, len(err.Error()), 1<<10)
			return
		}
		require.True(t, o.Side >= 0 && o.Side <= 4096, o.Side)
		require.Contains(t, []float64{1, 1.2}, o.Width)
		n, err := o.Build(32, 10)
		require.NoError(t, err)
		require.NotEmpty(t, n.Nodes)
	})
}
