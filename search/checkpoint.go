package search

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/ctnas/ctnas/gcn"
	"github.com/ctnas/ctnas/search/ledger"
)

// ErrNoCheckpoint says that a run folder holds none.
var ErrNoCheckpoint = errors.New("no checkpoint")

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

const (
	checkpointMagic = "ctnas search 1\n"
	checkpointDir   = "checkpoint"
	latestName      = "latest"
	previousName    = "previous"
)

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
	sum := sha256.Sum256(body.Bytes())
	out := append([]byte(checkpointMagic), sum[:]...)
	return append(out, body.Bytes()...), nil
}

// maxCheckpoint bounds what is unpacked of a checkpoint.
const maxCheckpoint = 1 << 30

func decodeSnapshot(data []byte) (*snapshot, error) {
	head := len(checkpointMagic) + sha256.Size
	if len(data) < head || string(data[:len(checkpointMagic)]) != checkpointMagic {
		return nil, errors.New("not a checkpoint of this version of the format")
	}
	if sha256.Sum256(data[head:]) != [sha256.Size]byte(data[len(checkpointMagic):head]) {
		return nil, errors.New("a damaged checkpoint: the checksum is wrong")
	}
	s := &snapshot{}
	unpacked := io.LimitReader(flate.NewReader(bytes.NewReader(data[head:])), maxCheckpoint)
	if err := gob.NewDecoder(unpacked).Decode(s); err != nil {
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
	dir = filepath.Join(dir, checkpointDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	latest := filepath.Join(dir, latestName)
	file, err := renameio.NewPendingFile(latest, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { _ = file.Cleanup() }()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(latest, filepath.Join(dir, previousName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.CloseAtomicallyReplace()
}

// readSnapshot reads the newest whole checkpoint of a run folder; ErrNoCheckpoint where there is none.
func readSnapshot(dir string) (*snapshot, error) {
	var damaged error
	for _, name := range []string{latestName, previousName} {
		path := filepath.Join(dir, checkpointDir, name)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		s, err := decodeSnapshot(data)
		if err == nil {
			return s, nil
		}
		damaged = errors.Join(damaged, fmt.Errorf("%s: %w", path, err))
	}
	if damaged != nil {
		return nil, damaged
	}
	return nil, fmt.Errorf("%s: %w", dir, ErrNoCheckpoint)
}
