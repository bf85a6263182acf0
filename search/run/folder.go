package run

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/setting"
	"github.com/ctnas/ctnas/kernels/exec"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/latency"
	"github.com/ctnas/ctnas/search/report"
	"github.com/ctnas/ctnas/search/space"
)

// folder is what a run's folder must agree with: what a checkpoint names.
type folder struct {
	ident  string // of the settings
	source string // what labels and times are
	lock   *files.FolderLock
	old    *snapshot // the checkpoint of a run that goes on; nil of a new one
	writer *checkpoint.Writer
}

// openFolder writes config.yaml into a new folder, or reads the checkpoint of an old one.
func (r *Run) openFolder() (err error) {
	given := r.given()
	if r.folder.ident, err = given.Identity(r.Deps.Space); err != nil {
		return err
	}
	r.folder.source = r.standsOn()
	if r.Dir == "" {
		return nil
	}
	if r.folder.lock, err = checkpoint.Take(r.Dir, r.Program.Command, written...); err != nil {
		return err
	}
	if s := r.folder.lock.Stale; s != nil && r.Stale != nil {
		r.Stale(s)
	}
	old, err := readSnapshot(r.Dir)
	if err != nil && !errors.Is(err, ErrNoCheckpoint) {
		return err
	}
	if old == nil {
		return r.claim()
	}
	if err := r.agrees(old); err != nil {
		return r.refused(err)
	}
	r.folder.old = old
	return r.goOn()
}

// refused says why the search in the folder is not gone on with, and what to do.
func (r *Run) refused(why error) error {
	return fmt.Errorf("%s cannot be resumed: %w; what it holds is kept, and another --out begins anew", r.Dir, why)
}

// written are the files that are written whole: a kill may leave the beginnings of some behind.
var written = []string{report.ConfigName, report.SpaceName, report.LatencyName, report.ResultName, report.PageName}

// given are the settings as they were given: with the last budget.
func (r *Run) given() search.Config {
	c := r.Config
	c.Budget = r.plan.budgets[len(r.plan.budgets)-1]
	return c
}

// standsOn is what labels and times are, in a line.
func (r *Run) standsOn() string {
	source := r.Source.Describe() + " " + r.Checksum
	if r.Images != "" {
		source += sourceImages + r.Images
	}
	if r.Deps.Latency != nil {
		source += sourceLatency + r.Deps.Latency.Checksum()
	}
	if f := space.FileOf(r.Deps.Space); f != nil {
		source += sourceSpace + digest.Of(f.Text())
	}
	return source
}

// agrees tells in what a checkpoint differs from what is given now.
func (r *Run) agrees(old *snapshot) error {
	switch {
	case old.Version != r.Program.Version:
		return fmt.Errorf("it was begun by version %s, this is %s", old.Version, r.Program.Version)
	case old.Config != r.folder.ident:
		return r.otherSettings()
	case old.Source != r.folder.source:
		return errors.New(otherSource(old.Source, r.folder.source))
	case r.Device.Level != "" && r.Device.Level != old.Level:
		return fmt.Errorf("it was begun on %s, and %s was asked for: the results would differ", old.Level,
			r.Device.Level)
	}
	r.Device.Level = old.Level
	dev, err := exec.Open(r.Device)
	if err != nil {
		return fmt.Errorf("it was begun on %s, elsewhere the results would differ: %w", old.Level, err)
	}
	dev.Close()
	return nil
}

// otherSettings names the settings that are other ones in the folder than those given now.
func (r *Run) otherSettings() error {
	const says = "its settings are other ones than those given now"
	old, err := search.LoadConfig(r.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", says, err)
	}
	now := r.given()
	var list []string
	for _, c := range setting.Changes(old.Settings(), now.Settings()) {
		if !c.MayChange && c.Name != "latency" || c.Name == "budget" { // of latencies the contents count
			list = append(list, fmt.Sprintf("--%s %s then, %s now", c.Name, c.Before, c.After))
		}
	}
	if len(list) == 0 { // what the program makes of them is
		return errors.New(says)
	}
	text := strings.Join(list, "; ")
	if len(list) == 1 && now.Budget > old.Budget {
		text += fmt.Sprintf("; --resume %s --budget %d gives it more", r.Dir, now.Budget)
	}
	return fmt.Errorf("%s: %s", says, text)
}

