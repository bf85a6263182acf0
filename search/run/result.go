package run

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/jsontext"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Result is result.json: report.Result and what only this method can say. It holds nothing that differs between two
// identical runs.
type Result struct {
	report.Result
	// 1 + number of better ones in the table, where there is one.
	PickRank     int      `json:"pick_rank,omitempty"`
	PickAccuracy *float64 `json:"pick_accuracy"`         // what the search saw; null where it is of another metric
	PickValue    *float64 `json:"pick_value,omitempty"`  // in its place then
	PickJudged   *float64 `json:"pick_judged,omitempty"` // the accuracy that judges
	// What the comparator ranks best of all it ranked, labelled or not.
	ComparatorBest string             `json:"comparator_best,omitempty"`
	Controller     *Percentiles       `json:"controller_samples,omitempty"`
	Comparator     *gcn.Comparator    `json:"-"` // the last one
	Ledger         []ledger.Label     `json:"-"`
	Phases         map[string]float64 `json:"-"` // seconds by phase
	Seconds        float64            `json:"-"`
	PickedArch     space.Arch         `json:"-"` // the pick of a method without labels, unless Finished
	Finished       bool               `json:"-"` // read from a folder whose search had ended before
}

// Percentiles say how good the controller's samples are: the mean over samples of 100 · rank / number of
// architectures, where equal ones share the mean of their ranks. 50 is what uniform sampling gives, 0 the best. It
// rests on those samples alone that the table has; null where it has none. The search never sees it.
type Percentiles struct {
	Samples    int      `json:"samples"` // how many are at each end, at most
	First      *float64 `json:"first"`
	Last       *float64 `json:"last"`
	FirstKnown int      `json:"first_known"` // of the samples at the start, how many the table has
	LastKnown  int      `json:"last_known"`  // likewise at the end
}

// Found is what a method says at the end beside the labels that it bought; one that predicts nothing says nothing.
type Found struct {
	Predictor *gcn.Comparator // what it predicted with in the end
	Among     int             // how many architectures predicted ranks are among
	// Rank is an architecture's predicted rank, 1 is the best; nil where it was not ranked. It may be nil itself.
	Rank       func(space.Arch) *int
	Unlabelled []space.Arch // those predicted best that have no label, the best first
	Best       space.Arch   // predicted best of all, labelled or not; may be nil
	// Suggestions are unlabelled architectures that are worth a label next; nil where none were looked for.
	Suggestions []report.Suggestion

	// Picked is what a method says that asks for no labels; nil of the others.
	Picked *Picked

	First, Last []space.Arch // the controller's first and last samples; empty without one
	Curve       []Point      // some of its samples as it learned
}

// Picked is what a method found without labels.
type Picked struct {
	Measured            // the pick
	What     string     // what accuracies are, in words
	All      []Measured // all that was measured, the pick among them
	// Sample was drawn from all of the space, not by what was measured: it tells how well the measure ranks.
	Sample []Measured
	Pool   []Measured // of the published protocol: what the supernet itself selected, from which the pick comes
	// Drawn is how many architectures a mixture's weights drew, of which the pick came most often, and Outside how many
	// of these the space does not have.
	Drawn, Outside int
}

// Measured is an architecture with the accuracy, 0..1, that it has with shared weights.
type Measured struct {
	Arch     space.Arch
	Accuracy float64
}

// Point is what a controller sampled after so many updates.
type Point struct {
	Step    int
	Samples []string
}

// ErrNoneWithin says that a search has no pick.
var ErrNoneWithin = errors.New("none is within the limits")

// finish judges what was found, which unseals the judging accuracy, and writes the folder's last files.
func (r *Run) finish() (*Result, error) {
	best, ok := r.Best()
	picked := r.Found.Picked
	switch {
	case picked != nil:
		best.Arch, best.Value = picked.Arch, picked.Accuracy
	case !ok && r.sampler.none != nil:
		return nil, r.sampler.none
	case !ok && !r.Limits.None():
		return nil, fmt.Errorf("no architecture of %s may be labelled: %w: loosen %s", r.Deps.Space.Name(),
			ErrNoneWithin, r.Loosen())
	case !ok:
		return nil, fmt.Errorf("no architecture of %s may be labelled: %w", r.Deps.Space.Name(), ErrNoneWithin)
	}
	x := &Result{Comparator: r.Found.Predictor, Ledger: r.Ledger.Labels()}
	x.Space, x.Method, x.Seed, x.Device = r.Deps.Space.Name(), r.Method, r.Seed, r.Dev.Kind()
	x.LabelsUsed = len(x.Ledger)
	if picked == nil {
		x.Queries = &x.LabelsUsed
	}
	x.Result.Describe(r.Source)
	x.Pick = best.Arch.String()
	if x.Metric != nil {
		x.PickValue = &best.Value
	} else {
		x.PickAccuracy = &best.Value
	}
	if len(r.plan.budgets) > 1 {
		x.Budgets = r.plan.budgets
	}
	r.list(x)
	if judge, ok := r.Source.(ledger.Judge); ok {
		judge.Unseal()
		if err := r.judge(x, judge); err != nil {
			return nil, err
		}
	}
	x.Front(r.ParetoCost, x.Ledger, r.Source.Facts(), r.Limits)
	x.Suggestions = r.Found.Suggestions
	if picked != nil {
		x.PickedArch = picked.Arch
	}
	x.Phases = r.journal.seconds
	r.Spent(PhaseJudge)
	r.Report(Progress{Stage: "judge"})
	for _, v := range x.Phases {
		x.Seconds += v
	}
	if r.Dir == "" {
		return x, nil
	}
	return x, r.write(x)
}

