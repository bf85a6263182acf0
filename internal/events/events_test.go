package events

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/tfrecord"
)

func TestEventIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Event{
			Name:    rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "name"),
			Step:    rapid.IntRange(0, 1<<40).Draw(t, "step"),
			Values:  rapid.MapOf(rapid.StringMatching(`v[a-z]{0,4}`), rapid.Float64()).Draw(t, "values"),
			Text:    rapid.MapOf(rapid.StringMatching(`w[a-z]{0,4}`), rapid.String()).Draw(t, "text"),
			Seconds: rapid.Float64Range(0, 1e9).Draw(t, "seconds"),
			Time:    "2026-01-02T03:04:05Z",
		}
		line, err := json.Marshal(e)
		require.NoError(t, err)
		var back Event
		require.NoError(t, json.Unmarshal(line, &back))
		require.Equal(t, e, back)
	})
	line, err := json.Marshal(Event{Name: "n", Values: map[string]float64{"a": math.NaN(), "b": math.Inf(1), "c": 1}})
	require.NoError(t, err)
	require.JSONEq(t, `{"event":"n","step":0,"seconds":0,"time":"","c":1}`, string(line))
	_, err = json.Marshal(Event{Name: "n", Text: map[string]string{"step": "x"}})
	require.ErrorContains(t, err, `"step" is taken`)
}

// write logs a controller's steps from one on.
func write(t *testing.T, l *Log, from, to int, reward float64) {
	for step := from; step < to; step++ {
		require.NoError(t, l.Write(Event{Name: "controller", Step: step, Values: map[string]float64{"reward": reward}}))
	}
}

// A run that goes on from a checkpoint writes the steps after it again: they stand there once, in log.jsonl and for
// TensorBoard.
func TestLogGoesOnFromACheckpoint(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, 0)
	require.NoError(t, err)
	write(t, l, 0, 3, 0.5)
	at := l.Position()
	write(t, l, 3, 5, 0.5)
	require.NoError(t, l.Close())
	path := filepath.Join(dir, FileName)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, int64(len(text)), l.Position())
	require.NoError(t, os.WriteFile(path, append(text, `{"event":"controller","st`...), 0o644))
	events, spoiled, err := Read(dir)
	require.NoError(t, err)
	require.Empty(t, spoiled, "a torn last line belongs to a run that goes on")
	require.Len(t, events, 5)

	again, err := Open(dir, at)
	require.NoError(t, err)
	require.GreaterOrEqual(t, again.Seconds(), events[4].Seconds, "the time after the checkpoint was spent, too")
	write(t, again, 3, 7, 0.75)
	require.NoError(t, again.Close())
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 7, strings.Count(string(text), "\n"))
	events, _, err = Read(dir)
	require.NoError(t, err)
	require.Len(t, events, 7)
	for i, e := range events {
		require.Equal(t, i, e.Step)
		require.Equal(t, map[bool]float64{true: 0.5, false: 0.75}[i < 3], e.Values["reward"])
	}
	require.Equal(t, []point{{0, 0.5}, {1, 0.5}, {2, 0.5}, {3, 0.75}, {4, 0.75}, {5, 0.75}, {6, 0.75}},
		curve(t, dir, "controller/reward"))

	// A log that was cut short by hand ends nothing.
	require.NoError(t, os.WriteFile(path, text[:len(text)/2], 0o644))
	l, err = Open(dir, int64(len(text)))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Less(t, l.Position(), int64(len(text))/2+1)
}

type point struct {
	step  int
	value float64
}

