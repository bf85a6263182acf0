package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"math"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/visible"
)

//go:embed comparison.html
var comparisonHTML string

//go:embed sort.js
var sortJS string

var comparisonTemplate = framed("comparison", comparisonHTML)

// sortPolicy lets the page run the one script that sorts its tables.
var sortPolicy = func() string {
	sum := sha256.Sum256([]byte(sortJS))
	return policy + "; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// Comparison is what the page of a comparison shows. Tables are those that the command prints.
type Comparison struct {
	Title, Space, Labels, Command string

	What      string // stands in rows of the table: Methods, Searches
	Note      string // says what the table holds
	Over      string // says what a curve and its band are
	Table     Grid
	PaperNote string
	Paper     Grid // without rows in other spaces than the paper's
	Picks     []ComparedPick
	Curves    []ComparedCurve
	Predicted bool // accuracies are a predictor's scores
	Repeats   bool // compare.yaml of the folder repeats it
}

// ComparedCurve is how far a method is after each number of labels, one of each slice a number.
type ComparedCurve struct {
	Method                 string
	Labels                 []int
	Accuracy, Regret, Rank []Band // 0..1; 0..1; from 1
}

// Band is a mean over seeds with its 95 % interval.
type Band struct{ Mean, Low, High float64 }

// NoBand is one that nobody knows.
func NoBand() Band { return Band{math.NaN(), math.NaN(), math.NaN()} }

// Grid is a table as text: numbers stand in all columns but the first.
type Grid struct {
	Head []string
	Rows [][]string
}

// ComparedPick is what a method picked with a seed.
type ComparedPick struct {
	Method   string
	Row      int // of the table, from 1
	Seed     uint64
	Arch     string
	Accuracy float64 // that judges, 0..1; not a number where nobody knows it
	Rank     *int
	Folder   string // of the run, below the comparison's; empty: it has none
}

type (
	comparisonView struct {
		Comparison
		frame
		Charts, Progress []chartView
		Runs             []comparedView
		Script           template.JS
	}
	comparedView struct {
		Method, Seed, Accuracy, Rank, Arch, Folder string
	}
)

// Write puts report.html into a comparison's folder.
func (c *Comparison) Write(dir string) error {
	v := comparisonView{Comparison: *c, frame: newFrame("ctnas comparison", c.Title)}
	value := percent
	if c.Predicted {
		value = score
	}
	for _, p := range c.Picks {
		r := comparedView{p.Method, grouped(int(p.Seed)), unknown, unknown, p.Arch, p.Folder}
		if !math.IsNaN(p.Accuracy) {
			r.Accuracy = value(p.Accuracy)
		}
		if p.Rank != nil {
			r.Rank = grouped(*p.Rank)
		}
		v.Runs = append(v.Runs, r)
	}
	v.Charts, v.Progress = c.charts(value), c.progress()
	v.Policy, v.Script = sortPolicy, template.JS(sortJS)
	var b bytes.Buffer
	if err := comparisonTemplate.Execute(&b, v); err != nil {
		return err
	}
	return files.Write(filepath.Join(dir, PageName), visible.Bytes(b.Bytes()))
}

// measure names what stands for accuracy.
func (c *Comparison) measure() string {
	if c.Predicted {
		return "predicted score"
	}
	return "accuracy"
}

// colorOf is a method's colour, by its row of the table from 1 on: the same in all pictures.
func colorOf(row int) int { return (row - 1) % 7 }

// charts draw the picks by the rows of the table, a dot a seed.
func (c *Comparison) charts(value func(float64) string) (out []chartView) {
	accuracy := chart{x: "row of the table", y: c.measure(), percent: !c.Predicted, height: 300}
	rank := chart{x: "row of the table", y: "rank in the table", logY: true, height: 300}
	for _, p := range c.Picks {
		if n := len(accuracy.series); n == 0 || accuracy.series[n-1].name != p.Method {
			s := series{name: p.Method, kind: box, color: colorOf(p.Row)}
			accuracy.series, rank.series = append(accuracy.series, s), append(rank.series, s)
		}
		n := len(accuracy.series) - 1
		title := p.Method + ", seed " + grouped(int(p.Seed)) + "\n" + p.Arch
		if !math.IsNaN(p.Accuracy) {
			accuracy.series[n].points = append(accuracy.series[n].points, point{x: float64(p.Row), y: p.Accuracy,
				title: title + "\n" + value(p.Accuracy)})
		}
		if p.Rank != nil {
			rank.series[n].points = append(rank.series[n].points, point{x: float64(p.Row), y: float64(*p.Rank),
				title: title + "\nrank " + grouped(*p.Rank)})
		}
	}
	const boxes = "boxes from the lower to the upper quartile, a line at the median"
	return shown([]titled{
		{"What was picked", "a dot a run, by what judges; " + boxes, accuracy},
		{"Its rank", "1 is the best of the table; " + boxes, rank},
	})
}

// titled is a chart with a title and a note.
type titled struct {
	title, note string
	chart       chart
}

// shown are the charts that have points.
func shown(charts []titled) (out []chartView) {
	for _, x := range charts {
		if picture := x.chart.svg(); picture != "" {
			out = append(out, chartView{Title: x.title, Note: x.note, Legend: x.chart.legend(), Chart: picture})
		}
	}
	return out
}

// curves are charts of the best so far over labels.
func (c *Comparison) curves() []titled {
	rows := map[string]int{}
	for _, p := range c.Picks {
		rows[p.Method] = p.Row
	}
	accuracy := chart{x: "labels", y: c.measure() + " of the best so far", percent: !c.Predicted, height: 300}
	regret := chart{x: "labels", y: "regret", percent: !c.Predicted, logY: true, height: 300}
	rank := chart{x: "labels", y: "rank of the best so far", logY: true, height: 300}
	for _, x := range []struct {
		chart *chart
		of    func(ComparedCurve) []Band
	}{
		{&accuracy, func(l ComparedCurve) []Band { return l.Accuracy }},
		{&regret, func(l ComparedCurve) []Band { return l.Regret }},
		{&rank, func(l ComparedCurve) []Band { return l.Rank }},
	} {
		for _, line := range c.Curves {
			s := series{name: line.Method, kind: banded, color: colorOf(max(1, rows[line.Method]))}
			for i, b := range x.of(line) {
				if math.IsNaN(b.Mean) || x.chart.logY && b.Mean <= 0 { // of no regret there is no logarithm
					continue
				}
				s.points = append(s.points, point{x: float64(line.Labels[i]), y: b.Mean, low: b.Low, high: b.High})
			}
			x.chart.series = append(x.chart.series, s)
		}
	}
	over := c.Over
	return []titled{
		{"Best so far", "by what judges; " + over, accuracy},
		{"Regret", "what the best of the table has more; " + over + "; ends where all seeds have found it", regret},
		{"Rank of the best so far", "1 is the best of the table; " + over, rank},
	}
}

func (c *Comparison) progress() []chartView { return shown(c.curves()) }

// WriteCurves writes the picture of the best accuracy so far over labels as an SVG file of its own, with a legend
// inside. Without curves it is an empty picture.
func (c *Comparison) WriteCurves(w io.Writer) error {
	_, err := io.WriteString(w, c.curves()[0].chart.file())
	return err
}