// PhaseJudge is the phase after the search.
const PhaseJudge = "judge"

// list enters the labelled architectures, best first, and those that are predicted best.
func (r *Run) list(x *Result) {
	x.PredictedAmong = r.Found.Among
	rank := r.Found.Rank
	if rank == nil {
		rank = func(space.Arch) *int { return nil }
	}
	facts := r.Source.Facts()
	best := slices.Clone(x.Ledger)
	slices.SortStableFunc(best, func(a, b ledger.Label) int { return cmp.Compare(b.Score, a.Score) })
	for _, l := range best {
		a := report.Describe(l.Arch, r.Limits)
		a.Label(l, facts)
		a.PredictedRank = rank(l.Arch)
		x.Architectures = append(x.Architectures, a)
	}
	for _, u := range r.Found.Unlabelled {
		a := report.Describe(u, r.Limits)
		a.PredictedRank = rank(u)
		x.Architectures = append(x.Architectures, a)
	}
	if r.Found.Best != nil {
		x.ComparatorBest = r.Found.Best.String()
	}
	if r.Found.Picked != nil {
		r.listPicked(x)
	}
}

// maxResultBytes bounds what is read of a result; an architecture has some 400 bytes.
const maxResultBytes = 1 << 28

// Finished returns the result of a run folder whose search, of whatever method and of these settings, has ended; nil
// where it has not, or has been given more budget since. It only reads, so the folder need not be locked.
func Finished(dir string, c search.Config) (*Result, error) {
	path := filepath.Join(dir, report.ResultName)
	text, err := files.Read(path, maxResultBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := &Result{Finished: true}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.LabelsUsed == 0 && r.Shared == nil || r.Pick == "" {
		return nil, fmt.Errorf("%s: it is not the result of a search", path)
	}
	if len(c.Before) > 0 && !slices.Equal(r.Budgets, c.Budgets()) { // of before it was given more
		return nil, nil
	}
	page, err := report.Load(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range page.Events {
		r.Seconds = max(r.Seconds, e.Seconds)
	}
	return r, nil
}

// CompletePage writes the page of a search that has ended, where a kill kept it from being written. The folder must be
// locked.
func CompletePage(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, report.PageName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	page, err := report.Load(dir)
	if err != nil {
		return err
	}
	return page.Write(dir)
}

// judge adds true accuracies and ranks, and how good the controller's samples were. What nobody knows stays nil.
func (r *Run) judge(x *Result, judge ledger.Judge) error {
	x.Ranked = judge.Total()
	for i := range x.Architectures {
		a := &x.Architectures[i]
		arch, err := r.Deps.Space.Parse(a.Arch)
		if err != nil {
			return err
		}
		switch value, rank, err := judge.Judge(arch); {
		case err == nil:
			if a.Rank = rank; x.Metric == nil {
				a.Judged = &value
			}
		case !errors.Is(err, ledger.ErrNoLabel):
			return err
		}
		if a.Arch == x.Pick {
			x.PickJudged, x.PickRank = a.Judged, a.Rank
		}
	}
	if r.Found.Picked != nil {
		if err := r.judgePicked(x, judge); err != nil {
			return err
		}
	}
	if len(r.Found.First) == 0 || judge.Total() == 0 {
		return nil
	}
	p := &Percentiles{Samples: len(r.Found.Last)}
	var err error
	if p.First, p.FirstKnown, err = percentile(judge, r.Found.First); err != nil {
		return err
	}
	if p.Last, p.LastKnown, err = percentile(judge, r.Found.Last); err != nil {
		return err
	}
	x.Controller = p
	return r.judgeCurve(judge)
}

// judgeCurve logs how good the controller's samples were as it learned.
func (r *Run) judgeCurve(judge ledger.Judge) error {
	for _, point := range r.Found.Curve {
		var archs []space.Arch
		for _, text := range point.Samples {
			a, err := r.Deps.Space.Parse(text)
			if err != nil {
				return err
			}
			archs = append(archs, a)
		}
		mean, n, err := percentile(judge, archs)
		if err != nil {
			return err
		}
		e := report.Event{Name: report.EventJudged, Step: point.Step,
			Values: map[string]float64{"percentile_samples": float64(n)}}
		if mean != nil {
			e.Values["percentile"] = *mean
		}
		if err := r.Event(e); err != nil {
			return err
		}
	}
	return nil
}

// percentile is the mean true percentile of the n of some samples that the table has; nil where it has none.
func percentile(judge ledger.Judge, archs []space.Arch) (mean *float64, n int, err error) {
	sum := 0.0
	for _, a := range archs {
		switch at, err := judge.Percentile(a); {
		case err == nil:
			sum += at
			n++
		case !errors.Is(err, ledger.ErrNoLabel):
			return nil, 0, err
		}
	}
	if n > 0 {
		sum /= float64(n)
		mean = &sum
	}
	return mean, n, nil
}

// write puts result.json and report.html into the folder.
func (r *Run) write(x *Result) error {
	if r.journal.last != nil {
		r.journal.last()
	}
	cost := map[string]float64{"peak_bytes": peakBytes()}
	for phase, seconds := range r.journal.seconds {
		cost["seconds_"+phase] = seconds
	}
	if err := r.Event(report.Event{Name: report.EventCost, Values: cost}); err != nil {
		return err
	}
	text, err := jsontext.Document(x)
	if err != nil {
		return err
	}
	if err := files.Write(filepath.Join(r.Dir, report.ResultName), text); err != nil {
		return err
	}
	page, err := report.Load(r.Dir)
	if err != nil {
		return err
	}
	return page.Write(r.Dir)
}
