// Package ask is ask and tell: a search whose labels somebody else measures, when and where they like. Its folder is
// all that it knows: the settings, a ledger of what it was told, and what it has suggested. What to measure next is a
// function of these alone.
package ask

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/jsontext"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/run"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

// Settings are what a folder is begun with.
type Settings struct {
	Space  string
	Metric ledger.Metric // what is told; zero: accuracy
	Seed   uint64
	Init   int // architectures that are measured before a comparator learns from them
	search.Bounds
}

// DefaultInit is how many measurements come before a comparator learns from them.
const DefaultInit = 10

// Default are the settings where nothing is said.
func Default() Settings {
	return Settings{Seed: 1, Init: DefaultInit, Bounds: search.Bounds{ParetoCost: space.CostMAdds}}
}

// List are the settings as flags and keys of config.yaml.
func (s *Settings) List() *setting.List {
	l := setting.New()
	l.Group("Ask and tell")
	search.SpaceSetting(l, &s.Space)
	search.MetricSetting(l, &s.Metric)
	l.Uint64(&s.Seed, "seed", "", "seed of all random numbers").Shared()
	l.Int(&s.Init, "init", "architectures", "architectures that are measured before a comparator learns from them; "+
		"until then suggestions are drawn at random", search.MinimumInitial, 1<<24)
	s.Bounds.AddTo(l)
	return l
}

// MetricName is what a measurement must say.
func (s *Settings) MetricName() string { return cmp.Or(s.Metric.Name, table.Accuracy) }

// Others are the metrics that it must say beside: those that are limited, and the cost of the front.
func (s *Settings) Others() []string { return s.Measures(s.Metric) }

// facts are what the ledger says of every label.
func (s *Settings) facts() ledger.Facts {
	return ledger.Facts{Source: labelsValue, Metric: table.Accuracy}.As(s.Metric)
}

// labelsKey and labelsValue say in a folder's config.yaml that its labels are told.
const (
	labelsKey   = "labels"
	labelsValue = "told"
)

// SuggestionsName is the file of a folder that holds what was suggested.
const SuggestionsName = "suggestions.json"

// maxBytes bounds what is read of a file of a folder.
const maxBytes = 1 << 28

// Suggestion is one that a folder has made.
type Suggestion struct {
	report.Suggestion
	Round int `json:"round"` // from 1: of the ledger's lines, 0 is what nobody had suggested
}

// suggested is suggestions.json.
type suggested struct {
	All    []Suggestion `json:"suggestions"`
	Failed []string     `json:"failed"` // what could not be measured
}

// Folder is one that this process alone has, until Close.
type Folder struct {
	Settings
	Dir       string
	Sp        space.Space
	Times     *latency.Model // nil: none
	suggested suggested
	labels    []ledger.Label
	lock      *files.FolderLock
}

// Is tells whether a folder is one of ask and tell; false where there is nothing.
func Is(dir string) (bool, error) {
	text, err := files.ReadText(filepath.Join(dir, report.ConfigName), search.MaxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var top map[string]yaml.Node
	if err := yaml.Unmarshal(text, &top); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(dir, report.ConfigName), err)
	}
	labels := top[labelsKey]
	return labels.Value == labelsValue, nil
}

// written are the files that are written whole: a kill may leave the beginnings of some behind.
var written = []string{report.ConfigName, report.SpaceName, report.LatencyName, report.LedgerName, report.ResultName,
	report.PageName, SuggestionsName}

