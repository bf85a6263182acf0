package report

import (
	"cmp"
	"fmt"
	"html"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/stat"
)

// chart is a picture of series over common axes, of which the x axis counts something. Colours come from the page's
// style sheet (classes s0, s1, …).
type chart struct {
	x, y    string // axis titles
	percent bool   // y values are fractions, shown in percent
	log     bool   // both axes are logarithmic: ranks
	logY    bool   // the y axis is; what is not above zero stands on its lower edge
	height  float64
	series  []series
}

type series struct {
	name    string
	meaning string // of the name, in the legend; empty where the name says it
	color   int    // class s<color>, and the shape of its marks
	kind    kind
	points  []point
}

type kind int

const (
	curve kind = iota // a line through the points; many points become a mean line in a min-max band
	steps             // a line that keeps its value until the next point
	dots
	diagonal // y = x over the whole plot; has no points
	banded   // a line in the band between each point's low and high
	box      // quartiles and ends of the values at each x, and dots
)

type point struct {
	x, y      float64
	title     string  // shown when the mouse rests on a dot
	low, high float64 // of the band
}

const chartWidth, marginLeft, marginRight, marginTop, marginBottom = 560.0, 58.0, 12.0, 10.0, 40.0

// svg draws the chart; a chart without points is empty.
func (c chart) svg() template.HTML {
	picture := c.marks()
	if picture == "" {
		return ""
	}
	head := fmt.Sprintf(`<svg class="chart" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s over %s">`, chartWidth,
		c.tall(), html.EscapeString(c.y), html.EscapeString(c.x))
	return template.HTML(head + picture + "</svg>")
}

func (c chart) tall() float64 { return cmp.Or(c.height, 230) }

// marks are what stands in the picture; empty without points.
func (c chart) marks() string {
	c.height = c.tall()
	xs, ys := c.scales()
	if xs == nil {
		return ""
	}
	var b strings.Builder
	bottom := c.height - marginBottom
	for _, t := range ys.ticks(5) {
		fmt.Fprintf(&b,
			`<path class="grid" d="M%.1f %.1fH%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			marginLeft, ys.at(t), chartWidth-marginRight, marginLeft-7, ys.at(t)+4, ys.label(t, c.percent))
	}
	for _, t := range xs.ticks(7) {
		fmt.Fprintf(&b,
			`<path class="grid" d="M%.1f %.1fv4"/><text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
			xs.at(t), bottom, xs.at(t), bottom+17, xs.label(t, false))
	}
	fmt.Fprintf(&b, `<path class="axis" d="M%.1f %.1fH%.1f"/>`, marginLeft, bottom, chartWidth-marginRight)
	below, least := c.below(ys)
	at, anchor := (marginLeft+chartWidth-marginRight)/2, "middle"
	if below > 0 { // what is said of them needs the room at the right
		at, anchor = marginLeft, "start"
	}
	fmt.Fprintf(&b, `<text class="title" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, at, c.height-5, anchor,
		html.EscapeString(c.x))
	fmt.Fprintf(&b,
		`<text class="title" x="12" y="%.1f" text-anchor="middle" transform="rotate(-90 12 %.1f)">%s</text>`,
		(marginTop+bottom)/2, (marginTop+bottom)/2, html.EscapeString(c.y))
	for _, s := range c.series {
		s.draw(&b, xs, ys)
	}
	if below > 0 {
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%.1f" text-anchor="end">`+
			"▽ %s below the axis, the least %s</text>",
			chartWidth-marginRight, c.height-5, grouped(below), ys.value(least, c.percent))
	}
	return b.String()
}

// below is how many points of the chart are below its axis, where a mark of its own stands for each, and the least.
func (c chart) below(ys *scale) (n int, least float64) {
	least = math.Inf(1)
	for _, s := range c.series {
		for _, p := range s.points {
			if s.marked() && p.y < ys.from {
				n, least = n+1, min(least, p.y)
			}
		}
	}
	return n, least
}

// marked tells whether each point of the series has a mark.
func (s series) marked() bool {
	return s.kind == dots || s.kind == box || s.kind == curve && len(s.points) <= mostMarks
}

// mostMarks is how many points a curve has at most whose points are marked.
const mostMarks = 40

// fileStyle is of a chart that stands alone: on paper, in colours that people tell apart who see fewer of them (Okabe
// and Ito, Color Universal Design, 2008).
const fileStyle = `text{font-family:Helvetica,Arial,sans-serif;font-size:11.5px;fill:#333}.title{font-size:12px}` +
	`.grid{stroke:#ddd;fill:none}.axis{stroke:#333;fill:none}.guide{stroke:#777;stroke-dasharray:4 4;fill:none}` +
	`.line{fill:none;stroke:currentColor;stroke-width:1.8;stroke-linejoin:round}.band{fill:currentColor;opacity:.18}` +
	`.dots,.key{fill:currentColor}.box{fill:none;stroke:currentColor}.below{fill:#fff;stroke:currentColor}` +
	`.s0{color:#0072b2}.s1{color:#d55e00}.s2{color:#009e73}.s3{color:#cc79a7}.s4{color:#e69f00}.s5{color:#56b4e9}` +
	`.s6{color:#000}`

