package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/jsontext"
	"github.com/ctnas/ctnas/search/space"
)

// Position is how far a ledger's file had been written when a checkpoint was taken.
type Position struct {
	Lines  int    `json:"lines"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of these bytes
}

// Order is a submission that was pending when a checkpoint was taken, as text.
type Order struct {
	Round     int
	Known     int // labels that were known when it was made
	Archs     []string
	Proposers []string  // one an architecture
	Predicted []float64 // likewise
}

// Orders are what is pending.
func (l *Ledger) Orders() []Order {
	list := make([]Order, len(l.pending))
	for i, p := range l.pending {
		list[i].Round, list[i].Known = p.round, p.known
		for _, r := range p.requests {
			list[i].Archs = append(list[i].Archs, r.Arch.String())
			list[i].Proposers = append(list[i].Proposers, r.Proposer)
			list[i].Predicted = append(list[i].Predicted, r.Predicted)
		}
	}
	return list
}

// requests reads an order of a ledger of so many known labels.
func (o Order) requests(sp space.Space, known int) ([]Request, error) {
	if len(o.Proposers) != len(o.Archs) || len(o.Predicted) != len(o.Archs) || o.Known < 0 || o.Known > known {
		return nil, fmt.Errorf("the checkpoint says of %d architectures who proposed %d, what was predicted of %d, and "+
			"that %d of %d labels were known", len(o.Archs), len(o.Proposers), len(o.Predicted), o.Known, known)
	}
	requests := make([]Request, len(o.Archs))
	for i, text := range o.Archs {
		a, err := sp.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		requests[i] = Request{a, o.Proposers[i], o.Predicted[i]}
	}
	return requests, nil
}

// line is a label in the file: one JSON object a line, without times and paths, so that equal searches write equal
// bytes.
type line struct {
	N        int      `json:"n"`
	Round    int      `json:"round"`
	Arch     string   `json:"arch"`
	Hash     string   `json:"hash"`
	Accuracy *float64 `json:"accuracy,omitempty"`
	Value    *float64 `json:"value,omitempty"` // in its place, of another metric
	Facts
	Note
	Proposer  string   `json:"proposer"`
	Predicted *float64 `json:"predicted,omitempty"`
}

// file is a ledger's file, open for appending.
type file struct {
	path  string
	f     *os.File
	lines int
	bytes int64
	sum   hash.Hash
	kept  []Label // that the file holds behind bytes: they were bought, and nobody has collected them yet
	text  []byte  // their lines
	known int     // of kept, how many answer what has been submitted
}

// Create opens a ledger that writes every label to a new file as it is bought.
func Create(path string, source Source, budget int, bounds ...Bound) (*Ledger, error) {
	f, err := files.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err := files.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := New(source, budget, bounds...)
	l.file = &file{path: path, f: f, sum: sha256.New()}
	return l, nil
}

// maxFileBytes bounds what Resume reads; a line has some 300 bytes.
const maxFileBytes = 1 << 30

// Resume goes on with a file. The labels before a position are read back without asking the source, which is told where
// it wants to know. Those after it are kept: a search that goes on from there asks for the same ones again, and is
// answered from the file. A line that was torn is cut off. A file that is not there is begun where the position is the
// zero one: nothing had been bought. What was pending is submitted again; ctx must last as long as for Submit.
func Resume(ctx context.Context, path string, source Source, budget int, sp space.Space, p Position, pending []Order,
	bounds ...Bound) (*Ledger, error) {
	f, err := files.OpenFile(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) && p == (Position{}) {
		return Create(path, source, budget, bounds...)
	} else if err != nil {
		return nil, err
	}
	l := New(source, budget, bounds...)
	l.file = &file{path: path, f: f, sum: sha256.New()}
	if err := l.read(sp, p); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	if m, ok := source.(Maker); ok && len(l.labels) > 0 {
		if err := m.Recall(ctx, l.labels); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	for _, o := range pending {
		requests, err := o.requests(sp, len(l.labels))
		if err == nil {
			err = l.submit(ctx, &submission{round: o.Round, known: o.Known, requests: requests})
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: round %d: %w", path, o.Round, err), l.Close())
		}
	}
	return l, nil
}

// read enters the labels before a position and keeps those after it.
func (l *Ledger) read(sp space.Space, p Position) error {
	if p.Bytes < 0 || p.Bytes > maxFileBytes || p.Lines < 0 || p.Lines > l.budget {
		return fmt.Errorf("the checkpoint says %d lines in %d bytes with a budget of %d", p.Lines, p.Bytes, l.budget)
	}
	all, err := io.ReadAll(io.LimitReader(l.file.f, maxFileBytes+1))
	switch {
	case err != nil:
		return err
	case len(all) > maxFileBytes:
		return fmt.Errorf("larger than %d bytes", maxFileBytes)
	case int64(len(all)) < p.Bytes:
		return fmt.Errorf("%d bytes, want the %d that it had at the checkpoint", len(all), p.Bytes)
	}
	text := all[:p.Bytes]
	l.file.sum.Write(text)
	if p.SHA256 != "" && p.SHA256 != hex.EncodeToString(l.file.sum.Sum(nil)) {
		return errors.New("it was changed after the checkpoint")
	}
	labels, err := parseLines(sp, text, 1)
	if err != nil {
		return err
	}
	for _, b := range labels {
		if _, twice := l.at[b.Arch]; twice {
			return fmt.Errorf("line %d: a second label of %v", b.N, b.Arch)
		}
		if b.Score, err = score(l.facts, l.bounds, b); err != nil {
			return fmt.Errorf("line %d: %w", b.N, err)
		}
		l.enter(b)
	}
	if len(l.labels) != p.Lines {
		return fmt.Errorf("%d lines, want %d", len(l.labels), p.Lines)
	}
	l.file.lines, l.file.bytes = p.Lines, p.Bytes
	rest := all[p.Bytes:]
	rest = rest[:bytes.LastIndexByte(rest, '\n')+1]
	if l.file.kept, err = parseLines(sp, rest, p.Lines+1); err != nil {
		return err
	}
	l.file.text = rest
	return l.file.f.Truncate(p.Bytes + int64(len(rest)))
}

// Read reads the labels of a ledger's file that nobody is writing; none where there is no file.
func Read(path string, sp space.Space) ([]Label, error) {
	text, err := files.Read(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var labels []Label
	if err == nil {
		labels, err = parseLines(sp, text, 1)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return labels, nil
}

// Write makes a ledger's file of labels, whole or not at all.
func Write(path string, facts Facts, labels []Label) error {
	text, err := Text(facts, labels)
	if err != nil {
		return err
	}
	return files.Write(path, text)
}

// parseLines reads whole lines, which are numbered from n on.
func parseLines(sp space.Space, text []byte, n int) (labels []Label, err error) {
	for ; len(text) > 0; n++ {
		record, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		b, err := parse(sp, record)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case !whole || b.N != n:
			return nil, fmt.Errorf("line %d holds label %d", n, b.N)
		}
		labels = append(labels, b)
	}
	return labels, nil
}

// holds tells whether a submission of n labels is answered by what the file keeps of an earlier process that made the
// same one. One that the file holds a part of only is one that was torn; it is made again as a whole, for what a source
// says may depend on what it is asked together. So are all that follow it.
func (f *file) holds(n int) bool {
	if f == nil {
		return false
	}
	if f.known+n > len(f.kept) {
		f.kept = f.kept[:f.known]
		return false
	}
	f.known += n
	return true
}

// recall answers a submission with what the file keeps: values and notes are entered. What stands there must be what is
// asked for.
func (l *Ledger) recall(ctx context.Context, bought []Label) error {
	f := l.file
	for i := range bought {
		k := f.kept[i]
		if k.Arch != bought[i].Arch {
			return fmt.Errorf("%s: line %d holds a label of %v, and the search asks for %v: the file was changed",
				f.path, k.N, k.Arch, bought[i].Arch)
		}
		bought[i].Value, bought[i].Note = k.Value, k.Note
		var err error
		if bought[i].Score, err = score(l.facts, l.bounds, bought[i]); err != nil {
			return fmt.Errorf("%s: line %d: %w", f.path, k.N, err)
		}
	}
	text, err := Text(l.facts, bought)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(f.text, text) {
		return fmt.Errorf("%s: lines %d to %d are not what the search writes: the file was changed", f.path,
			bought[0].N, bought[len(bought)-1].N)
	}
	f.kept, f.known, f.text = f.kept[len(bought):], f.known-len(bought), f.text[len(text):]
	f.wrote(text, len(bought))
	if m, ok := l.source.(Maker); ok {
		return m.Recall(ctx, bought)
	}
	return nil
}

// parse reads a line.
func parse(sp space.Space, record []byte) (Label, error) {
	var r line
	if err := json.Unmarshal(record, &r); err != nil {
		return Label{}, err
	}
	arch, err := sp.Parse(r.Arch)
	if err != nil {
		return Label{}, err
	}
	value, name := r.Accuracy, "accuracy"
	if r.Direction != "" {
		value, name = r.Value, r.Metric
	}
	if value == nil {
		return Label{}, fmt.Errorf("no %s", name)
	}
	if err := r.Facts.Check(*value); err != nil {
		return Label{}, fmt.Errorf("%s %w", name, err)
	}
	b := Label{N: r.N, Round: r.Round, Arch: arch, Value: *value, Proposer: r.Proposer,
		Predicted: math.NaN(), Note: r.Note}
	if r.Predicted != nil {
		b.Predicted = *r.Predicted
	}
	return b, nil
}

// Text are the lines of labels in a ledger's file.
func Text(facts Facts, labels []Label) ([]byte, error) {
	var text bytes.Buffer
	for _, b := range labels {
		r := line{N: b.N, Round: b.Round, Arch: b.Arch.String(), Hash: b.Arch.Hash(), Facts: facts, Note: b.Note,
			Proposer: b.Proposer}
		if facts.Direction == "" {
			r.Accuracy = &b.Value
		} else {
			r.Value = &b.Value
		}
		if !math.IsNaN(b.Predicted) && !math.IsInf(b.Predicted, 0) {
			r.Predicted = &b.Predicted
		}
		one, err := jsontext.Line(r)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		text.Write(one)
	}
	return text.Bytes(), nil
}

// append writes labels in one piece, in the place of what was torn.
func (f *file) append(facts Facts, labels []Label) error {
	text, err := Text(facts, labels)
	if err != nil {
		return err
	}
	if len(f.text) > 0 {
		if err := f.f.Truncate(f.bytes); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		f.text = nil
	}
	if _, err := f.f.WriteAt(text, f.bytes); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	f.wrote(text, len(labels))
	return nil
}

// wrote counts what stands in the file.
func (f *file) wrote(text []byte, labels int) {
	f.sum.Write(text)
	f.bytes += int64(len(text))
	f.lines += labels
}

// Position flushes the file to the disk and says how far it has been written; nothing of a ledger in memory.
func (l *Ledger) Position() (Position, error) {
	if l.file == nil {
		return Position{}, nil
	}
	if err := l.file.f.Sync(); err != nil {
		return Position{}, fmt.Errorf("ledger: %w", err)
	}
	return Position{l.file.lines, l.file.bytes, hex.EncodeToString(l.file.sum.Sum(nil))}, nil
}

// Close ends the making of labels that are pending, waits for that, and closes the file.
func (l *Ledger) Close() error {
	l.abandon()
	if l.file == nil {
		return nil
	}
	return l.file.f.Close()
}
