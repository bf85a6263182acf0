package search

import (
	"bytes"
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
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// Result is result.json: report.Result and what only this method can say. It holds nothing that differs between two identical runs.
type Result struct {
	report.Result
	PickRank       int                `json:"pick_rank,omitempty"`       // 1 + number of better ones in the table, where there is one
	PickAccuracy   float64            `json:"pick_accuracy"`             // what the search saw
	PickJudged     *float64           `json:"pick_judged,omitempty"`     // the accuracy that judges
	ComparatorBest string             `json:"comparator_best,omitempty"` // what the comparator ranks best of all it ranked, labelled or not
	Controller     *Percentiles       `json:"controller_samples,omitempty"`
	Comparator     *gcn.Comparator    `json:"-"` // the last one
	Ledger         []ledger.Label     `json:"-"`
	Phases         map[string]float64 `json:"-"` // seconds by phase
	Seconds        float64            `json:"-"`
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

// unlabelledShown is how many of the architectures that the comparator ranks best stand in the result without a label.
const unlabelledShown = 10

// finish judges what was found, which unseals the judging accuracy, and writes the folder's last files.
func (s *search) finish() (*Result, error) {
	r := &Result{Comparator: s.cmp, Ledger: s.ledger.Labels()}
	r.Space, r.Method, r.Seed, r.Device = s.Deps.Space.Name(), MethodName, s.Seed, s.dev.Kind()
	r.Result.Describe(s.Source)
	r.LabelsUsed = len(r.Ledger)
	best, _ := s.ledger.Best()
	r.Pick, r.PickAccuracy = best.Arch.String(), best.Value
	if err := s.rankAll(r); err != nil {
		return nil, err
	}
	if judge, ok := s.Source.(ledger.Judge); ok {
		judge.Unseal()
		if err := s.judge(r, judge); err != nil {
			return nil, err
		}
	}
	r.Front(s.ParetoCost, r.Ledger, s.limits)
	r.Phases = s.seconds
	s.spent("judge")
	s.progress(Progress{Stage: "judge"})
	for _, v := range s.seconds {
		r.Seconds += v
	}
	if s.Dir == "" {
		return r, nil
	}
	return r, s.write(r)
}

// maxResultBytes bounds what is read of a result; an architecture has some 400 bytes.
const maxResultBytes = 1 << 28

// Finished returns the result of a run folder whose search has ended, of whatever method; nil where it has not. A page that a kill kept
// from being written is written; nothing else changes.
func Finished(dir string) (*Result, error) {
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
	if r.LabelsUsed == 0 || r.Pick == "" {
		return nil, fmt.Errorf("%s: it is not the result of a search", path)
	}
	page, err := report.Load(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range page.Events {
		r.Seconds = max(r.Seconds, e.Seconds)
	}
	if _, err := os.Stat(filepath.Join(dir, report.PageName)); errors.Is(err, fs.ErrNotExist) {
		return r, page.Write(dir)
	}
	return r, nil
}

// rankAll lists the labelled architectures and those the comparator ranks best, with their predicted ranks: among the listed space, or
// among the controller's candidates and the labelled ones.
func (s *search) rankAll(r *Result) error {
	var n int
	var at func(i int) space.Arch
	var rank []float64
	index := map[space.Arch]int{}
	labelled := func(a space.Arch) bool { _, ok := s.ledger.Get(a); return ok }
	if s.List != nil {
		n, at, rank = s.List.n, s.List.at, s.referee.whole.Rank
		for _, l := range r.Ledger {
			if i, ok := s.List.index(l.Arch); ok {
				index[l.Arch] = i
			}
		}
	} else {
		archs, _, err := s.pool(func(a space.Arch) bool { return s.allowed(a) && !labelled(a) })
		if err != nil {
			return err
		}
		for _, l := range r.Ledger {
			archs = append(archs, l.Arch)
		}
		scores, err := s.referee.score(archs)
		if err != nil {
			return err
		}
		n, at, rank = len(archs), func(i int) space.Arch { return archs[i] }, scores.Rank
		for i, a := range archs {
			index[a] = i
		}
	}
	r.PredictedAmong = n
	descending := make([]float64, n)
	for i, v := range rank {
		descending[i] = -v
	}
	slices.Sort(descending)
	predicted := func(i int) *int {
		k, _ := slices.BinarySearch(descending, -rank[i])
		k++
		return &k
	}
	facts := s.Source.Facts()
	for _, l := range r.Ledger {
		a := report.Describe(l.Arch, s.limits)
		a.Label(l, facts)
		if i, ok := index[l.Arch]; ok {
			a.PredictedRank = predicted(i)
		}
		r.Architectures = append(r.Architectures, a)
	}
	slices.SortStableFunc(r.Architectures, func(a, b report.Architecture) int { return cmp.Compare(*b.Accuracy, *a.Accuracy) })
	for _, i := range highest(unlabelledShown, rank, func(i int) bool { return !labelled(at(i)) && s.allowed(at(i)) }) {
		a := report.Describe(at(i), s.limits)
		a.PredictedRank = predicted(i)
		r.Architectures = append(r.Architectures, a)
	}
	for _, i := range highest(1, rank, func(i int) bool { return s.allowed(at(i)) }) {
		r.ComparatorBest = at(i).String()
	}
	return nil
}

// judge adds true accuracies and ranks, and how good the controller's samples were.
func (s *search) judge(r *Result, judge ledger.Judge) error {
	rank := func(text string) (accuracy *float64, rank int, err error) { // nil: not known
		a, err := s.Deps.Space.Parse(text)
		if err != nil {
			return nil, 0, err
		}
		value, rank, err := judge.Judge(a)
		if errors.Is(err, ledger.ErrNoLabel) {
			return nil, 0, nil
		}
		return &value, rank, err
	}
	r.Ranked = judge.Total()
	for i := range r.Architectures {
		a := &r.Architectures[i]
		var err error
		if a.Judged, a.Rank, err = rank(a.Arch); err != nil {
			return err
		}
		if a.Arch == r.Pick {
			r.PickJudged, r.PickRank = a.Judged, a.Rank
		}
	}
	percentile := func(texts []string) (mean *float64, n int, err error) { // over those that the table has
		sum := 0.0
		for _, text := range texts {
			a, err := s.Deps.Space.Parse(text)
			if err != nil {
				return nil, 0, err
			}
			switch place, err := judge.Percentile(a); {
			case err == nil:
				sum += place
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
	if len(s.first) == 0 || judge.Total() == 0 {
		return nil
	}
	texts := func(archs []space.Arch) (out []string) {
		for _, a := range archs {
			out = append(out, a.String())
		}
		return out
	}
	p := &Percentiles{Samples: len(s.last)}
	var err error
	if p.First, p.FirstKnown, err = percentile(texts(s.first)); err != nil {
		return err
	}
	if p.Last, p.LastKnown, err = percentile(texts(s.last)); err != nil {
		return err
	}
	r.Controller = p
	for _, point := range s.curve {
		mean, n, err := percentile(point.Samples)
		if err != nil {
			return err
		}
		e := report.Event{Name: report.EventJudged, Step: point.Step, Values: map[string]float64{"percentile_samples": float64(n)}}
		if mean != nil {
			e.Values["percentile"] = *mean
		}
		if err := s.event(e); err != nil {
			return err
		}
	}
	return nil
}

// write puts result.json and report.html into the folder.
func (s *search) write(r *Result) error {
	cost := map[string]float64{"peak_bytes": peakBytes()}
	for phase, seconds := range s.seconds {
		cost["seconds_"+phase] = seconds
	}
	if err := s.event(report.Event{Name: report.EventCost, Values: cost}); err != nil {
		return err
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return err
	}
	if err := files.Write(filepath.Join(s.Dir, report.ResultName), text.Bytes()); err != nil {
		return err
	}
	page, err := report.Load(s.Dir)
	if err != nil {
		return err
	}
	return page.Write(s.Dir)
}