// file is the chart as a file of its own, with a legend above; an empty picture without points.
func (c chart) file() string {
	const row, column = 16.0, 140.0
	perRow := int(math.Floor((chartWidth - marginLeft) / column))
	var legend strings.Builder
	n := 0
	for _, s := range c.series {
		if s.name == "" || len(s.points) == 0 {
			continue
		}
		x, y := marginLeft+column*float64(n%perRow), row*float64(n/perRow)+12
		fmt.Fprintf(&legend, `<rect class="key s%d" x="%.1f" y="%.1f" width="16" height="3"/>`, s.color, x, y-5)
		fmt.Fprintf(&legend, `<text x="%.1f" y="%.1f">%s</text>`, x+21, y, html.EscapeString(s.name))
		n++
	}
	above := row * float64((n+perRow-1)/perRow)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]g" height="%[2]g" `+
		`viewBox="0 0 %[1]g %[2]g"><style>%[3]s</style>%[4]s<g transform="translate(0 %[5]g)">%[6]s</g></svg>`+"\n",
		chartWidth, c.tall()+above, fileStyle, legend.String(), above, c.marks())
}

// legend names the series that have a name.
func (c chart) legend() template.HTML {
	var b strings.Builder
	for _, s := range c.series {
		if s.name != "" && len(s.points) > 0 {
			fmt.Fprintf(&b, `<span class="key"><svg class="s%d" width="16" height="10" viewBox="-8 -5 16 10">`, s.color)
			if s.kind == dots || s.kind == box {
				b.WriteString(mark(s.color, 0, 0) + "/>")
			} else {
				b.WriteString(`<path class="line" d="M-8 0H8"/>`)
			}
			b.WriteString("</svg>" + html.EscapeString(s.name))
			if s.meaning != "" {
				b.WriteString(`: ` + html.EscapeString(s.meaning))
			}
			b.WriteString("</span>")
		}
	}
	return template.HTML(b.String())
}

// buckets is how many pieces a curve is drawn with at most.
const buckets = 140

func (s series) draw(b *strings.Builder, xs, ys *scale) {
	switch s.kind {
	case dots:
		fmt.Fprintf(b, `<g class="dots s%d">`, s.color)
		for _, p := range s.points {
			picture := mark(s.color, xs.at(p.x), ys.at(p.y))
			if p.y < ys.from { // an open mark on the edge, which the title tells the value of
				picture = fmt.Sprintf(`<path class="below" d="M%.1f %.1fl-3.6 -6h7.2z"`, xs.at(p.x), ys.at(p.y)+4)
			}
			if p.title == "" {
				b.WriteString(picture + "/>")
			} else {
				fmt.Fprintf(b, "%s><title>%s</title></path>", picture, html.EscapeString(p.title))
			}
		}
		b.WriteString("</g>")
	case steps:
		fmt.Fprintf(b, `<path class="line s%d" d="`, s.color)
		for i, p := range s.points {
			if i == 0 {
				fmt.Fprintf(b, "M%.1f %.1f", xs.at(p.x), ys.at(p.y))
			} else {
				fmt.Fprintf(b, "H%.1fV%.1f", xs.at(p.x), ys.at(p.y))
			}
		}
		fmt.Fprintf(b, `H%.1f"/>`, xs.at(xs.to))
	case diagonal:
		from, to := max(xs.from, ys.from), min(xs.to, ys.to)
		fmt.Fprintf(b, `<path class="guide" d="M%.1f %.1fL%.1f %.1f"/>`, xs.at(from), ys.at(from), xs.at(to), ys.at(to))
	case banded:
		var low, high []point
		for _, p := range s.points {
			low, high = append(low, point{x: p.x, y: p.low}), append(high, point{x: p.x, y: p.high})
		}
		slices.Reverse(low)
		fmt.Fprintf(b, `<path class="band s%d" d="%sz"/>`, s.color, polyline(append(high, low...), xs, ys))
		fmt.Fprintf(b, `<path class="line s%d" d="%s"/>`, s.color, polyline(s.points, xs, ys))
	case box:
		s.boxes(b, xs, ys)
		series{color: s.color, kind: dots, points: s.points}.draw(b, xs, ys)
	case curve:
		mean := s.points
		if len(s.points) > buckets {
			var low, high []point
			mean, low, high = bucketed(s.points)
			slices.Reverse(low)
			fmt.Fprintf(b, `<path class="band s%d" d="%sz"/>`, s.color, polyline(append(high, low...), xs, ys))
		}
		fmt.Fprintf(b, `<path class="line s%d" d="%s"/>`, s.color, polyline(mean, xs, ys))
		if s.marked() {
			series{color: s.color, kind: dots, points: s.points}.draw(b, xs, ys)
		}
	}
}

