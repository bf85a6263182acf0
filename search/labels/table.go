package labels

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/ledger"
	"github.com/ctnas/ctnas/search/space"
	"github.com/ctnas/ctnas/search/table"
)

const tablePrefix = "table:"

// tables are labels that have been measured before.
var tables = Kind{
	Prefix: tablePrefix, Usage: "table:FILE, table:FILE?run=1&split=validation&missing=drop",
	Open: openTable, Absolute: absoluteTable, Any: true,
}

// openTable opens a table for a space and takes the view that a text asks for.
func openTable(ctx context.Context, text string, sp space.Space, o Options) (*Labels, error) {
	path, query, err := table.ParseLabels(text)
	if err != nil {
		return nil, &TextError{err}
	}
	query.Metric, query.Minimize = o.Metric.Name, o.Metric.Direction == ledger.Minimize
	also := o.Measures
	if query.Metric != "" {
		also = append([]string{query.Metric}, also...)
	}
	update, finish := o.shown("read " + filepath.Base(path))
	t, err := table.Open(ctx, path, table.Options{
		Space: sp, Also: also, Columns: query.Columns, Dataset: query.Dataset, Threads: o.Threads,
		Progress: func(done, total int64) { update(int(done), int(total)) },
	})
	finish()
	if err != nil {
		return nil, err
	}
	v, err := t.View(query)
	if err != nil {
		if absent := new(table.AbsentError); errors.As(err, &absent) {
			err = Errorf(text, "%w", err)
		}
		return nil, errors.Join(err, t.Close())
	}
	source, err := ledger.FromTable(v).Of(o.Metric, o.Measures)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	l := New(t.Space(), source, t.Checksum(), t.Close)
	l.Content = v.Checksum()
	return l, nil
}

// absoluteTable leaves the names of tables that come with the program.
func absoluteTable(text string) (string, error) {
	path, _, err := table.ParseLabels(text)
	if err != nil {
		return "", &TextError{err}
	}
	if slices.Contains(table.Embedded(), path) {
		return text, nil
	}
	whole, err := files.Absolute(path)
	return tablePrefix + whole + strings.TrimPrefix(text, tablePrefix+path), err
}

// View is the view of a table that labels come from; nil where they do not.
func (l *Labels) View() *table.View {
	if t, ok := l.Source.(ledger.Table); ok {
		return t.View()
	}
	return nil
}

// Name says in a word where labels come from.
func (l *Labels) Name() string {
	if v := l.View(); v != nil {
		return l.Space.Name() + ", " + filepath.Base(v.Table().Path())
	}
	return l.Space.Name()
}

// Tabled is a source that can write labels that it has made as a table, which package table reads.
type Tabled interface {
	ledger.Source
	ledger.Maker
	WriteTable(w io.Writer, archs []space.Arch) error
}

// Table labels architectures and makes a table of them. The source must be Tabled, and a Judge is unsealed by it.
func (l *Labels) Table(ctx context.Context, archs []space.Arch, o Options) (*table.Table, *table.View, error) {
	source, ok := l.Source.(Tabled)
	if !ok {
		return nil, nil, &TextError{errors.New("labels: want those of a table, or of a source that measures them")}
	}
	update, finish := o.shown("labels")
	source.Observe(nil, update)
	_, err := source.Label(ctx, archs)
	finish()
	if err != nil {
		return nil, nil, err
	}
	if judge, ok := l.Source.(ledger.Judge); ok {
		judge.Unseal()
	}
	var text bytes.Buffer
	if err := source.WriteTable(&text, archs); err != nil {
		return nil, nil, err
	}
	t, err := table.Read(ctx, "the labels that were made", text.Bytes(),
		table.Options{Space: l.Space, Threads: o.Threads})
	if err != nil {
		return nil, nil, err
	}
	v, err := t.View(table.Query{})
	return t, v, err
}
