package report

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var tickText = regexp.MustCompile(`class="tick" x="51\.0" y="[0-9.]+" text-anchor="end">([^<]*)<`)

// ticksOf are the labels of a chart's y axis.
func ticksOf(picture string) (out []string) {
	for _, m := range tickText.FindAllStringSubmatch(picture, -1) {
		out = append(out, m[1])
	}
	return out
}

// A curve that never changes has ticks that people can read: round ones, no two the same.
func TestConstantCurves(t *testing.T) {
	constant := func(y float64, percent bool) []string {
		c := chart{x: "x", y: "y", percent: percent, series: []series{{points: []point{{x: 1, y: y}, {x: 2, y: y}}}}}
		return ticksOf(string(c.svg()))
	}
	require.Equal(t, []string{"0.90", "0.95", "1.00", "1.05", "1.10"}, constant(1, false))
	require.Contains(t, constant(0, false), "0.0")
	require.Contains(t, constant(0.8335, true), "80 %")
	require.Equal(t, []string{"-1.0 %", "-0.5 %", "0.0 %", "0.5 %", "1.0 %"}, constant(0, true))
}

// Whatever the values: ticks are all different, and few.
func TestTicksAreDifferent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Float64Range(-1e6, 1e6).Draw(t, "base")
		size := math.Pow(10, rapid.Float64Range(-9, 9).Draw(t, "size"))
		c := chart{x: "x", y: "y", percent: rapid.Bool().Draw(t, "percent"), series: []series{{
			points: []point{{x: 1, y: base}, {x: 2, y: base + size}}}}}
		ticks := ticksOf(string(c.svg()))
		require.GreaterOrEqual(t, len(ticks), 2, "%v", ticks)
		require.LessOrEqual(t, len(ticks), 14, "%v", ticks)
		known := map[string]bool{}
		for _, tick := range ticks {
			require.False(t, known[tick], "%v", ticks)
			known[tick] = true
		}
	})
}

// What is far below the rest stands on the axis with a mark of its own, and the chart says how far it is.
func TestValuesBelowTheAxis(t *testing.T) {
	points := []point{{x: 20, y: 0.1, title: "diverged"}}
	for i := range 19 {
		points = append(points, point{x: float64(i), y: 0.9 + float64(i)/1000})
	}
	picture := string(chart{x: "labels", y: "accuracy", percent: true,
		series: []series{{kind: dots, points: points}}}.svg())
	require.Equal(t, 1, strings.Count(picture, `class="below"`))
	require.Contains(t, picture, "<title>diverged</title>")
	require.Contains(t, picture, "▽ 1 below the axis, the least 10 %")
	picture = string(chart{x: "labels", y: "accuracy", series: []series{{kind: dots, points: points[1:]}}}.svg())
	require.NotContains(t, picture, "below")
	wellFormed(t, picture)
}

// Series are told apart by shape as well as by colour.
func TestMarksDiffer(t *testing.T) {
	known := map[string]bool{}
	for i := range marks {
		known[mark(i, 1, 2)] = true
	}
	require.Len(t, known, len(marks))
}
