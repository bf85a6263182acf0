// Package events is the log of a run: log.jsonl, and the same scalars for TensorBoard.
package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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

// Log writes the events of a run to log.jsonl and the same scalars to a TensorBoard file beside it.
type Log struct {
	file   *os.File
	board  *board
	base   float64 // seconds of the run before it was opened
	opened time.Time
}

// FileName is the file of a run folder that holds its events.
const FileName = "log.jsonl"

// Open opens the log of a run folder and goes on after its last whole line: a line torn by a crash is cut off.
func Open(dir string) (*Log, error) {
	file, err := os.OpenFile(filepath.Join(dir, FileName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file, opened: time.Now()}
	text, err := io.ReadAll(file)
	if err == nil {
		whole := bytes.LastIndexByte(text, '\n') + 1
		if err = file.Truncate(int64(whole)); err == nil {
			_, err = file.Seek(int64(whole), io.SeekStart)
		}
		var last Event
		lines := bytes.Split(bytes.TrimSpace(text[:whole]), []byte("\n"))
		if json.Unmarshal(lines[len(lines)-1], &last) == nil {
			l.base = last.Seconds
		}
	}
	if err == nil {
		l.board, err = newBoard(dir, l.opened)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return l, nil
}

// Seconds is how long the run has taken so far, the parts before a resume included.
func (l *Log) Seconds() float64 { return l.base + time.Since(l.opened).Seconds() }

// Write adds an event, stamped with the time.
func (l *Log) Write(e Event) error {
	now := time.Now()
	e.Seconds = math.Round(l.Seconds()*1000) / 1000
	e.Time = now.UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return err
	}
	return l.board.write(e, now)
}

// Close closes both files.
func (l *Log) Close() error { return errors.Join(l.file.Close(), l.board.close()) }

// Read returns the events of a run folder, by name and step; none if there is no log. A resumed run repeats the steps after its
// checkpoint: the last event of a name and step counts. The last line may be torn, for the run may be going on.
func Read(dir string) ([]Event, error) {
	path := filepath.Join(dir, FileName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	type key struct {
		name string
		step int
	}
	last := map[key]Event{}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines[:len(lines)-1] {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, i+1, err)
		}
		last[key{e.Name, e.Step}] = e
	}
	events := make([]Event, 0, len(last))
	for _, e := range last {
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b Event) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.Step - b.Step
	})
	return events, nil
}
