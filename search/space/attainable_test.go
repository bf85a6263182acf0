package space

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ctnas/ctnas/kernels/philox"
)

// What a limit must allow at least is the sum of each place's fastest part where parts are chosen independently, and
// the fastest of a list where there is one.
func TestLoosenSaysWhatIsAttainable(t *testing.T) {
	s := philox.New(5, philox.PurposeTest, 0)
	opened, err := Open("spos")
	require.NoError(t, err)
	sp := opened.(BlockChains)
	times := randomTimes(t, sp, s)
	fastest := times.parts[chainStemPart] + times.parts[chainHeadPart]
	for i, blocks := range sp.layers() {
		least := int64(math.MaxInt64)
		for k := range blocks {
			least = min(least, times.parts[sp.part(i, k)])
		}
		fastest += least
	}
	l := Limits{Latency: 1, Times: times}
	require.Equal(t, fmt.Sprintf("--max-latency; the fastest that was found takes %g ms", float64(fastest)/1e6),
		l.Loosen(sp, nil))
	var some []Arch
	least := int64(math.MaxInt64)
	for range 9 {
		some = append(some, sp.Sample(s))
		ns, _ := times.Of(some[len(some)-1])
		least = min(least, ns)
	}
	require.Equal(t, fmt.Sprintf("--max-latency; the fastest that was found takes %g ms", float64(least)/1e6),
		l.Loosen(sp, slices.Values(some)))
	require.Equal(t, "--max-latency", Limits{Latency: 1}.Loosen(sp, nil), "no times are known")
}
