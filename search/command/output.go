package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"

	"github.com/ctnas/ctnas/internal/visible"
)

// What a line of a command's output may have.
const (
	keyAccuracy = "accuracy"      // on validation images, 0..1
	keyTest     = "test_accuracy" // the same on test images, which a search does not see before its end
	keySeconds  = "seconds"       // that the training took
	keyDiverged = "diverged"      // true: it fell apart, and there is no accuracy
	keyEpoch    = "epoch"         // that has been done: the line is no result
	keyLoss     = "loss"          // after it
)

const (
	mostLine    = 1 << 20 // bytes of a line
	mostMetrics = 64      // further numbers
	mostEpochs  = 20000   // that a training tells of: its record stays within what the cache and a farm take
	mostQuoted  = 120     // characters of a line that an error quotes
)

// metricName is that of a further number.
var metricName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// result is what a command says at its end.
type result struct {
	accuracy float64
	test     *float64
	seconds  *float64
	diverged bool
	metrics  map[string]float64 // other numbers; nil without any
}

// epochLine is what it says after an epoch.
type epochLine struct {
	epoch    int
	accuracy float64
	loss     *float64
}

// output is what a command has written on stdout so far.
type output struct {
	lines int    // of them
	last  []byte // that is not empty
	at    int    // its number
}

// read reads a command's stdout to its end, copies it to a log, and tells of each epoch. An error of the output is
// returned; what follows it goes to the log.
func (o *output) read(in io.Reader, log io.Writer, tell func(epochLine)) (err error) {
	r := bufio.NewReaderSize(in, 1<<16)
	var line []byte
	for {
		part, more := r.ReadSlice('\n')
		_, _ = log.Write(part) // a full disk shows elsewhere
		if err == nil {
			line = append(line, part...)
			if len(bytes.TrimRight(line, "\r\n")) > mostLine {
				err = fmt.Errorf("line %d of its output is longer than %d bytes: %s", o.lines+1, mostLine, quote(line))
			}
		}
		if errors.Is(more, bufio.ErrBufferFull) {
			continue
		}
		if err == nil && len(line) > 0 {
			err = o.take(line, tell)
		}
		line = line[:0]
		if more != nil { // the end, or what is as good: nobody writes any more
			return err
		}
	}
}

func (o *output) take(line []byte, tell func(epochLine)) error {
	o.lines++
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil
	}
	o.last, o.at = append(o.last[:0], line...), o.lines
	if line[0] != '{' || !bytes.Contains(line, []byte(`"`+keyEpoch+`"`)) {
		return nil
	}
	all, err := fields(line)
	if _, tells := all[keyEpoch]; err == nil && !tells {
		return nil // it has the word elsewhere
	}
	var e epochLine
	if err == nil {
		e, err = parseEpoch(all)
	}
	if err != nil {
		return o.wrong(err)
	}
	tell(e)
	return nil
}

// wrong is an error about the last line.
func (o *output) wrong(err error) error {
	return fmt.Errorf("line %d of its output: %w: %s", o.at, err, quote(o.last))
}

// result is what the last line says.
func (o *output) result() (r result, err error) {
	if o.last == nil {
		return r, errors.New("it wrote nothing on stdout: its last line there is to be JSON, such as " +
			`{"accuracy": 0.91}`)
	}
	if r, err = parseResult(o.last); err != nil {
		return r, o.wrong(err)
	}
	return r, nil
}

func quote(line []byte) string {
	text := []rune(strings.ToValidUTF8(visible.String(string(line[:min(len(line), 4*mostQuoted)])), "?"))
	if len(text) > mostQuoted {
		return string(text[:mostQuoted]) + "…"
	}
	return string(text)
}

// fields reads a line's object.
func fields(line []byte) (map[string]json.RawMessage, error) {
	if line[0] != '{' {
		return nil, errors.New(`it is no JSON object such as {"accuracy": 0.91}`)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(line, &all); err != nil {
		if bytes.Contains(line, []byte("NaN")) || bytes.Contains(line, []byte("Infinity")) {
			return nil, errors.New(`NaN and Infinity are no numbers of JSON: what fell apart says {"diverged": true}`)
		}
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	return all, nil
}

// number reads a finite number of an object; nil where it is not there.
func number(all map[string]json.RawMessage, key string) (*float64, error) {
	raw, there := all[key]
	if !there {
		return nil, nil
	}
	var v *float64
	if err := json.Unmarshal(raw, &v); err != nil || v == nil || math.IsInf(*v, 0) {
		return nil, fmt.Errorf("%s is %s, want a number", key, quote(raw))
	}
	return v, nil
}

// share reads a number from 0 to 1.
func share(all map[string]json.RawMessage, key string) (*float64, error) {
	v, err := number(all, key)
	switch {
	case err != nil || v == nil:
		return nil, err
	case *v > 1 && *v <= 100:
		return nil, fmt.Errorf("%s is %g, want 0 to 1, not per cents", key, *v)
	case *v < 0 || *v > 1:
		return nil, fmt.Errorf("%s is %g, want 0 to 1", key, *v)
	}
	return v, nil
}

func parseEpoch(all map[string]json.RawMessage) (e epochLine, err error) {
	n, err := number(all, keyEpoch)
	if err != nil {
		return e, err
	}
	if n == nil || *n != math.Trunc(*n) || *n < 1 || *n > mostEpochs {
		return e, fmt.Errorf("%s is %s, want 1, 2, …, at most %d", keyEpoch, quote(all[keyEpoch]), mostEpochs)
	}
	v, err := share(all, keyAccuracy)
	if err == nil && v == nil {
		err = fmt.Errorf("an epoch without %s", keyAccuracy)
	}
	if err != nil {
		return e, err
	}
	e.epoch, e.accuracy = int(*n), *v
	e.loss, err = number(all, keyLoss)
	return e, err
}

func parseResult(line []byte) (r result, err error) {
	all, err := fields(line)
	if err != nil {
		return r, err
	}
	if _, epoch := all[keyEpoch]; epoch {
		return r, fmt.Errorf("it tells of an epoch; the last line is to say what the training came to, without %q",
			keyEpoch)
	}
	if raw, said := all[keyDiverged]; said {
		if err := json.Unmarshal(raw, &r.diverged); err != nil {
			return r, fmt.Errorf("%s is %s, want true or false", keyDiverged, quote(raw))
		}
	}
	v, err := share(all, keyAccuracy)
	switch {
	case err != nil:
		return r, err
	case v == nil && !r.diverged:
		return r, fmt.Errorf("it has no %s", keyAccuracy)
	case v != nil:
		r.accuracy = *v
	}
	if r.test, err = share(all, keyTest); err != nil {
		return r, err
	}
	if r.seconds, err = number(all, keySeconds); err != nil {
		return r, err
	}
	if r.seconds != nil && *r.seconds < 0 {
		return r, fmt.Errorf("%s is %g, want 0 or more", keySeconds, *r.seconds)
	}
	for key, raw := range all {
		switch key {
		case keyAccuracy, keyTest, keySeconds, keyDiverged:
			continue
		}
		if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') { // words for people
			continue
		}
		if !metricName.MatchString(key) {
			return r, fmt.Errorf("a number called %q: want letters, digits, _, . and -, at most 64", key)
		}
		v, err := number(all, key)
		if err != nil {
			return r, err
		}
		if r.metrics == nil {
			r.metrics = map[string]float64{}
		}
		r.metrics[key] = *v
	}
	if len(r.metrics) > mostMetrics {
		return r, fmt.Errorf("%d numbers beside the accuracy, want at most %d", len(r.metrics), mostMetrics)
	}
	return r, nil
}
