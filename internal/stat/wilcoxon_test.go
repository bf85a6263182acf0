package stat

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// signedRankDefinition tries all signs.
func signedRankDefinition(d []float64) float64 {
	size := make([]float64, len(d))
	for i, v := range d {
		size[i] = math.Abs(v)
	}
	ranks := Ranks(size)
	sum := func(positive func(i int) bool) (w float64) { // how far from the middle
		for i, r := range ranks {
			if positive(i) {
				w += r
			} else {
				w -= r
			}
		}
		return math.Abs(w)
	}
	seen, as := sum(func(i int) bool { return d[i] > 0 }), 0
	for signs := range 1 << len(d) {
		if sum(func(i int) bool { return signs>>i&1 == 1 }) >= seen-1e-9 {
			as++
		}
	}
	return float64(as) / float64(int(1)<<len(d))
}

func TestSignedRank(t *testing.T) {
	// The heights of plants of the example in SciPy's documentation of stats.wilcoxon (1.14).
	p, n := SignedRank([]float64{6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75})
	require.Equal(t, 15, n)
	require.InDelta(t, 0.041259765625, p, 1e-15)
	p, n = SignedRank([]float64{0, math.NaN(), 0})
	require.Equal(t, 0, n)
	require.Equal(t, 1.0, p)
	p, n = SignedRank([]float64{1, 2, 3, 4, 5, 6, 0})
	require.Equal(t, 6, n)
	require.InDelta(t, 2.0/64, p, 1e-15)
}

func TestSignedRankEqualsItsDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for range 40 {
		d := make([]float64, 1+random.IntN(11))
		for i := range d {
			d[i] = float64(1+random.IntN(6)) * float64(2*random.IntN(2)-1) // with ties
		}
		p, n := SignedRank(d)
		require.Equal(t, len(d), n)
		require.InDelta(t, signedRankDefinition(d), p, 1e-12, "%v", d)
	}
}

// Where counting ends, the normal distribution is near.
func TestSignedRankOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	d := make([]float64, maxExact)
	for i := range d {
		d[i] = random.NormFloat64() + 0.3
	}
	exact, _ := SignedRank(d)
	more, n := SignedRank(append(d, 1e-9, -2e-9)) // the two least ranks
	require.Equal(t, maxExact+2, n)
	require.InDelta(t, exact, more, 0.01)
	require.NotEqual(t, exact, more)
}

func TestHolm(t *testing.T) {
	got := Holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} { // of R's p.adjust
		require.InDelta(t, want, got[i], 1e-15)
	}
	require.Equal(t, []float64{1, 1}, Holm([]float64{0.7, 0.9}))
	require.Empty(t, Holm(nil))
}
