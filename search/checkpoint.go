package search

import (
	"bytes"
	"compress/flate"
	"encoding/gob"
	"fmt"
	"io"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/search/ledger"
)

// ErrNoCheckpoint says that a run folder holds none.
var ErrNoCheckpoint = checkpoint.ErrNone

// snapshot is everything that the rest of a search depends on. Architectures are written as their text.
type snapshot struct {
	// What a resume must share with the run that wrote it.
	Version, Config, Level, Source string

	Round     int  // the round in work
	Trained   bool // its comparator has been trained
	Iteration int  // updates of the controller in this round
	Explored  int  // explorations so far
	Updates   int  // the comparator's updates so far, for the log
	Ledger    ledger.Position
	Log       int64 // bytes of log.jsonl

	Comparator []byte     // of this round, or of the last one while Trained is false
	Asked      [][]string // architectures that the comparator scored, in the groups in which it did
	Controller []byte
	Baseline   string
	History    []string
	Pseudo     []pseudoText
	Curve      []curvePoint
	First      []string // the controller's first samples
	Last       []string // its last ones, oldest first
	Seconds    map[string]float64

	Released gcn.ReleasedState // the released schedule only
	Epochs   int
}

type pseudoText struct {
	A, B   string
	Target float32
	Round  int
}

// curvePoint is a line of the log about the controller, kept to be judged after the end.
type curvePoint struct {
	Step                      int
	Reward, Entropy, GradNorm float64
	Loss                      float64
	Samples                   []string
}

const checkpointMagic = "ctnas search 1\n"

// encode writes a snapshot: a line that names the format and its version, the SHA-256 of the rest, and the deflated gob of the fields.
func (s *snapshot) encode() ([]byte, error) {
	var body bytes.Buffer
	packed, err := flate.NewWriter(&body, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := gob.NewEncoder(packed).Encode(s); err != nil {
		return nil, err
	}
	if err := packed.Close(); err != nil {
		return nil, err
	}
	return checkpoint.Seal(checkpointMagic, body.Bytes()), nil
}

// maxCheckpoint bounds what is unpacked of a checkpoint. A small one must not unpack to much: texts of architectures are packed to a
// tenth, and numbers hardly at all.
const (
	maxCheckpoint  = 1 << 30
	unpackedLeast  = 32 << 20
	unpackedFactor = 64
)

func decodeSnapshot(data []byte) (*snapshot, error) {
	body, err := checkpoint.Open(checkpointMagic, data)
	if err != nil {
		return nil, err
	}
	s := &snapshot{}
	most := min(maxCheckpoint, unpackedLeast+unpackedFactor*int64(len(body)))
	unpacked := &io.LimitedReader{R: flate.NewReader(bytes.NewReader(body)), N: most}
	if err := gob.NewDecoder(unpacked).Decode(s); err != nil {
		if unpacked.N <= 0 {
			err = fmt.Errorf("%d bytes unpack to more than %d", len(body), most)
		}
		return nil, fmt.Errorf("a damaged checkpoint: %w", err)
	}
	return s, nil
}

// writeSnapshot puts a checkpoint into a run folder; the one before stays as the previous one. At every moment one of the two is whole.
func writeSnapshot(dir string, s *snapshot) error {
	data, err := s.encode()
	if err != nil {
		return err
	}
	return checkpoint.Write(dir, data)
}

// readSnapshot reads the newest whole checkpoint of a run folder; ErrNoCheckpoint where there is none.
func readSnapshot(dir string) (s *snapshot, err error) {
	err = checkpoint.Read(dir, func(data []byte) error {
		s, err = decodeSnapshot(data)
		return err
	})
	return s, err
}