// curve is what TensorBoard shows of a tag: the files in the order of their names, each step of each; after the mark of
// a restart (a SessionLog START) all steps from its own on are forgotten.
func curve(t *testing.T, dir, tag string) (points []point) {
	paths, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	require.NoError(t, err)
	for _, path := range paths { // sorted
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		r := tfrecord.NewReader(f, 0)
		for {
			message, err := r.Next(nil)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			step := 0
			if raw := find(message, 2); raw != nil {
				v, _ := protowire.ConsumeVarint(raw)
				step = int(v)
			}
			if session := find(message, 7); session != nil {
				status, _ := protowire.ConsumeVarint(field(t, session, 1))
				require.EqualValues(t, 1, status)
				points = slices.DeleteFunc(points, func(p point) bool { return p.step >= step })
			}
			if summary := find(message, 5); summary != nil {
				value := field(t, summary, 1)
				if string(field(t, value, 1)) == tag {
					bits, _ := protowire.ConsumeFixed32(field(t, value, 2))
					points = append(points, point{step, float64(math.Float32frombits(bits))})
				}
			}
		}
	}
	return points
}

// A log is only for reading: spoiled lines are told and left out.
func TestSpoiledLines(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, FileName),
		[]byte("{\"event\":\"a\",\"step\":1}\n{}\nnonsense\n\x00\x00\n{\"event\":\"a\",\"step\":2}\n"), 0o644))
	events, spoiled, err := Read(dir)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Len(t, spoiled, 3)
	require.ErrorContains(t, errors.New(spoiled[0]), "log.jsonl: line 2: an event without a whole number as its step")
	require.Contains(t, spoiled[2], "line 4")
	l, err := Open(dir, 1<<20)
	require.NoError(t, err, "and it is written on")
	write(t, l, 3, 4, 1)
	require.NoError(t, l.Close())
	events, spoiled, err = Read(dir)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.Len(t, spoiled, 3)
	missing, spoiled, err := Read(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, missing)
	require.Empty(t, spoiled)
}

func TestTensorBoardFile(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, 0)
	require.NoError(t, err)
	require.NoError(t, l.Write(Event{Name: "round", Step: 300, Values: map[string]float64{"best": 0.5, "labels": 60}}))
	require.NoError(t, l.Write(Event{Name: "baseline", Step: 1, Text: map[string]string{"arch": "x"}}))
	require.NoError(t, l.Close())
	files, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	f, err := os.Open(files[0])
	require.NoError(t, err)
	defer f.Close()

	r := tfrecord.NewReader(f, 0)
	first, err := r.Next(nil)
	require.NoError(t, err)
	require.Equal(t, "brain.Event:2", string(field(t, first, 3)))
	second, err := r.Next(nil)
	require.NoError(t, err)
	step, _ := protowire.ConsumeVarint(field(t, second, 2))
	require.EqualValues(t, 300, step)
	value := field(t, field(t, second, 5), 1)
	require.Equal(t, "round/best", string(field(t, value, 1)))
	bits, _ := protowire.ConsumeFixed32(field(t, value, 2))
	require.Equal(t, float32(0.5), math.Float32frombits(bits))
	_, err = r.Next(nil)
	require.True(t, errors.Is(err, io.EOF), "an event without scalars is not for TensorBoard")
}

// field is find of a field that must be there.
func field(t *testing.T, message []byte, want protowire.Number) []byte {
	found := find(message, want)
	require.NotNilf(t, found, "no field %d", want)
	return found
}

// find is the first field of a message with a number: the bytes of a string or message, the raw value of the rest; nil
// without.
func find(message []byte, want protowire.Number) []byte {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n <= 0 {
			return nil
		}
		message = message[n:]
		size := protowire.ConsumeFieldValue(number, kind, message)
		if size <= 0 {
			return nil
		}
		if number == want {
			if kind == protowire.BytesType {
				data, _ := protowire.ConsumeBytes(message)
				return data
			}
			return message[:size]
		}
		message = message[size:]
	}
	return nil
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"event":"controller","step":3,"seconds":1.5,"time":"2026-01-02T03:04:05Z","reward":0.5,"arch":"x"}`))
	f.Add([]byte(`{"event":"a","step":-1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e, back Event
		if json.Unmarshal(line, &e) != nil {
			return
		}
		text, err := json.Marshal(e)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, e, back)
	})
}