// marks are the shapes of points, by the series' colour, so that who sees no colours tells them apart too: paths around
// the point, in circles of about the same area.
var marks = [...]string{"m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z", "m-2.7 -2.7h5.4v5.4h-5.4z", "m0 -3.8l3.6 6.2h-7.2z",
	"m0 -4l3.6 4l-3.6 4l-3.6 -4z", "m-1.1 -3.6h2.2v2.5h2.5v2.2h-2.5v2.5h-2.2v-2.5h-2.5v-2.2h2.5z",
	"m0 3.8l3.6 -6.2h-7.2z", "m-3.4 -1.8l1.6 -1.6l1.8 1.8l1.8 -1.8l1.6 1.6l-1.8 1.8l1.8 1.8l-1.6 1.6l-1.8 -1.8" +
		"l-1.8 1.8l-1.6 -1.6l1.8 -1.8z"}

// mark begins the path of a series' mark at a place.
func mark(color int, x, y float64) string {
	return fmt.Sprintf(`<path d="M%.1f %.1f%s"`, x, y, marks[color%len(marks)])
}

// boxes draw the values at each x: a box from the lower to the upper quartile with a line at the median, and lines to
// the last values within one and a half of the box's height (Tukey, Exploratory Data Analysis, 1977).
func (s series) boxes(b *strings.Builder, xs, ys *scale) {
	at := map[float64][]float64{}
	for _, p := range s.points {
		at[p.x] = append(at[p.x], p.y)
	}
	for _, x := range slices.Sorted(maps.Keys(at)) {
		values := at[x]
		if len(values) < 3 { // dots say all
			continue
		}
		slices.Sort(values)
		q1, q2, q3 := stat.Quantile(values, 0.25), stat.Quantile(values, 0.5), stat.Quantile(values, 0.75)
		least, most := q1, q3
		for _, v := range values {
			if v >= q1-1.5*(q3-q1) && v <= q3+1.5*(q3-q1) {
				least, most = min(least, v), max(most, v)
			}
		}
		const half, end = 15.0, 7.0
		mid := xs.at(x)
		fmt.Fprintf(b, `<path class="box s%d" d="M%.1f %.1fH%.1fV%.1fH%.1fz`, s.color, mid-half, ys.at(q1), mid+half,
			ys.at(q3), mid-half)
		for _, line := range [][2]float64{{q1, least}, {q3, most}} {
			from, to := ys.at(line[0]), ys.at(line[1])
			fmt.Fprintf(b, "M%.1f %.1fV%.1fM%.1f %.1fh%.1f", mid, from, to, mid-end, to, 2*end)
		}
		b.WriteString(`"/>`)
		fmt.Fprintf(b, `<path class="line s%d" d="M%.1f %.1fH%.1f"/>`, s.color, mid-half, ys.at(q2), mid+half)
	}
}

// bucketed shortens a curve to the mean, the least and the greatest value of each of its pieces.
func bucketed(points []point) (mean, low, high []point) {
	for i := range buckets {
		piece := points[i*len(points)/buckets : (i+1)*len(points)/buckets]
		x, y, least, most := 0.0, 0.0, math.Inf(1), math.Inf(-1)
		for _, p := range piece {
			x, y, least, most = x+p.x, y+p.y, min(least, p.y), max(most, p.y)
		}
		n := float64(len(piece))
		mean = append(mean, point{x: x / n, y: y / n})
		low = append(low, point{x: x / n, y: least})
		high = append(high, point{x: x / n, y: most})
	}
	return mean, low, high
}

func polyline(points []point, xs, ys *scale) string {
	var b strings.Builder
	for i, p := range points {
		fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(i, 1)], xs.at(p.x), ys.at(p.y))
	}
	return b.String()
}

// scale maps values from..to onto pixels.
type scale struct {
	from, to     float64
	pixel0, size float64 // where from stands, and the signed length
	log          bool
	least        float64 // distance between ticks: 1 where values are counts
}

func (s *scale) at(v float64) float64 {
	v = max(min(v, s.to), s.from)
	if s.log {
		return s.pixel0 + s.size*math.Log(v/s.from)/math.Log(s.to/s.from)
	}
	return s.pixel0 + s.size*(v-s.from)/(s.to-s.from)
}

