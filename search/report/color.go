package report

import (
	"math"
	"strconv"
)

// opColors are used in the order of the alphabet, those of Okabe and Ito first (Color Universal Design, 2008), which
// people tell apart who see fewer colours; behind them come darker ones. All can be told from a light and a dark page.
var opColors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#8c564b",
	"#7f3c8d", "#4b6a1e"}

const endColor = "#5d6673" // input and output, and what is no choice

// Ink on colours.
const (
	darkInk  = "#111"
	lightInk = "#fff"
)

// inkOn is the ink that can be read on a colour: that of the greater contrast (WCAG 2.2).
func inkOn(color string) string {
	l := luminance(color)
	if (1+0.05)/(l+0.05) >= (l+0.05)/(luminance(darkInk)+0.05) {
		return lightInk
	}
	return darkInk
}

// channels are red, green and blue of #rgb or #rrggbb as light, from 0 to 1 (IEC 61966-2-1); NaN of other texts.
func channels(color string) (c [3]float64) {
	digits := len(color) / 3
	for i := range c {
		v, err := strconv.ParseUint(color[1+i*digits:1+(i+1)*digits], 16, 16)
		if err != nil {
			return [3]float64{math.NaN(), math.NaN(), math.NaN()}
		}
		s := float64(v) / (math.Pow(16, float64(digits)) - 1)
		if s <= 0.04045 {
			c[i] = s / 12.92
		} else {
			c[i] = math.Pow((s+0.055)/1.055, 2.4)
		}
	}
	return c
}

// luminance is the relative one, from 0 of black to 1 of white.
func luminance(color string) float64 {
	c := channels(color)
	return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
}
