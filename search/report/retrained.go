package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/trainer/data"
)

// RetrainedName is the file of a run's folder that says how the pick did beside random architectures.
const RetrainedName = "retrained.json"

// RetrainedWeightsName holds the weights of the pick's best training.
const RetrainedWeightsName = "retrained.safetensors"

// Retrained is retrained.json: the pick of a search and random architectures that the search had not labelled, all
// trained anew in the same way. It holds nothing that differs between two identical runs.
type Retrained struct {
	Labels string   `json:"labels"` // how all were trained, in words
	Seeds  []uint64 `json:"seeds"`
	// Network is the size of all networks; of an older program's nothing is said.
	Network space.NetworkSize `json:"network"`
	Pick    Retraining        `json:"pick"`
	Random  []Retraining      `json:"random"` // in the order drawn
	Beaten  int               `json:"beaten"` // of the random ones, how many have a lower mean than the pick
	// Over the random architectures' means.
	Mean stat.Number `json:"random_mean"`
	SD   stat.Number `json:"random_sd"` // null of a single one
	Best stat.Number `json:"random_best"`
	// Corrupt are the images that could not be read and were left out, of the training that left out most; absent
	// without any.
	Corrupt *data.CorruptImages `json:"corrupt_images,omitempty"`
}

// Retraining is an architecture with the test accuracies (0..1) of its trainings.
type Retraining struct {
	Arch   string      `json:"arch"`
	Hash   string      `json:"hash"`
	Test   []float64   `json:"test"` // by seed
	Mean   stat.Number `json:"mean"`
	SD     stat.Number `json:"sd"`     // between seeds; null of a single one
	Params int64       `json:"params"` // of the network that was trained
	MAdds  int64       `json:"madds"`
}

// Summarise fills in what follows from the test accuracies.
func (r *Retrained) Summarise() {
	means := make([]float64, len(r.Random))
	r.Pick.summarise()
	for i := range r.Random {
		r.Random[i].summarise()
		means[i] = float64(r.Random[i].Mean)
		if means[i] < float64(r.Pick.Mean) {
			r.Beaten++
		}
	}
	r.Mean, r.SD, r.Best = stat.Number(stat.Mean(means)), stat.Number(stat.SD(means)), stat.Number(math.NaN())
	if len(means) > 0 {
		r.Best = stat.Number(slices.Max(means))
	}
}

func (r *Retraining) summarise() {
	r.Mean, r.SD = stat.Number(stat.Mean(r.Test)), stat.Number(stat.SD(r.Test))
}

// readRetrained reads retrained.json; nil where there is none.
func readRetrained(dir string) (*Retrained, error) {
	path := filepath.Join(dir, RetrainedName)
	text, err := files.Read(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := &Retrained{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, x := range append([]Retraining{r.Pick}, r.Random...) {
		for _, v := range x.Test {
			if !(v >= 0 && v <= 1) {
				return nil, fmt.Errorf("%s: %.200q: an accuracy of %g", path, x.Arch, v)
			}
		}
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
	slices.SortStableFunc(all, func(a, b Retraining) int { return sign(float64(b.Mean - a.Mean)) })
	for i, x := range all {
		a := archView{Place: i + 1, Thumb: draw(x.Arch, Style{Compact: true}), Arch: x.Arch, Params: quantity(x.Params),
			MAdds: quantity(x.MAdds), Picked: x.Arch == r.Pick.Arch}
		row := retrainedRow{a, unknown, unsaid}
		if x.Mean.Known() {
			row.Mean = percent(float64(x.Mean))
		}
		if x.SD.Known() && len(x.Test) > 1 { // of one seed older programs wrote 0
			row.SD = "± " + percent(float64(x.SD))
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

// Verdict says in a sentence how the pick did.
func (r *Retrained) Verdict() string {
	spread := func(mean, sd stat.Number, n int) string {
		switch {
		case !mean.Known():
			return unknown
		case !sd.Known() || n < 2:
			return fmt.Sprintf("%.2f %%", 100*mean)
		}
		return fmt.Sprintf("%.2f ± %.2f %%", 100*mean, 100*sd)
	}
	return fmt.Sprintf("The pick reaches %s test accuracy (%d seeds); %d random architectures that the search had "+
		"not labelled reach %s, "+
		"the best of them %s. The pick is above %d of them. (Means; ± is the standard deviation, for the pick "+
		"between seeds, for the others between architectures.)",
		spread(r.Pick.Mean, r.Pick.SD, len(r.Seeds)), len(r.Seeds), len(r.Random),
		spread(r.Mean, r.SD, len(r.Random)), spread(r.Best, r.Best, 1), r.Beaten)
}
