package main

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/method"
	"github.com/ctnas/ctnas/search/predictor"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

const labelsHelp = "where accuracies come from: table:FILE, table:FILE?run=1&split=validation&missing=drop, or predictor:FILE"

// predictorPrefix marks an accuracy predictor among the sources of labels.
const predictorPrefix = "predictor:"

// labelled is an opened source of labels of a space.
type labelled struct {
	space    space.Space
	source   ledger.Source
	checksum string
	table    *table.Table // nil where no table lists the labels
	view     *table.View  // of table
}

// openSource opens what --labels names.
func openSource(a *app, labels, spaceName string) (*labelled, error) {
	path, ok := strings.CutPrefix(labels, predictorPrefix)
	if !ok {
		t, v, err := openLabels(a, labels, spaceName)
		if err != nil {
			return nil, err
		}
		return &labelled{t.Space(), ledger.FromTable(v), t.Checksum(), t, v}, nil
	}
	sp, err := openSpace(spaceName)
	if err != nil {
		return nil, err
	}
	if _, ok := sp.(space.MobileNetV3); !ok {
		return nil, usagef("--labels %s: the accuracy predictor knows networks of --space mobilenetv3 only, not of %s", labels, sp.Name())
	}
	p, err := predictor.Open(path)
	if err != nil {
		return nil, err
	}
	return &labelled{space: sp, source: p, checksum: p.Checksum()}, nil
}

// Close releases the table.
func (l *labelled) Close() {
	if l.table != nil {
		_ = l.table.Close() // it was only read
	}
}

// pool is the listed space; nil where none is.
func (l *labelled) pool() *method.Pool {
	if l.view == nil {
		return nil
	}
	return method.PoolOf(l.view)
}

// openLabels opens the table of --labels and checks that it is of the space.
func openLabels(a *app, labels, spaceName string) (*table.Table, *table.View, error) {
	if _, err := openSpace(spaceName); err != nil {
		return nil, nil, err
	}
	path, query, err := table.ParseLabels(labels)
	if err != nil {
		return nil, nil, usagef("--labels: %w", err)
	}
	update, finish := a.progress("read " + filepath.Base(path))
	t, err := table.Open(path, table.Options{
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

// absoluteLabels makes the file's name valid in any working directory, for a resume from elsewhere.
func absoluteLabels(labels string) (string, error) {
	if path, ok := strings.CutPrefix(labels, predictorPrefix); ok {
		whole, err := filepath.Abs(path)
		return predictorPrefix + whole, err
	}
	path, _, err := table.ParseLabels(labels)
	if err != nil {
		return "", usagef("--labels: %w", err)
	}
	whole, err := filepath.Abs(path)
	return strings.Replace(labels, path, whole, 1), err
}

// absoluteSpace does the same for a space's file.
func absoluteSpace(name string) (string, error) {
	path, ok := strings.CutPrefix(name, "file:")
	if !ok {
		return name, nil
	}
	whole, err := filepath.Abs(path)
	return "file:" + whole, err
}
