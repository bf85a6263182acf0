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

// line is a label in the file: one JSON object a line, without times and paths, so that equal searches write equal
// bytes.
type line struct {
	N        int     `json:"n"`
	Round    int     `json:"round"`
	Arch     string  `json:"arch"`
	Hash     string  `json:"hash"`
	Accuracy float64 `json:"accuracy"`
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
	kept  []Label // that the file holds behind bytes: they were bought, and nobody has asked for them yet
	text  []byte  // their lines
}

// Create opens a ledger that writes every label to a new file as it is bought.
func Create(path string, source Source, budget int) (*Ledger, error) {
	f, err := files.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	if err := files.SyncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := New(source, budget)
	l.file = &file{path: path, f: f, sum: sha256.New()}
	return l, nil
}

// maxFileBytes bounds what Resume reads; a line has some 300 bytes.
const maxFileBytes = 1 << 30

// Resume goes on with a file. The labels before a position are read back without asking the source, which is told where
// it wants to know. Those after it are kept: a search that goes on from there asks for the same ones again, and is
// answered from the file. A line that was torn is cut off. A file that is not there is begun where the position is the
// zero one: nothing had been bought.
func Resume(ctx context.Context, path string, source Source, budget int, sp space.Space, p Position) (*Ledger, error) {
	f, err := files.OpenFile(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) && p == (Position{}) {
		return Create(path, source, budget)
	} else if err != nil {
		return nil, err
	}
	l := New(source, budget)
	l.file = &file{path: path, f: f, sum: sha256.New()}
	if err := l.read(sp, p); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	if m, ok := source.(Maker); ok && len(l.labels) > 0 {
		if err := m.Recall(ctx, l.labels); err != nil {
			return nil, errors.Join(err, f.Close())
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

// recall answers a request with what the file keeps of an earlier process that made the same one, and tells whether it
// could: values and notes are entered. What stands there must be what is asked for. A request that the file holds a
// part of only is one that was torn; it is made again as a whole, for what a source says may depend on what it is asked
// together.
func (l *Ledger) recall(ctx context.Context, bought []Label) (bool, error) {
	f := l.file
	if f == nil || len(f.kept) == 0 {
		return false, nil
	}
	if len(f.kept) < len(bought) {
		f.kept, f.text = nil, nil
		return false, f.f.Truncate(f.bytes)
	}
	for i := range bought {
		k := f.kept[i]
		if k.Arch != bought[i].Arch {
			return false,
				fmt.Errorf("%s: line %d holds a label of %v, and the search asks for %v: the file was changed", f.path,
					k.N, k.Arch, bought[i].Arch)
		}
		bought[i].Value, bought[i].Note = k.Value, k.Note
	}
	text, err := lines(l.facts, bought)
	if err != nil {
		return false, err
	}
	if !bytes.HasPrefix(f.text, text) {
		return false, fmt.Errorf("%s: lines %d to %d are not what the search writes: the file was changed", f.path,
			bought[0].N, bought[len(bought)-1].N)
	}
	f.kept, f.text = f.kept[len(bought):], f.text[len(text):]
	f.wrote(text, len(bought))
	if m, ok := l.source.(Maker); ok {
		return true, m.Recall(ctx, bought)
	}
	return true, nil
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
	if !(r.Accuracy >= 0 && r.Accuracy <= 1) {
		return Label{}, fmt.Errorf("accuracy %g, want 0..1", r.Accuracy)
	}
	b := Label{N: r.N, Round: r.Round, Arch: arch, Value: r.Accuracy, Proposer: r.Proposer,
		Predicted: math.NaN(), Note: r.Note}
	if r.Predicted != nil {
		b.Predicted = *r.Predicted
	}
	return b, nil
}

// lines are the lines of labels.
func lines(facts Facts, labels []Label) ([]byte, error) {
	var text bytes.Buffer
	for _, b := range labels {
		r := line{N: b.N, Round: b.Round, Arch: b.Arch.String(), Hash: b.Arch.Hash(), Accuracy: b.Value, Facts: facts,
			Note: b.Note, Proposer: b.Proposer}
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

// append writes labels in one piece.
func (f *file) append(facts Facts, labels []Label) error {
	text, err := lines(facts, labels)
	if err != nil {
		return err
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

// Close closes the file.
func (l *Ledger) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.f.Close()
}
