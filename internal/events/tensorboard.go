package events

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ctnas/ctnas/internal/tfrecord"
)

// board is a TensorBoard event file: TFRecords of Event messages (tensorflow/core/util/event.proto: double wall_time =
// 1, int64 step = 2, string file_version = 3, Summary summary = 5, SessionLog session_log = 7 with the status START = 1
// as field 1; summary.proto: repeated Value value = 1 with string tag = 1, float simple_value = 2).
type board struct {
	file *os.File
	w    *tfrecord.Writer
}

// newBoard starts a file of its own: TensorBoard merges those of a folder.
func newBoard(dir string, now time.Time) (*board, error) {
	path := filepath.Join(dir, fmt.Sprintf("events.out.tfevents.%d.ctnas.%d", now.Unix(), now.Nanosecond()))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	b := &board{file, tfrecord.NewWriter(file)}
	version := protowire.AppendTag(appendWallTime(nil, now), 3, protowire.BytesType)
	if err := b.w.Write(protowire.AppendString(version, "brain.Event:2")); err != nil {
		file.Close()
		return nil, err
	}
	return b, nil
}

func appendWallTime(buf []byte, now time.Time) []byte {
	seconds := float64(now.UnixNano()) / 1e9
	return protowire.AppendFixed64(protowire.AppendTag(buf, 1, protowire.Fixed64Type), math.Float64bits(seconds))
}

// write adds the event's scalars under the tags name/key.
func (b *board) write(e Event, now time.Time) error {
	var summary []byte
	for _, key := range slices.Sorted(maps.Keys(e.Values)) {
		value := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), e.Name+"/"+key)
		value = protowire.AppendFixed32(protowire.AppendTag(value, 2, protowire.Fixed32Type),
			math.Float32bits(float32(e.Values[key])))
		summary = protowire.AppendBytes(protowire.AppendTag(summary, 1, protowire.BytesType), value)
	}
	if summary == nil {
		return nil
	}
	event := appendWallTime(nil, now)
	event = protowire.AppendVarint(protowire.AppendTag(event, 2, protowire.VarintType), uint64(e.Step))
	return b.w.Write(protowire.AppendBytes(protowire.AppendTag(event, 5, protowire.BytesType), summary))
}

// restart makes TensorBoard forget what it has read of the folder (a SessionLog START of step 0 purges all steps from 0
// on), and writes the events that are kept at the times at which they happened.
func (b *board) restart(kept []Event, now time.Time) error {
	session := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	event := protowire.AppendVarint(protowire.AppendTag(appendWallTime(nil, now), 2, protowire.VarintType), 0)
	if err := b.w.Write(protowire.AppendBytes(protowire.AppendTag(event, 7, protowire.BytesType),
		session)); err != nil {
		return err
	}
	for _, e := range kept {
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			at = now
		}
		if err := b.write(e, at); err != nil {
			return err
		}
	}
	return nil
}

func (b *board) close() error { return b.file.Close() }
