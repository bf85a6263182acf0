package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/predictor"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
	"github.com/ctnas/ctnas/search/trained"
)

const labelsHelp = "where accuracies come from: table:FILE, table:FILE?run=1&split=validation&missing=drop, predictor:FILE, or train:DATA?recipe=R&key=value (trains candidates)"

// predictorPrefix marks an accuracy predictor among the sources of labels.
const predictorPrefix = "predictor:"

// labelsLong explains the labels that are trained for, for the help of commands that take them.
const labelsLong = `Labels train:DATA?recipe=R train every candidate: DATA and recipes are those of ` + "`ctnas train`" + `, keys of the recipe change it (&epochs=30&channels=16).
seeds=K takes the mean of K trainings, from seed=N (1) on; stop=median ends trainings below the median of earlier ones, from epoch stop-after=E on;
diverged=fail ends the search where a training falls apart, which otherwise counts as guessing. on-corrupt=skip
(or skip=N, at most N a training) leaves out images that cannot be read. Trainings are kept in --label-cache and never done twice.`

// labelFlags are how labels are made, not what they are.
type labelFlags struct {
	workers, retries *int
	cache            *string
}

// labelFlagNames may also be given with --resume, as --labels may where they have moved.
var labelFlagNames = []string{"label-workers", "label-retries", "label-cache"}

// newLabelFlags are those of a command that has no configuration to keep them in.
func newLabelFlags() labelFlags {
	c, _ := search.Preset(search.PresetDefault) // the name is one of its own
	return labelFlags{&c.LabelWorkers, &c.LabelRetries, &c.LabelCache}
}

// addLabelFlags binds them; their values are the defaults.
func addLabelFlags(f *pflag.FlagSet, l labelFlags) {
	f.IntVar(l.workers, "label-workers", *l.workers, "candidates trained at once, which share the threads (0 = one a thread, at most 8); labels do not depend on it")
	f.IntVar(l.retries, "label-retries", *l.retries, "how often a candidate whose training failed is tried again")
	f.StringVar(l.cache, "label-cache", *l.cache, "`folder` of trainings that have been done, which several runs may share (default: in the user's cache folder)")
}

// labels are what --labels names, opened for a space.
type labels struct {
	space    space.Space
	source   ledger.Source
	checksum string
	images   string      // checksum of those that labels are trained on; empty where there are none
	view     *table.View // nil: not of a table
	content  string      // a checksum of what labels are, wherever they come from
	listed   search.Lister
	close    func() error
}

// name says in a word where labels come from.
func (l *labels) name() string {
	if l.view != nil {
		return l.space.Name() + ", " + filepath.Base(l.view.Table().Path())
	}
	return l.space.Name()
}

// field is where methods are compared.
func (l *labels) field() (method.Field, error) {
	if l.view != nil {
		return method.OnTable(l.view.Table(), l.view.Query())
	}
	source, ok := l.source.(*trained.Source)
	if !ok { // one that answers the same to everybody
		return method.Field{Space: l.space, Source: func() (ledger.Source, error) { return l.source, nil }, Identity: l.checksum + " " + l.source.Describe()}, nil
	}
	return method.Field{Space: l.space, Pool: l.pool(), Source: func() (ledger.Source, error) { return source.Fresh(), nil },
		Identity: l.checksum + " " + source.Describe()}, nil
}

// pool lists the architectures that may be labelled; nil where they were not listed.
func (l *labels) pool() *method.Pool {
	switch {
	case l.view != nil:
		return method.PoolOf(l.view)
	case l.listed == nil:
		return nil
	}
	return method.NewPool(l.space, l.listed, nil)
}

// openLabels opens what --labels names for a space. listed asks for the space's list, where it takes time.
func (a *app) openLabels(ctx context.Context, text, spaceName string, at place, f labelFlags, listed bool) (*labels, error) {
	if path, ok := strings.CutPrefix(text, predictorPrefix); ok {
		return openPredictor(path, spaceName)
	}
	if !strings.HasPrefix(text, trained.Prefix) {
		t, view, err := a.openTableLabels(ctx, text, spaceName)
		if err != nil {
			return nil, err
		}
		return &labels{space: t.Space(), source: ledger.FromTable(view), checksum: t.Checksum(), content: view.Checksum(), view: view, close: t.Close}, nil
	}
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	c, err := a.trainedConfig(text, sp, at, f)
	if err != nil {
		return nil, err
	}
	source, err := a.openTrained(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("--labels %s: %w", text, err)
	}
	l := &labels{space: sp, source: source, checksum: source.Checksum(), content: source.Checksum(), images: source.ImagesChecksum(), close: source.Close}
	if all, ok := sp.(space.Enumerable); ok && listed {
		update, finish := a.progress("list " + sp.Name())
		archs, err := all.All(ctx, update)
		finish()
		if err != nil {
			return nil, errors.Join(err, source.Close())
		}
		l.listed = search.NewList(archs)
	}
	return l, nil
}

