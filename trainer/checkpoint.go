package trainer

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/checkpoint"
)

// ErrNoCheckpoint says that a run folder holds none.
var ErrNoCheckpoint = checkpoint.ErrNone

// snapshot is everything that the rest of a training depends on.
type snapshot struct {
	Ident    identity // what a resume must share with the run that wrote it
	Progress progress
	Log      int64 // bytes of log.jsonl
	Updates  int32 // as the optimizer counts them
	Count    int   // of the buffers

	// State, moments, the average of weights where there is one, and what else the learner keeps. In the file each is a
	// gob of its own, for one may have at most 1 GiB: float32, little-endian.
	buffers [][]float32
}

// A checkpoint is a line that names the format and its version, the SHA-256 of the rest, and the gobs of a snapshot and
// of its buffers.
const checkpointMagic = "ctnas training 2\n"

// between is the time after which a checkpoint is written within a long epoch, and share the part of a run's time that
// checkpoints may take, unless the user says when they are written.
const (
	between = 10 * time.Minute
	share   = 0.01
)

// due tells whether it is time for a checkpoint, at the end of an epoch or not.
func (c *course) due(epochEnds bool) bool {
	if c.CheckpointEvery > 0 {
		return c.state.Update%c.CheckpointEvery == 0
	}
	passed := time.Since(c.saved.at)
	return (epochEnds || passed >= between) &&
		passed.Seconds()*share >= (c.saved.took+c.writer.Took()).Seconds()
}

// saved is when the latest checkpoint was taken, and how long the training stood still for it.
type saved struct {
	at   time.Time
	took time.Duration
}

// checkpoint copies the state and has it written into the run's folder in the background; the checkpoint before stays
// as the previous one. At every moment one of the two is whole.
// Ranks that have different weights have none to go on from.
func (c *course) checkpoint() error {
	begin := time.Now()
	if err := c.agree(); err != nil || c.Dir == "" {
		return err
	}
	if err := c.writer.Wait(); err != nil {
		return err
	}
	rest, err := c.snapshot()
	if err != nil {
		return err
	}
	err = c.writer.Write(rest)
	c.saved = saved{time.Now(), time.Since(begin)}
	return err
}

// snapshot takes the state as it is now; rest makes a checkpoint of it, whatever becomes of the state meanwhile, and
// must have ended before the next snapshot is taken.
func (c *course) snapshot() (rest func() ([]byte, error), err error) {
	c.state.Corrupt = c.tally.All()
	s := snapshot{Ident: c.ident, Progress: c.state, Log: c.log.Position(), buffers: c.copied}
	updates := make([]int32, 1)
	c.o.updates.ReadI32(0, updates)
	s.Updates = updates[0]
	for i, b := range c.ranks[0].buffers() {
		if i == len(s.buffers) {
			s.buffers = append(s.buffers, make([]float32, b.Len()))
		}
		b.ReadF32(0, s.buffers[i])
	}
	c.copied = s.buffers
	return s.encode()
}

// lastCheckpoint is checkpoint, and waits until it stands on the disk.
func (c *course) lastCheckpoint() error {
	if err := c.checkpoint(); err != nil || c.Dir == "" {
		return err
	}
	return c.writer.Wait()
}

// encode makes a checkpoint of the snapshot: all but its buffers at once, these and the whole in rest.
func (s snapshot) encode() (rest func() ([]byte, error), err error) {
	var out bytes.Buffer
	e := gob.NewEncoder(&out)
	s.Count = len(s.buffers)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return func() ([]byte, error) {
		for _, values := range s.buffers {
			if err := e.Encode(littleEndian(values)); err != nil {
				return nil, err
			}
		}
		return checkpoint.Seal(checkpointMagic, out.Bytes()), nil
	}, nil
}

// littleEndian are numbers as a checkpoint has them.
func littleEndian(values []float32) []byte {
	text := make([]byte, 0, 4*len(values))
	for _, v := range values {
		text = binary.LittleEndian.AppendUint32(text, math.Float32bits(v))
	}
	return text
}

// maxBuffers bounds what is read of a checkpoint: an optimizer has two moments at most, a mixture three buffers.
const maxBuffers = 8

func decodeSnapshot(text []byte) (*snapshot, error) {
	body, err := checkpoint.Open(checkpointMagic, text)
	if err != nil {
		return nil, err
	}
	s := &snapshot{}
	d := gob.NewDecoder(bytes.NewReader(body))
	err = d.Decode(s)
	if err == nil && (s.Count < 0 || s.Count > maxBuffers) {
		err = fmt.Errorf("%d buffers", s.Count)
	}
	for k := 0; err == nil && k < s.Count; k++ {
		var b []byte
		if err = d.Decode(&b); err == nil && len(b)%4 != 0 {
			err = fmt.Errorf("a buffer of %d bytes", len(b))
		}
		values := make([]float32, len(b)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		s.buffers = append(s.buffers, values)
	}
	if err != nil {
		return nil, fmt.Errorf("a damaged checkpoint: %w", err)
	}
	return s, nil
}

// readSnapshot reads the newest whole checkpoint of a run folder; ErrNoCheckpoint where there is none.
func readSnapshot(dir string) (s *snapshot, err error) {
	err = checkpoint.Read(dir, func(text []byte) error {
		s, err = decodeSnapshot(text)
		return err
	})
	return s, err
}

// resume goes back to the run folder's checkpoint. Without one, or a folder, start makes the beginning.
func (c *course) resume(start func() error) error {
	if err := c.restore(start); err != nil {
		return err
	}
	return c.spread()
}

// restore is resume for the first rank.
func (c *course) restore(start func() error) error {
	if err := c.greet(); err != nil {
		return err
	}
	s, err := c.latest()
	if err != nil {
		return err
	} else if s == nil {
		return start()
	}
	if other := s.Ident.differences(c.ident, "then", "now"); other != nil {
		return fmt.Errorf("%s cannot be resumed, it holds the checkpoint of another training. Different are: %s", c.Dir,
			strings.Join(other, "; "))
	}
	all := c.ranks[0].buffers()
	if len(s.buffers) != len(all) {
		return fmt.Errorf("%s: a checkpoint of %d buffers, want %d", c.Dir, len(s.buffers), len(all))
	}
	for i, b := range all {
		if len(s.buffers[i]) != b.Len() {
			return fmt.Errorf("%s: a checkpoint with %d numbers, want %d", c.Dir, len(s.buffers[i]), b.Len())
		}
		b.WriteF32(0, s.buffers[i])
	}
	c.o.updates.WriteI32(0, []int32{s.Updates})
	c.state, c.logged = s.Progress, s.Log
	if err := c.tally.Add(c.state.Corrupt); err != nil {
		return fmt.Errorf("%s: %w", c.Dir, err)
	}
	if n := len(c.state.Validation); c.state.Stopped && n > 0 {
		c.state.Stopped = c.stops(c.state.Validation[n-1])
	}
	return nil
}
