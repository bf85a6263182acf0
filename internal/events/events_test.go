package events

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
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

func TestLogGoesOnAfterACrash(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
	require.NoError(t, err)
	for step := range 5 {
		require.NoError(t, l.Write(Event{Name: "controller", Step: step, Values: map[string]float64{"reward": 0.5}}))
	}
	require.NoError(t, l.Close())
	path := filepath.Join(dir, FileName)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, `{"event":"controller","st`...), 0o644))

	events, err := Read(dir)
	require.NoError(t, err, "a torn last line belongs to a run that goes on")
	require.Len(t, events, 5)

	l, err = Open(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, l.Seconds(), events[4].Seconds)
	require.NoError(t, l.Write(Event{Name: "controller", Step: 4, Values: map[string]float64{"reward": 0.75}}))
	require.NoError(t, l.Close())
	events, err = Read(dir)
	require.NoError(t, err)
	require.Len(t, events, 5, "the repeated step counts once")
	require.Equal(t, 0.75, events[4].Values["reward"])

	require.NoError(t, os.WriteFile(path, []byte("{}\nnonsense\n"), 0o644))
	_, err = Read(dir)
	require.ErrorContains(t, err, "log.jsonl: line 1")
}

func TestTensorBoardFile(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir)
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

// field is the first field of a message with a number: the bytes of a string or message, the raw value of the rest.
func field(t *testing.T, message []byte, want protowire.Number) []byte {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		require.Positive(t, n)
		message = message[n:]
		size := protowire.ConsumeFieldValue(number, kind, message)
		require.Positive(t, size)
		if number == want {
			if kind == protowire.BytesType {
				data, _ := protowire.ConsumeBytes(message)
				return data
			}
			return message[:size]
		}
		message = message[size:]
	}
	require.Failf(t, "no such field", "%d", want)
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