// openPredictor opens once-for-all's accuracy predictor, which knows the networks of one space.
func openPredictor(path, spaceName string) (*labels, error) {
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	if _, ok := sp.(space.MobileNetV3); !ok {
		return nil, usagef("--labels %s%s: the accuracy predictor knows networks of --space mobilenetv3 only, not of %s", predictorPrefix, path, sp.Name())
	}
	p, err := predictor.Open(path)
	if err != nil {
		return nil, err
	}
	return &labels{space: sp, source: p, checksum: p.Checksum(), content: p.Checksum(), close: func() error { return nil }}, nil
}

// trainedTable trains n random architectures, or all where the space has fewer, and makes a table of them.
func (a *app) trainedTable(ctx context.Context, l *labels, n int, seed uint64) (t *table.Table, v *table.View, err error) {
	source, ok := l.source.(*trained.Source)
	if !ok {
		return nil, nil, usagef("--labels: want the labels of a table, or %sDATA?recipe=R", trained.Prefix)
	}
	archs := method.Draw(l.space, source, n, seed)
	update, finish := a.progress("train")
	source.Observe(nil, update)
	_, err = source.Label(ctx, archs)
	finish()
	if err != nil {
		return nil, nil, err
	}
	source.Unseal()
	var text bytes.Buffer
	if err := source.WriteTable(&text, archs); err != nil {
		return nil, nil, err
	}
	t, err = table.Read(ctx, "the labels that were trained", text.Bytes(),
		table.Options{Space: l.space.Name(), Threads: a.threads})
	if err != nil {
		return nil, nil, err
	}
	v, err = t.View(table.Query{})
	return t, v, err
}

// trainedConfig is what train:... says for a space.
func (a *app) trainedConfig(text string, sp space.Space, at place, f labelFlags) (c trained.Config, err error) {
	c = trained.Config{Space: sp, Device: at.Config, Workers: *f.workers, Retries: *f.retries, Cache: *f.cache, Done: a.candidateDone()}
	if c.Spec, err = trained.Parse(text); err != nil {
		return c, usagef("--labels: %w", err)
	}
	if c.Cache == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return c, fmt.Errorf("no cache folder: %w; name one with --label-cache", err)
		}
		c.Cache = filepath.Join(cache, "ctnas", "trained")
	}
	c.Version, err = exactVersion()
	return c, err
}

// openTrained opens the images of a source of trainings.
func (a *app) openTrained(ctx context.Context, c trained.Config) (*trained.Source, error) {
	o, finish := a.imageOptions()
	defer finish()
	c.Images = o
	return trained.Open(ctx, c)
}

// openTableLabels opens the table of --labels for a space.
func (a *app) openTableLabels(ctx context.Context, labels, spaceName string) (*table.Table, *table.View, error) {
	if _, err := openSpace(spaceName); err != nil {
		return nil, nil, err
	}
	path, query, err := table.ParseLabels(labels)
	if err != nil {
		return nil, nil, usagef("--labels: %w, or %sDATA?recipe=R", err, trained.Prefix)
	}
	update, finish := a.progress("read " + filepath.Base(path))
	t, err := table.Open(ctx, path, table.Options{
		Space: spaceName, Columns: query.Columns, Threads: a.threads,
		Progress: func(done, total int64) { update(int(done), int(total)) },
	})
	finish()
	if err != nil {
		return nil, nil, err
	}
	v, err := t.View(query)
	if err != nil {
		var absent *table.AbsentError
		if errors.As(err, &absent) {
			err = usagef("--labels %s: %w", labels, err)
		}
		return nil, nil, errors.Join(err, t.Close())
	}
	return t, v, nil
}

// exactVersion tells programs apart whose trainings may differ: the commit's hash, and of a program with changes that are not in it, or of an
// unknown one, the program file's.
func exactVersion() (string, error) {
	build := thisBuild()
	if !build.Modified && build.Commit != "unknown" {
		return build.Version + " " + build.Commit, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	file, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	whole := sha256.New()
	if _, err := io.Copy(whole, file); err != nil {
		return "", err
	}
	return build.Version + " " + hex.EncodeToString(whole.Sum(nil)), nil
}

// candidateDone writes a line for every training that has ended, unless a terminal shows a bar.
func (a *app) candidateDone() func(trained.Candidate) {
	if a.quiet || a.json || onTerminal(a.stderr) {
		return nil
	}
	return func(c trained.Candidate) {
		how := fmt.Sprintf("%.1f s on %s", c.Seconds, c.Device)
		if c.Cached {
			how = "from the cache"
		}
		if note := c.Note.String(); note != "" {
			how = note + ", " + how
		}
		reached := "no accuracy"
		if c.Epochs > 0 {
			reached = fmt.Sprintf("%.2f %%", 100*c.Accuracy)
		}
		fmt.Fprintf(a.stderr, "candidate %d of %d: %v %s after %d epochs, %s\n", c.N, c.Of, c.Arch, reached, c.Epochs,
			how)
	}
}
