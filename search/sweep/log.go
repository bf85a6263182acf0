package sweep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ctnas/ctnas/trainer"
	"github.com/ctnas/ctnas/trainer/data"
)

// Facts are what the measurements of a sweep depend on, beside architecture, epochs and seed: the first line of its log.
type Facts struct {
	Version  string         `json:"version"` // of the program
	Level    string         `json:"level"`   // instruction set
	Decoder  string         `json:"decoder"` // of JPEG files
	Data     string         `json:"data"`
	Checksum string         `json:"data_checksum"`
	Train    int            `json:"train_images"`
	Recipe   trainer.Recipe `json:"recipe"`
}

func (p Plan) facts(version, level string) Facts {
	r := p.Recipe
	r.Epochs = 0 // the plan says them
	return Facts{version, level, data.Decoder, p.Source, p.Data.Checksum, p.Data.Train.Len(), r}
}

// maxLogBytes bounds what is read of a log; a line has some 200 bytes.
const maxLogBytes = 1 << 28

// file is a sweep's log: facts, then a line for each finished training in the order in which they ended.
type file struct{ f *os.File }

// openLog reads the trainings of a log into done and opens it for more. A last line that was cut off by a kill is cut away.
func openLog(path string, facts Facts, done map[key]Training) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := readLog(f, facts, done); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return &file{f}, nil
}

func readLog(f *os.File, facts Facts, done map[key]Training) error {
	head, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxLogBytes+1))
	if err != nil {
		return err
	}
	if len(text) > maxLogBytes {
		return fmt.Errorf("longer than %d bytes: no log of a sweep", maxLogBytes)
	}
	whole := text[:bytes.LastIndexByte(text, '\n')+1]
	if len(whole) == 0 { // new, or stopped before its first line was out
		if len(text) > 0 && !bytes.HasPrefix(head, text) {
			return errors.New("not the log of a sweep")
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		_, err := f.WriteAt(append(head, '\n'), 0)
		return errors.Join(err, toEnd(f))
	}
	first, rest, _ := bytes.Cut(whole, []byte("\n"))
	if !bytes.Equal(first, head) {
		return fmt.Errorf("begun with other settings, data, version or instruction set: it has %.600s, now it would be %.600s", first, head)
	}
	for n := 2; len(rest) > 0; n++ {
		var t Training
		record, after, _ := bytes.Cut(rest, []byte("\n"))
		if err := json.Unmarshal(record, &t); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		done[t.key()] = t
		rest = after
	}
	return errors.Join(f.Truncate(int64(len(whole))), toEnd(f))
}

func toEnd(f *os.File) error {
	_, err := f.Seek(0, io.SeekEnd)
	return err
}

func (l *file) append(t Training) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("log of trainings: %w", err)
	}
	return nil
}

func (l *file) close() error { return l.f.Close() }