// goOn compares the budgets of the folder with those that are given, which may be one more: then config.yaml says so.
func (r *Run) goOn() error {
	old, err := search.LoadConfig(r.Dir)
	if err != nil {
		return err
	}
	now := r.given()
	switch {
	case slices.Equal(now.Budgets(), old.Budgets()):
		return nil
	case !slices.Equal(now.Before, old.Budgets()):
		return r.refused(r.otherSettings())
	}
	path := filepath.Join(r.Dir, search.ConfigName)
	text, err := files.ReadText(path, search.MaxConfigBytes)
	if err != nil {
		return err
	}
	more := old.More(now.Budget)
	if text, err = replaceSettings(text, more.Settings()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return files.Write(path, text)
}

// replaceSettings is a config.yaml with other settings. What is none of them stays: where the run computes, and how it
// was begun.
func replaceSettings(text []byte, l *setting.List) ([]byte, error) {
	written, err := l.YAML(nil)
	if err != nil {
		return nil, err
	}
	var before, after yaml.Node
	if err := errors.Join(yaml.Unmarshal(text, &before), yaml.Unmarshal(written, &after)); err != nil {
		return nil, err
	}
	if len(before.Content) == 0 { // an empty file
		return written, nil
	}
	top := after.Content[0]
	for pair := range slices.Chunk(before.Content[0].Content, 2) {
		if l.Lookup(pair[0].Value) == nil {
			top.Content = append(top.Content, pair...)
		}
	}
	return yaml.Marshal(&after)
}

// claim writes config.yaml. A folder that holds one already is the same run, killed before its first checkpoint.
func (r *Run) claim() error {
	path := filepath.Join(r.Dir, search.ConfigName)
	if _, err := os.Stat(path); err == nil {
		old, err := search.LoadConfig(r.Dir)
		if err != nil {
			return err
		}
		ident, err := old.Identity(r.Deps.Space)
		if err != nil {
			return err
		}
		if ident != r.folder.ident {
			return r.refused(r.otherSettings())
		}
		if m := r.Deps.Latency; m != nil {
			kept, err := files.Read(filepath.Join(r.Dir, report.LatencyName), latency.MaxBytes)
			switch {
			case errors.Is(err, fs.ErrNotExist): // killed before it was written
			case err != nil:
				return err
			case !bytes.Equal(kept, m.Table.Text()):
				return r.refused(fmt.Errorf("its latencies are from another table than %s", m.Table.Path))
			}
		}
		if err := r.goOn(); err != nil {
			return err
		}
		return KeepInputs(r.Dir, r.Deps.Space, r.Deps.Latency)
	}
	given := r.given()
	text, err := setting.Join(given.Settings(), r.Program.Settings).YAML(r.Program.Facts)
	if err != nil {
		return err
	}
	// The settings come first: a folder that has them is a run's, whatever else a kill keeps from being written.
	if err := files.Write(path, text); err != nil {
		return err
	}
	return KeepInputs(r.Dir, r.Deps.Space, r.Deps.Latency)
}

// KeepInputs puts copies of the file that describes a space and of a latency table into a run's folder, where there are
// any, so that the folder can be read without them.
func KeepInputs(dir string, sp space.Space, m *latency.Model) error {
	if f := space.FileOf(sp); f != nil {
		if err := files.Write(filepath.Join(dir, report.SpaceName), f.Text()); err != nil {
			return err
		}
	}
	if m == nil {
		return nil
	}
	return files.Write(filepath.Join(dir, report.LatencyName), m.Table.Text())
}

// What a search stands on is one line in its checkpoint: where labels come from, then what else was read.
const (
	sourceImages  = "; images "
	sourceLatency = "; latencies "
	sourceSpace   = "; space "
)

// otherSource says in which part two such lines differ.
func otherSource(old, now string) string {
	parts := func(line string) [4]string {
		line, sp, _ := strings.Cut(line, sourceSpace)
		line, latency, _ := strings.Cut(line, sourceLatency)
		labels, images, _ := strings.Cut(line, sourceImages)
		return [4]string{images, labels, latency, sp}
	}
	a, b := parts(old), parts(now)
	for i, what := range []string{
		"the images that its labels were trained on have changed", "its labels came from other data",
		"its latencies came from another table",
		"its space came from another file",
	} {
		if a[i] != b[i] {
			return fmt.Sprintf("%s: %s; now: %s", what, cmp.Or(a[i], "none"), cmp.Or(b[i], "none"))
		}
	}
	return "it was begun on other data"
}
