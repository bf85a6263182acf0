package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/events"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/visible"
	"github.com/ctnas/ctnas/trainer"
)

//go:embed supernet.html
var supernetHTML string

var supernetTemplate = framed("supernet", supernetHTML)

// supernetData is the folder of a supernet's training as its page shows it.
type supernetData struct {
	Data
	Result trainer.SupernetResult
}

type supernetView struct {
	frame
	Spoiled []string
	Result  trainer.SupernetResult
	Tiles   []tile
	Paths   []chartView
	Curves  []chartView
	Last    []judgedView
	Stages  []stageView
	Fair    []fairView
	Weights []chartView
	Derived string
	Command string
	Config  []Setting
	Run     []Setting
}

type (
	judgedView struct{ Role, Path, Top1, Top5, Loss string }
	stageView  struct {
		Update int
		Name   string
	}
	fairView struct{ Decision, Choices, Least, Most string }
)

// IsSupernet tells whether a folder holds the result of a supernet's training. A result that is damaged is an error;
// that there is none, or no folder, is none.
func IsSupernet(dir string) (bool, error) {
	var r struct {
		Cost *trainer.SupernetCost `json:"cost"`
	}
	path := filepath.Join(dir, ResultName)
	if _, err := os.Stat(path); err != nil {
		return false, nil
	}
	text, err := files.Read(path, maxBytes)
	if err != nil {
		return false, err
	}
	if !json.Valid(text) {
		return false, fmt.Errorf("%s is no JSON: it is damaged", path)
	}
	return json.Unmarshal(text, &r) == nil && r.Cost != nil, nil // others may have a cost of another kind
}

// Derived is the architecture that the mixture of a supernet stands for, as the folder of its training says it.
func Derived(dir string) (string, error) {
	var r struct {
		Method  string `json:"method"`
		Mixture struct {
			Derived string `json:"derived"`
		} `json:"mixture"`
	}
	path := filepath.Join(dir, ResultName)
	text, err := files.Read(path, maxBytes)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if r.Mixture.Derived == "" {
		return "", fmt.Errorf("%s: a supernet that was trained by %.40q stands for no architecture; name one", path,
			r.Method)
	}
	return r.Mixture.Derived, nil
}

// WriteSupernet writes the page of a supernet's training into its folder: accuracies of the smallest, the largest and
// random paths over the epochs, and what the training took. result.json must be there and whole; what else cannot be
// read is told on the page.
func WriteSupernet(dir string) error {
	abs, err := files.Absolute(dir)
	if err != nil {
		return err
	}
	d := supernetData{Data: Data{Name: filepath.Base(abs)}}
	path := filepath.Join(dir, ResultName)
	text, err := files.Read(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the training in %s has not ended: it has no %s", dir, ResultName)
	} else if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &d.Result); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	log, lines, err := events.Read(dir)
	d.Events, d.Spoiled = log, append(d.Spoiled, lines...)
	d.spoiled(err)
	d.spoiled(d.readConfig(filepath.Join(dir, ConfigName)))
	html, err := d.page()
	if err != nil {
		return err
	}
	return files.Write(filepath.Join(dir, PageName), html)
}

func (d *supernetData) page() ([]byte, error) {
	r := d.Result
	v := supernetView{frame: newFrame("ctnas supernet report", d.Name), Spoiled: d.Spoiled, Result: r,
		Command: d.Command, Config: d.Config, Run: d.Run}
	v.Tiles = []tile{
		{"Updates", grouped(r.Cost.Updates), fmt.Sprintf("%s images", grouped(int(r.Cost.Images)))},
		{"Path-steps", grouped(int(r.Cost.Steps)), "forward and backward passes of a batch"},
		{"Multiply-adds", short(float64(r.Cost.MAdds)), "three times those of the paths forward"},
		{"Parameters", quantity(r.Params), "that all paths share"},
	}
	v.Paths = []chartView{d.judged("Accuracy", "top-1, each path with statistics of its own", true,
		func(e trainer.PathEvaluation) float64 { return e.Top1 }),
		d.judged("Loss", "cross-entropy of the labels", false,
			func(e trainer.PathEvaluation) float64 { return float64(e.Loss) })}
	v.Curves = d.trained()
	if n := len(r.Paths); n > 0 {
		for _, p := range r.Paths {
			if p.Epoch == r.Paths[n-1].Epoch {
				v.Last = append(v.Last, judgedView{p.Role, p.Path, percent(p.Top1), percent(p.Top5),
					fmt.Sprintf("%.4f", float64(p.Loss))})
			}
		}
	}
	for _, e := range d.events("stage") {
		v.Stages = append(v.Stages, stageView{e.Step, e.Text["stage"]})
	}
	for _, f := range r.Fairness {
		var choices []string
		for i, c := range f.Choices {
			choices = append(choices, c+" "+grouped(int(f.Paths[i])))
		}
		v.Fair = append(v.Fair, fairView{f.Decision, strings.Join(choices, ", "), grouped(int(f.Least)),
			grouped(int(f.Most))})
	}
	if r.Mixture != nil {
		v.Weights, v.Derived = weights(r.Mixture), r.Mixture.Derived
	}
	var b bytes.Buffer
	if err := supernetTemplate.Execute(&b, v); err != nil {
		return nil, err
	}
	return visible.Bytes(b.Bytes()), nil
}

// judged draws what was measured after each epoch, a curve a role.
func (d *supernetData) judged(title, note string, percent bool, of func(trainer.PathEvaluation) float64) chartView {
	c := chart{x: "epochs", y: title, percent: percent, height: 300}
	at := map[string]int{}
	for _, p := range d.Result.Paths {
		k, known := at[p.Role]
		if !known {
			k = len(c.series)
			at[p.Role] = k
			c.series = append(c.series, series{name: p.Role, color: k % 7})
		}
		if y := of(p); !math.IsNaN(y) && !math.IsInf(y, 0) {
			c.series[k].points = append(c.series[k].points, point{x: float64(p.Epoch), y: y, title: p.Path})
		}
	}
	return chartView{Title: title, Note: note, Legend: c.legend(), Chart: c.svg()}
}

// weights draws the weights of each decision's choices over the epochs.
func weights(m *trainer.MixtureResult) (out []chartView) {
	for i, row := range m.Rows {
		c := chart{x: "epochs", y: "weight", percent: true, height: 190}
		for k, choice := range row.Choices {
			c.series = append(c.series, series{name: choice, color: k % 7})
		}
		for _, e := range m.Epochs {
			if i >= len(e.Weights) || len(e.Weights[i]) != len(row.Choices) {
				continue
			}
			for k, weight := range e.Weights[i] {
				c.series[k].points = append(c.series[k].points, point{x: float64(e.Epoch), y: float64(weight)})
			}
		}
		out = append(out, chartView{Title: row.Name, Legend: c.legend(), Chart: c.svg()})
	}
	return out
}

// trained draws the loss of training and the learning rate.
func (d *supernetData) trained() (out []chartView) {
	for k, key := range []string{"loss", "lr"} {
		s := series{color: k + 3}
		for _, e := range d.events("train") {
			if y, said := e.Values[key]; said {
				s.points = append(s.points, point{x: float64(e.Step), y: y})
			}
		}
		s.points = slices.Clip(s.points)
		c := chart{x: "updates", y: []string{"loss", "learning rate"}[k], series: []series{s}}
		if picture := c.svg(); picture != "" {
			out = append(out, chartView{Title: []string{"Training loss", "Learning rate"}[k],
				Note: []string{"mean over an update's paths", "at its updates"}[k], Chart: picture})
		}
	}
	return out
}
