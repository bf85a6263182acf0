package run

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/search/ledger"
)

// ErrNoCheckpoint says that a run folder holds none.
var ErrNoCheckpoint = checkpoint.ErrNone

// snapshot is what a run goes on from.
type snapshot struct {
	// What a resume must share with the run that wrote it.
	Version, Config, Level, Source string

	Round   int // the round in work
	Stage   int // which of its budgets is being spent
	Ledger  ledger.Position
	Pending []ledger.Order // labels that had been asked for behind it
	Log     int64          // bytes of log.jsonl
	Seconds map[string]float64
	State   []byte // of the method; nil: it begins again, and the ledger answers what was bought
}

// Restore takes over the state that the method saved, a pointer to what it gave to Save; false where it saved none, and
// begins.
func (r *Run) Restore(state any) (bool, error) {
	old := r.folder.old
	if old == nil || old.State == nil {
		return false, nil
	}
	if err := gob.NewDecoder(bytes.NewReader(old.State)).Decode(state); err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	return true, nil
}

// Save writes a checkpoint with the method's state, where there is a folder for it. A method that saves none is begun
// again when its run goes on.
func (r *Run) Save(state any) error {
	if r.Dir == "" {
		return nil
	}
	var text bytes.Buffer
	if err := gob.NewEncoder(&text).Encode(state); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return r.checkpoint(text.Bytes())
}

// checkpoint has written where the run stands, while it goes on.
func (r *Run) checkpoint(state []byte) error {
	if r.Dir == "" {
		return nil
	}
	at, err := r.Ledger.Position()
	if err != nil {
		return err
	}
	data, err := (&snapshot{
		Version: r.Program.Version, Config: r.folder.ident, Level: r.Dev.Level(), Source: r.folder.source,
		Round: r.Round, Stage: r.plan.stage, Ledger: at, Pending: r.Ledger.Orders(), Log: r.journal.log.Position(),
		Seconds: r.journal.seconds, State: state,
	}).encode()
	if err == nil {
		err = r.folder.writer.Write(func() ([]byte, error) { return data, nil })
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

const checkpointMagic = "ctnas search 2\n"

// encode writes a snapshot: a line that names the format and its version, the SHA-256 of the rest, and the gob of the
// fields. Most of it are weights, which hardly pack: deflating them took longer than the rest of a short round.
func (s *snapshot) encode() ([]byte, error) {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(s); err != nil {
		return nil, err
	}
	return checkpoint.Seal(checkpointMagic, body.Bytes()), nil
}

func decodeSnapshot(data []byte) (*snapshot, error) {
	body, err := checkpoint.Open(checkpointMagic, data)
	if err != nil {
		return nil, err
	}
	s := &snapshot{}
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(s); err != nil {
		return nil, fmt.Errorf("a damaged checkpoint: %w", err)
	}
	return s, nil
}

// readSnapshot reads the newest whole checkpoint of a run folder; ErrNoCheckpoint where there is none.
func readSnapshot(dir string) (s *snapshot, err error) {
	err = checkpoint.Read(dir, func(data []byte) error {
		s, err = decodeSnapshot(data)
		return err
	})
	return s, err
}
