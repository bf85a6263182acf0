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
	"math"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
)

// Position is how far a ledger's file had been written when a checkpoint was taken.
type Position struct {
	Lines  int    `json:"lines"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of these bytes
}

// line is a label in the file: one JSON object a line, without times and paths, so that equal searches write equal bytes.
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
	f     *os.File
	lines int
	bytes int64
	sum   hash.Hash
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
	l.file = &file{f: f, sum: sha256.New()}
	return l, nil
}

// maxFileBytes bounds what Resume reads; a line has some 300 bytes.
const maxFileBytes = 1 << 30

// Resume goes on with a file where a checkpoint was taken: what was written after it is cut off, and the labels before it are read
// back without asking the source, which is told where it wants to know.
func Resume(ctx context.Context, path string, source Source, budget int, sp space.Space, p Position) (*Ledger, error) {
	f, err := files.OpenFile(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	l := New(source, budget)
	l.file = &file{f: f, sum: sha256.New()}
	if err := l.read(sp, p); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	if m, ok := source.(Maker); ok {
		if err := m.Recall(ctx, l.labels); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return l, nil
}

func (l *Ledger) read(sp space.Space, p Position) error {
	if p.Bytes < 0 || p.Bytes > maxFileBytes || p.Lines < 0 || p.Lines > l.budget {
		return fmt.Errorf("the checkpoint says %d lines in %d bytes with a budget of %d", p.Lines, p.Bytes, l.budget)
	}
	text := make([]byte, p.Bytes)
	if n, err := io.ReadFull(l.file.f, text); err != nil {
		return fmt.Errorf("%d bytes, want the %d that it had at the checkpoint", n, p.Bytes)
	}
	l.file.sum.Write(text)
	if p.SHA256 != hex.EncodeToString(l.file.sum.Sum(nil)) {
		return errors.New("it was changed after the checkpoint")
	}
	for n := 1; len(text) > 0; n++ {
		record, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		b, err := parse(sp, record)
		switch {
		case err != nil:
			return fmt.Errorf("line %d: %w", n, err)
		case !whole || b.N != n:
			return fmt.Errorf("line %d holds label %d", n, b.N)
		}
		if _, twice := l.at[b.Arch]; twice {
			return fmt.Errorf("line %d: a second label of %v", n, b.Arch)
		}
		l.enter(b)
	}
	if len(l.labels) != p.Lines {
		return fmt.Errorf("%d lines, want %d", len(l.labels), p.Lines)
	}
	l.file.lines, l.file.bytes = p.Lines, p.Bytes
	return l.file.f.Truncate(p.Bytes)
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
	b := Label{N: r.N, Round: r.Round, Arch: arch, Value: r.Accuracy, Proposer: r.Proposer, Predicted: math.NaN(), Note: r.Note}
	if r.Predicted != nil {
		b.Predicted = *r.Predicted
	}
	return b, nil
}

func (f *file) append(facts Facts, labels []Label) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	for _, b := range labels {
		r := line{N: b.N, Round: b.Round, Arch: b.Arch.String(), Hash: b.Arch.Hash(), Accuracy: b.Value, Facts: facts, Note: b.Note, Proposer: b.Proposer}
		if !math.IsNaN(b.Predicted) && !math.IsInf(b.Predicted, 0) {
			r.Predicted = &b.Predicted
		}
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
	if _, err := f.f.WriteAt(text.Bytes(), f.bytes); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	f.sum.Write(text.Bytes())
	f.bytes += int64(text.Len())
	f.lines += len(labels)
	return nil
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
