package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/stat"
)

// RetrainedName is the file of a run's folder that says how the pick did beside random architectures.
const RetrainedName = "retrained.json"

// Retrained is retrained.json: the pick of a search and random architectures that the search had not labelled, all trained anew in the same way. It holds
// nothing that differs between two identical runs.
type Retrained struct {
	Labels string       `json:"labels"` // how all were trained, in words
	Seeds  []uint64     `json:"seeds"`
	Pick   Retraining   `json:"pick"`
	Random []Retraining `json:"random"` // in the order drawn
	Beaten int          `json:"beaten"` // of the random ones, how many have a lower mean than the pick
	// Over the random architectures' means.
	Mean float64 `json:"random_mean"`
	SD   float64 `json:"random_sd"`
	Best float64 `json:"random_best"`
}

// Retraining is an architecture with the test accuracies (0..1) of its trainings.
type Retraining struct {
	Arch   string    `json:"arch"`
	Hash   string    `json:"hash"`
	Test   []float64 `json:"test"` // by seed
	Mean   float64   `json:"mean"`
	SD     float64   `json:"sd"` // between seeds
	Params int64     `json:"params"`
	MAdds  int64     `json:"madds"`
}

// Summarise fills in what follows from the test accuracies.
func (r *Retrained) Summarise() {
	means := make([]float64, len(r.Random))
	r.Pick.summarise()
	for i := range r.Random {
		r.Random[i].summarise()
		means[i] = r.Random[i].Mean
		if means[i] < r.Pick.Mean {
			r.Beaten++
		}
	}
	r.Mean, r.SD, r.Best = stat.Mean(means), deviation(means), slices.Max(means)
}

func (r *Retraining) summarise() {
	r.Mean, r.SD = stat.Mean(r.Test), deviation(r.Test)
}

// deviation is the standard deviation, 0 of a single value: JSON has no other number for it.
func deviation(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	return stat.SD(x)
}

// readRetrained reads retrained.json; nil where there is none.
func readRetrained(dir string) (*Retrained, error) {
	path := filepath.Join(dir, RetrainedName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := &Retrained{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// retrainedView is the page's table: the pick and the random architectures, best first.
type retrainedView struct {
	Labels  string
	Verdict string
	Rows    []retrainedRow
}

type retrainedRow struct {
	archView
	Mean, SD string
}

func (d *Data) retrained(draw func(string, Style) template.HTML) *retrainedView {
	r := d.Retrained
	if r == nil {
		return nil
	}
	v := &retrainedView{Labels: r.Labels, Verdict: r.Verdict()}
	all := append([]Retraining{r.Pick}, r.Random...)
	slices.SortStableFunc(all, func(a, b Retraining) int { return sign(b.Mean - a.Mean) })
	for i, x := range all {
		a := archView{Place: i + 1, Thumb: draw(x.Arch, Style{Compact: true}), Arch: x.Arch, Params: quantity(x.Params), MAdds: quantity(x.MAdds),
			Picked: x.Arch == r.Pick.Arch}
		v.Rows = append(v.Rows, retrainedRow{a, percent(x.Mean), percent(x.SD)})
	}
	return v
}

// Verdict says in a sentence how the pick did.
func (r *Retrained) Verdict() string {
	return fmt.Sprintf("The pick reaches %.2f ± %.2f %% test accuracy (%d seeds); %d random architectures that the search had not labelled reach %.2f ± %.2f %%, "+
		"the best of them %.2f %%. The pick is above %d of them. (Means; ± is the standard deviation, for the pick between seeds, for the others between architectures.)",
		100*r.Pick.Mean, 100*r.Pick.SD, len(r.Seeds), len(r.Random), 100*r.Mean, 100*r.SD, 100*r.Best, r.Beaten)
}
