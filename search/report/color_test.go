package report

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seen are colours as people see them whose eyes lack one kind of cones, in linear light (Machado, Oliveira and
// Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009, severity 1).
var seen = map[string][3][3]float64{
	"all cones": {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"protanope": {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"deuteranope": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413},
		{-0.011820, 0.042940, 0.968881}},
	"tritanope": {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

// lab is a colour in CIELAB under D65, seen through a matrix.
func lab(color string, m [3][3]float64) (out [3]float64) {
	c := channels(color)
	var rgb [3]float64
	for i := range rgb {
		for j := range c {
			rgb[i] += m[i][j] * c[j]
		}
		rgb[i] = min(max(rgb[i], 0), 1)
	}
	f := func(t float64) float64 {
		if t > 216.0/24389 {
			return math.Cbrt(t)
		}
		return (24389.0/27*t + 16) / 116
	}
	x := f((0.4124*rgb[0] + 0.3576*rgb[1] + 0.1805*rgb[2]) / 0.95047)
	y := f(0.2126*rgb[0] + 0.7152*rgb[1] + 0.0722*rgb[2])
	z := f((0.0193*rgb[0] + 0.1192*rgb[1] + 0.9505*rgb[2]) / 1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// apart is the distance of two colours, CIE 1976.
func apart(a, b string, m [3][3]float64) float64 {
	x, y := lab(a, m), lab(b, m)
	return math.Sqrt((x[0]-y[0])*(x[0]-y[0]) + (x[1]-y[1])*(x[1]-y[1]) + (x[2]-y[2])*(x[2]-y[2]))
}

var colorLine = regexp.MustCompile(`--c\d: (#[0-9a-f]+);`)

// palettes are the colours of series on a light and on a dark page, those of files, and those of operations.
func palettes(t *testing.T) map[string][]string {
	all := map[string][]string{"operations": opColors[:7]}
	light, dark, found := strings.Cut(styleCSS, "@media (prefers-color-scheme: dark)")
	require.True(t, found)
	for name, text := range map[string]string{"light": light, "dark": dark} {
		for _, m := range colorLine.FindAllStringSubmatch(text, -1) {
			all[name] = append(all[name], m[1])
		}
		require.Len(t, all[name], len(marks), name)
	}
	for _, m := range regexp.MustCompile(`\.s\d\{color:(#[0-9a-f]+)\}`).FindAllStringSubmatch(fileStyle, -1) {
		all["file"] = append(all["file"], m[1])
	}
	require.Equal(t, all["light"], all["file"])
	return all
}

// Whoever sees fewer colours can tell the series apart: 10 is far more than the least difference that people notice,
// some 2.
func TestColorsAreApart(t *testing.T) {
	require.InDelta(t, 100, lab("#fff", seen["all cones"])[0], 0.01)
	require.InDelta(t, 53.24, lab("#f00", seen["all cones"])[0], 0.01) // Lindbloom's calculator
	require.InDelta(t, 80.09, lab("#f00", seen["all cones"])[1], 0.05)
	for name, palette := range palettes(t) {
		for eyes, m := range seen {
			for i, a := range palette {
				for _, b := range palette[:i] {
					require.Greater(t, apart(a, b, m), 10.0, "%s: %s and %s for a %s", name, a, b, eyes)
				}
			}
		}
	}
	require.Less(t, apart("#b5661c", "#7d6a1d", seen["deuteranope"]), 20.0, "the measure sees what was too near before")
}

// Text on a box has the contrast that WCAG 2.2 asks for (AA), whatever the operation.
func TestInkIsReadable(t *testing.T) {
	for _, color := range append(opColors, endColor) {
		light, dark := luminance(color), luminance(inkOn(color))
		if dark > light {
			light, dark = dark, light
		}
		require.GreaterOrEqual(t, (light+0.05)/(dark+0.05), 4.5, color)
	}
	require.Equal(t, lightInk, inkOn("#000"))
	require.Equal(t, darkInk, inkOn("#fff"))
}