// Open waits until nobody else is at work in a folder, and takes it. One that is none yet is begun with settings, where
// they are not nil; of one that is they stay what they were. command is who has the folder, for those who wait; facts
// are for the block run of a new config.yaml.
func Open(ctx context.Context, dir, command string, begin *Settings, facts any) (*Folder, error) {
	lock, err := files.Claim(ctx, dir, command)
	if err != nil {
		return nil, err
	}
	f := &Folder{Settings: Default(), Dir: dir, lock: lock}
	if err := files.Sweep(dir, written...); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.open(begin, facts); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close gives the folder back.
func (f *Folder) Close() error { return f.lock.Unlock() }

func (f *Folder) path(name string) string { return filepath.Join(f.Dir, name) }

func (f *Folder) open(begin *Settings, facts any) error {
	text, err := files.ReadText(f.path(report.ConfigName), search.MaxConfigBytes)
	begun := err == nil
	switch {
	case begun:
		l := f.Settings.List()
		if err := l.ReadConfig(text); err != nil {
			return fmt.Errorf("%s: %w", f.path(report.ConfigName), err)
		}
		if err := l.Check(); err != nil {
			return fmt.Errorf("%s: %w", f.path(report.ConfigName), err)
		}
		if err := f.same(begin); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case begin == nil:
		return fmt.Errorf("%s is no folder of ask and tell", f.Dir)
	default:
		f.Settings = *begin
	}
	if err := f.inputs(begun); err != nil {
		return err
	}
	if !begun {
		if err := f.begin(facts); err != nil {
			return err
		}
	}
	if f.labels, err = ledger.Read(f.path(report.LedgerName), f.Sp); err != nil {
		return err
	}
	return f.readSuggestions()
}

// same refuses settings that are other ones than those of the folder, which somebody else has begun with these at the
// same time.
func (f *Folder) same(begin *Settings) error {
	if begin == nil {
		return nil
	}
	if err := begin.List().Absolute(); err != nil {
		return err
	}
	for _, c := range setting.Changes(f.Settings.List(), begin.List()) {
		return fmt.Errorf("%s was begun by somebody else: --%s %s there, %s here", f.Dir, c.Name, c.Before, c.After)
	}
	return nil
}

// inputs opens the space and the latencies: of a folder that was begun the copies that it keeps, wherever they were.
func (f *Folder) inputs(begun bool) (err error) {
	name, times := f.Space, f.Latency
	kept := func(file string) bool {
		_, err := os.Stat(f.path(file))
		return begun && err == nil
	}
	if strings.HasPrefix(name, "file:") && kept(report.SpaceName) {
		name = "file:" + f.path(report.SpaceName)
	}
	if times != "" && kept(report.LatencyName) {
		times = f.path(report.LatencyName)
	}
	if f.Sp, err = space.Open(name); err != nil {
		return err
	}
	if times != "" {
		f.Times, err = latency.Open(times, f.Sp)
	}
	return err
}

// begin writes the settings and copies of what they name.
func (f *Folder) begin(facts any) error {
	l := f.Settings.List()
	if err := l.Absolute(); err != nil {
		return err
	}
	labels := labelsValue
	told := setting.New()
	told.Text(&labels, labelsKey, "")
	text, err := setting.Join(told, l).YAML(facts)
	if err != nil {
		return err
	}
	if err := run.KeepInputs(f.Dir, f.Sp, f.Times); err != nil {
		return err
	}
	return files.Write(f.path(report.ConfigName), text) // last: what it names is there then
}

func (f *Folder) readSuggestions() error {
	path := f.path(SuggestionsName)
	text, err := files.Read(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &f.suggested); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, list := range [][]string{f.suggested.archs(), f.suggested.Failed} {
		for _, text := range list {
			if _, err := f.Sp.Parse(text); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return nil
}

// archs are the texts of what was suggested.
func (s suggested) archs() []string {
	list := make([]string, len(s.All))
	for i, x := range s.All {
		list[i] = x.Arch
	}
	return list
}

func (f *Folder) writeSuggestions() error {
	text, err := jsontext.Document(f.suggested)
	if err != nil {
		return err
	}
	return files.Write(f.path(SuggestionsName), text)
}

// Labels are what was told, in the order in which it was told first.
func (f *Folder) Labels() []ledger.Label { return f.labels }

// Pending are the suggestions that nobody has told anything of, in their order.
func (f *Folder) Pending() (list []Suggestion) {
	done := map[string]bool{}
	for _, l := range f.labels {
		done[l.Arch.String()] = true
	}
	for _, x := range f.suggested.All {
		if !done[x.Arch] && !slices.Contains(f.suggested.Failed, x.Arch) {
			list = append(list, x)
		}
	}
	return list
}
