package stat

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// tauDefinition is tau-b as its definition reads, over all pairs.
func tauDefinition(x, y []float64) float64 {
	var score, untiedX, untiedY float64
	for i := range x {
		for j := range i {
			a, b := compare(x[i], x[j]), compare(y[i], y[j])
			score += float64(a * b)
			untiedX += float64(a * a)
			untiedY += float64(b * b)
		}
	}
	return score / math.Sqrt(untiedX*untiedY)
}

func TestKendallBKnownValues(t *testing.T) {
	up, down := make([]float64, 10), make([]float64, 10)
	for i := range up {
		up[i], down[i] = float64(i), float64(-i)
	}
	var x, y []float64
	for k := range 1000 {
		a := (k * 7919) % 1009 % 37
		x = append(x, float64(a))
		y = append(y, float64((k*104729)%997%23+a/2))
	}
	cases := []struct {
		name string
		x, y []float64
		want float64 // scipy 1.17.1, stats.kendalltau
	}{
		{"ties in both", []float64{12, 2, 1, 12, 2}, []float64{1, 4, 7, 1, 0}, -0.4714045207910316},
		{"same order", up, up, 1},
		{"reversed", up, down, -1},
		{"accuracies", []float64{0.912, 0.93, 0.93, 0.1, 0.94, 0.94, 0.94, 0.85},
			[]float64{1.5, 2, 1, 0.5, 2, 3, 3, 1.5}, 0.7348469228349535},
		{"a thousand with many ties", x, y, 0.4539920972139877},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { require.InDelta(t, c.want, KendallB(c.x, c.y), 1e-14) })
	}
}

func TestKendallBUndefined(t *testing.T) {
	for name, c := range map[string][2][]float64{
		"nothing":      {{}, {}},
		"one value":    {{1}, {2}},
		"lengths":      {{1, 2}, {1, 2, 3}},
		"all x equal":  {{3, 3, 3}, {1, 2, 3}},
		"all y equal":  {{1, 2, 3}, {3, 3, 3}},
		"NaN in one":   {{1, math.NaN(), 3}, {1, 2, 3}},
		"NaN in other": {{1, 2, 3}, {1, 2, math.NaN()}},
	} {
		require.True(t, math.IsNaN(KendallB(c[0], c[1])), name)
	}
}

func TestKendallBEqualsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 120).Draw(t, "n")
		levels := rapid.IntRange(1, 200).Draw(t, "levels") // few levels make many ties
		draw := rapid.SliceOfN(rapid.IntRange(0, levels), n, n)
		x, y := make([]float64, n), make([]float64, n)
		for i, v := range draw.Draw(t, "x") {
			x[i] = float64(v) / 7
		}
		for i, v := range draw.Draw(t, "y") {
			y[i] = float64(v) - 3
		}
		keepX, keepY := slices.Clone(x), slices.Clone(y)
		want, got := tauDefinition(x, y), KendallB(x, y)
		if math.IsNaN(want) {
			require.True(t, math.IsNaN(got))
		} else {
			require.InDelta(t, want, got, 1e-12)
			require.InDelta(t, want, KendallB(y, x), 1e-12, "symmetric")
		}
		require.Equal(t, keepX, x, "the input is not changed")
		require.Equal(t, keepY, y, "the input is not changed")
	})
}

func TestQuantile(t *testing.T) {
	values := []float64{1, 2, 4, 8} // as numpy.quantile has it
	for q, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 3, 0.75: 5, 1: 8} {
		require.InDelta(t, want, Quantile(values, q), 1e-15)
	}
	require.Equal(t, 3.0, Quantile([]float64{3}, 0.3))
	require.True(t, math.IsNaN(Quantile(nil, 0.5)))
}

func TestRanks(t *testing.T) {
	require.Equal(t, []float64{4.5, 1.5, 6, 1.5, 8, 11, 3, 10, 8, 4.5, 8},
		Ranks([]float64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}))
	got := Ranks([]float64{2, math.NaN(), 1})
	require.Equal(t, 2.0, got[0])
	require.True(t, math.IsNaN(got[1]))
	require.Equal(t, 1.0, got[2])
	require.Empty(t, Ranks(nil))
}

func TestRanksSumIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOf(rapid.Float64Range(-3, 3)).Draw(t, "x")
		sum := 0.0
		for i, r := range Ranks(x) {
			below, equal := 0, 0
			for _, v := range x {
				if v < x[i] {
					below++
				} else if v == x[i] {
					equal++
				}
			}
			require.Equal(t, float64(below)+float64(equal+1)/2, r)
			sum += r
		}
		require.Equal(t, float64(len(x)*(len(x)+1))/2, sum)
	})
}

func TestMeanSDMedian(t *testing.T) {
	v := []float64{0.71, 0.715, 0.72, 0.7, 0.731}
	require.InDelta(t, 0.7152, Mean(v), 1e-15)
	require.InDelta(t, 0.011519548602267376, SD(v), 1e-15)
	require.Equal(t, 0.715, Median(v))
	require.Equal(t, 2.5, Median([]float64{4, 1, 3, 2}))
	require.Equal(t, []float64{0.71, 0.715, 0.72, 0.7, 0.731}, v, "the input is not changed")
	for _, f := range []func([]float64) float64{Mean, SD, Median} {
		require.True(t, math.IsNaN(f(nil)))
	}
	require.True(t, math.IsNaN(SD([]float64{1})))
	require.True(t, math.IsNaN(Median([]float64{1, math.NaN()})))
}

func TestMeanInterval(t *testing.T) {
	mean, half := MeanInterval([]float64{0.71, 0.715, 0.72, 0.7, 0.731})
	require.InDelta(t, 0.700896591225006, mean-half, 1e-12) // scipy 1.17.1, stats.t.interval
	require.InDelta(t, 0.7295034087749939, mean+half, 1e-12)
	mean, half = MeanInterval([]float64{3})
	require.Equal(t, 3.0, mean)
	require.True(t, math.IsNaN(half))
}

func TestTQuantile(t *testing.T) {
	for _, c := range []struct{ p, df, want float64 }{ // scipy 1.17.1, stats.t.ppf
		{0.975, 1, 12.706204736174694}, {0.975, 2, 4.302652729749462}, {0.975, 4, 2.7764451051977934},
		{0.975, 9, 2.262157162798205}, {0.975, 30, 2.0422724563012378}, {0.975, 1000, 1.9623390808264083},
		{0.995, 9, 3.249835541592126}, {0.9, 3, 1.637744353696209}, {0.6, 2.5, 0.2814595127485477},
	} {
		require.InDelta(t, c.want, TQuantile(c.p, c.df), 1e-8, "p %v df %v", c.p, c.df)
		require.InDelta(t, -c.want, TQuantile(1-c.p, c.df), 1e-8)
	}
	require.Zero(t, TQuantile(0.5, 3))
	for _, c := range [][2]float64{{0, 3}, {1, 3}, {0.9, 0}, {math.NaN(), 1}, {0.9, math.NaN()}} {
		require.True(t, math.IsNaN(TQuantile(c[0], c[1])))
	}
}

func BenchmarkKendallB(b *testing.B) {
	const n = 423_624
	x, y := make([]float64, n), make([]float64, n)
	state := uint64(1)
	for i := range x {
		state = state*6364136223846793005 + 1442695040888963407
		x[i] = float64(state >> 40)
		y[i] = float64(state >> 52)
	}
	for b.Loop() {
		KendallB(x, y)
	}
}
