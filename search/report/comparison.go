package report

import (
	"bytes"
	_ "embed"
	"math"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/visible"
)

//go:embed comparison.html
var comparisonHTML string

var comparisonTemplate = framed("comparison", comparisonHTML)

// Comparison is what the page of a comparison shows. Tables are those that the command prints.
type Comparison struct {
	Title, Space, Labels, Command string
	Table                         Grid
	PaperNote                     string
	Paper                         Grid // without rows in other spaces than the paper's
	Picks                         []ComparedPick
	Predicted                     bool // accuracies are a predictor's scores
}

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
		Charts []chartView
		Runs   []comparedView
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
	v.Charts = c.charts(value)
	var b bytes.Buffer
	if err := comparisonTemplate.Execute(&b, v); err != nil {
		return err
	}
	return files.Write(filepath.Join(dir, PageName), visible.Bytes(b.Bytes()))
}

// charts draw the picks, a dot a seed, by the rows of the table.
func (c *Comparison) charts(value func(float64) string) (out []chartView) {
	measure := "accuracy"
	if c.Predicted {
		measure = "predicted score"
	}
	accuracy := chart{x: "row of the table", y: measure, percent: !c.Predicted, height: 300}
	rank := chart{x: "row of the table", y: "rank in the table", height: 300}
	for _, p := range c.Picks {
		if n := len(accuracy.series); n == 0 || accuracy.series[n-1].name != p.Method {
			s := series{name: p.Method, kind: dots, color: n % 7}
			accuracy.series, rank.series = append(accuracy.series, s), append(rank.series, s)
		}
		n := len(accuracy.series) - 1
		title := p.Method + ", seed " + grouped(int(p.Seed)) + "\n" + p.Arch
		if !math.IsNaN(p.Accuracy) {
			accuracy.series[n].points = append(accuracy.series[n].points, point{float64(p.Row), p.Accuracy,
				title + "\n" + value(p.Accuracy)})
		}
		if p.Rank != nil {
			rank.series[n].points = append(rank.series[n].points, point{float64(p.Row), float64(*p.Rank),
				title + "\nrank " + grouped(*p.Rank)})
		}
	}
	for _, x := range []struct {
		title, note string
		chart       chart
	}{{"What was picked", "a dot a seed, by what judges", accuracy}, {"Its rank", "1 is the best of the table", rank}} {
		if picture := x.chart.svg(); picture != "" {
			out = append(out, chartView{Title: x.title, Note: x.note, Legend: x.chart.legend(), Chart: picture})
		}
	}
	return out
}