// scales spans all points; nil without any. Outliers far below the rest (a diverged training) do not stretch the y
// axis.
func (c chart) scales() (xs, ys *scale) {
	var x, y []float64
	for _, s := range c.series {
		for _, p := range s.points {
			x, y = append(x, p.x), append(y, p.y)
			if s.kind == banded {
				y = append(y, p.high)
				if !c.logY { // there is no way to show what is not above zero
					y = append(y, p.low)
				}
			}
		}
	}
	if c.logY {
		y = slices.DeleteFunc(y, func(v float64) bool { return v <= 0 })
	}
	if len(x) == 0 || len(y) == 0 {
		return nil, nil
	}
	xFrom, xTo := slices.Min(x), slices.Max(x)
	yFrom, yTo := lowest(y), slices.Max(y)
	if c.logY {
		yFrom = slices.Min(y)
		yTo = max(yTo, yFrom*2)
		if xFrom == xTo {
			xFrom, xTo = xFrom-1, xTo+1
		}
	} else if c.log {
		xFrom, yFrom = max(1, xFrom), max(1, yFrom)
		xTo, yTo = max(xTo, xFrom*10), max(yTo, yFrom*10)
	} else {
		if xFrom == xTo {
			xFrom, xTo = xFrom-1, xTo+1
		}
		pad := (yTo - yFrom) * 0.07
		if most := max(math.Abs(yFrom), math.Abs(yTo)); yTo-yFrom <= most*1e-9 { // one value: round ticks around it
			if pad = most * 0.1; pad == 0 {
				pad = 1
				if c.percent {
					pad = 0.01
				}
			}
		}
		yFrom, yTo = yFrom-pad, yTo+pad
	}
	bottom := c.height - marginBottom
	xs = &scale{xFrom, xTo, marginLeft + 6, chartWidth - marginLeft - marginRight - 12, c.log, 1}
	ys = &scale{yFrom, yTo, bottom - 4, -(bottom - marginTop - 8), c.log || c.logY, 0}
	return xs, ys
}

// lowest is the least value worth showing: the minimum, or a value below the lower quartile by three times the
// quartiles' distance.
func lowest(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	q1, q3 := sorted[len(sorted)/4], sorted[len(sorted)*3/4]
	fence := q1 - 3*(q3-q1)
	i, _ := slices.BinarySearch(sorted, fence)
	return sorted[min(i, len(sorted)-1)]
}

// ticks are about n round values inside the scale.
func (s *scale) ticks(n int) (out []float64) {
	if s.log {
		marks := []float64{1}
		if s.to < 8*s.from { // powers of ten alone would be too few
			marks = []float64{1, 2, 3, 4, 5, 6, 8}
		} else if s.to < 100*s.from {
			marks = []float64{1, 2, 5}
		}
		for power := math.Floor(math.Log10(s.from)); math.Pow(10, power) <= s.to; power++ {
			for _, m := range marks {
				if t := m * math.Pow(10, power); t >= s.from*(1-1e-9) && t <= s.to*(1+1e-9) {
					out = append(out, t)
				}
			}
		}
		return out
	}
	step := s.tickStep(n)
	for i := math.Ceil(s.from / step); i*step <= s.to; i++ {
		out = append(out, i*step)
	}
	return out
}

func (s *scale) tickStep(n int) float64 {
	raw := (s.to - s.from) / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*0.8 {
			return max(m*power, s.least)
		}
	}
	return max(10*power, s.least)
}

func (s *scale) label(v float64, percent bool) string {
	if s.log && percent {
		return short(v*100) + " %"
	} else if s.log {
		return short(v)
	}
	step, unit := s.tickStep(5), ""
	if percent {
		v, step, unit = v*100, step*100, " %"
	}
	if math.Abs(v) < step/1e6 {
		v = 0
	}
	// As many digits as tell a tick from the next one.
	factor, name := 1.0, ""
	if step >= 1 {
		factor, name = scaled(v)
	}
	if step < 1e-6 {
		return strconv.FormatFloat(v, 'g', max(3, 1+int(math.Ceil(math.Log10(math.Abs(v)/step+1)))), 64) + unit
	}
	return strconv.FormatFloat(v/factor, 'f', max(0, int(math.Ceil(-math.Log10(step/factor)-1e-9))), 64) + name + unit
}

// value is a value that is no tick.
func (s *scale) value(v float64, percent bool) string {
	if percent {
		return short(v*100) + " %"
	}
	return short(v)
}

// short prints a number of any size in few characters: 15000 as 15k.
func short(v float64) string {
	if factor, name := scaled(v); factor > 1 {
		return strconv.FormatFloat(v/factor, 'g', 3, 64) + name
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// scaled is the unit in which a number is short.
func scaled(v float64) (factor float64, name string) {
	switch v = math.Abs(v); {
	case v >= 1e9:
		return 1e9, "G"
	case v >= 1e6:
		return 1e6, "M"
	case v >= 1e4:
		return 1e3, "k"
	}
	return 1, ""
}
