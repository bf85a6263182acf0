// Package events is the log of a run: log.jsonl, and the same scalars for TensorBoard.
package events

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctnas/ctnas/internal/files"
)

// Event is one line of log.jsonl: {"event":"controller","step":500,"seconds":3.2,"time":"…","reward":0.71,…}.
type Event struct {
	Name    string
	Step    int
	Values  map[string]float64 // not a number and infinities are left out of the line
	Text    map[string]string
	Seconds float64 // since the run began, the parts before a resume included; set by Log
	Time    string  // RFC 3339; set by Log
}

// MarshalJSON writes the event as one flat object with its keys in order.
func (e Event) MarshalJSON() ([]byte, error) {
	flat := map[string]any{}
	for k, v := range e.Text {
		flat[k] = v
	}
	for k, v := range e.Values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			flat[k] = v
		}
	}
	for k, v := range map[string]any{"event": e.Name, "step": e.Step, "seconds": e.Seconds, "time": e.Time} {
		if _, taken := flat[k]; taken {
			return nil, fmt.Errorf("event %s: the key %q is taken", e.Name, k)
		}
		flat[k] = v
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads what MarshalJSON writes. Values that are neither numbers nor text are dropped.
func (e *Event) UnmarshalJSON(line []byte) error {
	var flat map[string]any
	if err := json.Unmarshal(line, &flat); err != nil {
		return err
	}
	*e = Event{Values: map[string]float64{}, Text: map[string]string{}}
	for k, v := range flat {
		switch v := v.(type) {
		case float64:
			e.Values[k] = v
		case string:
			e.Text[k] = v
		}
	}
	step, ok := e.Values["step"]
	if !ok || step != math.Trunc(step) || math.Abs(step) > 1<<53 {
		return errors.New("an event without a whole number as its step")
	}
	if e.Text["event"] == "" {
		return errors.New("an event without a name")
	}
	e.Name, e.Step, e.Seconds, e.Time = e.Text["event"], int(step), e.Values["seconds"], e.Text["time"]
	for _, k := range []string{"event", "time", "step", "seconds"} {
		delete(e.Text, k)
		delete(e.Values, k)
	}
	return nil
}

// Log writes the events of a run to log.jsonl and the same scalars to a TensorBoard file beside it. Any goroutine may
// write.
type Log struct {
	mu     sync.Mutex
	file   *os.File
	board  *board
	bytes  int64
	base   float64 // seconds of the run before it was opened
	opened time.Time
}

// FileName is the file of a run folder that holds its events.
const FileName = "log.jsonl"

// maxBytes bounds what is read of a log; a line has some 200 bytes.
const maxBytes = 1 << 30

// Open opens the log of a run folder. Of one that is there only the first `keep` bytes are kept, as many as there were
// at the checkpoint from which the run goes on (Position): the steps after it are done again, and would stand there
// twice. The time that they took stays counted. A line torn by a crash is cut off.
//
// TensorBoard reads all of a folder's files and keeps every step that it finds: so a new file begins with the mark of a
// restart, which makes it forget what it has read, and repeats the events that are kept.
func Open(dir string, keep int64) (*Log, error) {
	file, err := files.OpenFile(filepath.Join(dir, FileName), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file, opened: time.Now()}
	if err := l.goOn(dir, keep); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

func (l *Log) goOn(dir string, keep int64) error {
	text, err := files.Read(filepath.Join(dir, FileName), maxBytes)
	if err != nil {
		return err
	}
	all, _ := parse(text)
	for _, e := range all {
		l.base = max(l.base, e.Seconds)
	}
	text = text[:max(0, min(keep, int64(len(text))))]
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	l.bytes = int64(len(text))
	if err := l.file.Truncate(l.bytes); err != nil {
		return err
	}
	if _, err := l.file.Seek(l.bytes, io.SeekStart); err != nil {
		return err
	}
	if l.board, err = newBoard(dir, l.opened); err != nil {
		return err
	}
	if len(all) == 0 {
		return nil
	}
	kept, _ := parse(text)
	return l.board.restart(kept, l.opened)
}

// Position is how much of log.jsonl has been written, for the checkpoint that a run goes on from; 0 without a log.
func (l *Log) Position() int64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// Seconds is how long the run has taken so far, the parts before a resume included.
func (l *Log) Seconds() float64 { return l.base + time.Since(l.opened).Seconds() }

// Write adds an event, stamped with the time.
func (l *Log) Write(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	e.Seconds = math.Round(l.Seconds()*1000) / 1000
	e.Time = now.UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := l.file.Write(append(line, '\n'))
	if l.bytes += int64(n); err != nil {
		return err
	}
	return l.board.write(e, now)
}

// Close closes both files.
func (l *Log) Close() error { return errors.Join(l.file.Close(), l.board.close()) }

// Read returns the events of a run folder, by name and step; none if there is no log. Of a name and step that stand
// there twice, as in the logs of older versions, the last event counts. The last line may be torn, for the run may be
// going on. A log is only for reading: a line that is spoiled is left out, and spoiled says which and why.
func Read(dir string) (events []Event, spoiled []string, err error) {
	path := filepath.Join(dir, FileName)
	text, err := files.Read(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	all, spoiled := parse(text)
	type key struct {
		name string
		step int
	}
	last := map[key]Event{}
	for _, e := range all {
		last[key{e.Name, e.Step}] = e
	}
	events = slices.SortedFunc(maps.Values(last), func(a, b Event) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Step, b.Step))
	})
	for i := range spoiled {
		spoiled[i] = path + ": " + spoiled[i]
	}
	return events, spoiled, nil
}

// parse reads whole lines; what stands behind the last of them is torn.
func parse(text []byte) (events []Event, spoiled []string) {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if line[len(line)-1] != '\n' {
			break
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			spoiled = append(spoiled, fmt.Sprintf("line %d: %v", n, err))
			continue
		}
		events = append(events, e)
	}
	return events, spoiled
}
