package trainer

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/kernels/exec"
)

// ErrNoCheckpoint says that a run folder holds none.
var ErrNoCheckpoint = checkpoint.ErrNone

// snapshot is everything that the rest of a training depends on.
type snapshot struct {
	Ident    identity // what a resume must share with the run that wrote it
	Progress progress
	Log      int64 // bytes of log.jsonl
	Updates  int32 // as the optimizer counts them
	Count    int   // of Buffers
	// State, moments, the average of weights where there is one, and what else the learner keeps: float32,
	// little-endian. Each is a gob of its own, for one may have at most 1 GiB.
	Buffers [][]byte
}

// A checkpoint is a line that names the format and its version, the SHA-256 of the rest, and the gobs of a snapshot and
// of its buffers.
const checkpointMagic = "ctnas training 2\n"

func (c *course) buffers() []*exec.Buffer {
	all := append([]*exec.Buffer{c.o.m.State}, c.o.moments...)
	if c.o.mean != nil {
		all = append(all, c.o.mean)
	}
	return append(all, c.kept...)
}

// checkpoint writes the state into the run's folder; the checkpoint before stays as the previous one. At every moment
// one of the two is whole.
func (c *course) checkpoint() error {
	if c.Dir == "" {
		return nil
	}
	c.state.Corrupt = c.tally.All()
	s := snapshot{Ident: c.ident, Progress: c.state, Log: c.log.Position()}
	updates := make([]int32, 1)
	c.o.updates.ReadI32(0, updates)
	s.Updates = updates[0]
	for _, b := range c.buffers() {
		values := b.Values()
		text := make([]byte, 4*len(values))
		for i, v := range values {
			binary.LittleEndian.PutUint32(text[4*i:], math.Float32bits(v))
		}
		s.Buffers = append(s.Buffers, text)
	}
	text, err := s.encode()
	if err != nil {
		return err
	}
	return checkpoint.Write(c.Dir, text)
}

func (s snapshot) encode() ([]byte, error) {
	var out bytes.Buffer
	e := gob.NewEncoder(&out)
	buffers := s.Buffers
	s.Buffers, s.Count = nil, len(buffers)
	err := e.Encode(s)
	for _, b := range buffers {
		err = errors.Join(err, e.Encode(b))
	}
	return checkpoint.Seal(checkpointMagic, out.Bytes()), err
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
		err = d.Decode(&b)
		s.Buffers = append(s.Buffers, b)
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
	if c.Dir == "" {
		return start()
	}
	s, err := readSnapshot(c.Dir)
	if errors.Is(err, ErrNoCheckpoint) {
		return start()
	} else if err != nil {
		return err
	}
	if other := s.Ident.differences(c.ident); other != nil {
		return fmt.Errorf("%s cannot be resumed, it holds the checkpoint of another training. Different are: %s", c.Dir,
			strings.Join(other, "; "))
	}
	all := c.buffers()
	if len(s.Buffers) != len(all) {
		return fmt.Errorf("%s: a checkpoint of %d buffers, want %d", c.Dir, len(s.Buffers), len(all))
	}
	for i, b := range all {
		values := make([]float32, len(s.Buffers[i])/4)
		if len(values) != b.Len() {
			return fmt.Errorf("%s: a checkpoint with %d numbers, want %d", c.Dir, len(values), b.Len())
		}
		for k := range values {
			values[k] = math.Float32frombits(binary.LittleEndian.Uint32(s.Buffers[i][4*k:]))
		}
		b.WriteF32(0, values)
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
