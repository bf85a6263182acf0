package latency

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/stat"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/ctnas/ctnas/search/command"
	"github.com/ctnas/ctnas/search/space"
)

// Samples are the milliseconds that files of a Manifest took, by their names: one a run.
type Samples map[string][]float64

// Columns of a file of times.
const (
	columnFile = "file"
	columnSHA  = "sha256"
)

// ReadTimes reads a CSV file of times: the columns file, a name of the manifest, and ms; a file that was timed several
// times has several rows. Where there is a column sha256, it is compared with the manifest's.
func ReadTimes(path string, m *Manifest) (Samples, error) {
	text, err := files.ReadText(path, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("times: %w", err)
	}
	s, err := parseTimes(text, m)
	if err != nil {
		return nil, fmt.Errorf("times %s: %w", path, err)
	}
	return s, nil
}

func parseTimes(text []byte, m *Manifest) (Samples, error) {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comment, r.TrimLeadingSpace = '#', true
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("there is no line of column names")
	} else if err != nil {
		return nil, err
	}
	line, _ := r.FieldPos(0)
	file, ms, sum := slices.Index(head, columnFile), slices.Index(head, columnMS), slices.Index(head, columnSHA)
	if file < 0 || ms < 0 {
		return nil, fmt.Errorf("line %d: want at least the columns %s and %s", line, columnFile, columnMS)
	}
	known := map[string]File{}
	for _, f := range m.Files {
		known[f.File] = f
	}
	s := Samples{}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return s, nil
		} else if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		f, there := known[row[file]]
		if !there {
			return nil, fmt.Errorf("line %d: %.100q is no file of %s", line, row[file], ManifestName)
		}
		if sum >= 0 && row[sum] != f.SHA256 {
			return nil, fmt.Errorf("line %d: %s was timed with other contents than those of %s: %.12s, not %.12s", line,
				f.File, ManifestName, row[sum], f.SHA256)
		}
		v, err := milliseconds(columnMS, row[ms])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		s[f.File] = append(s[f.File], v)
	}
}

// Words in braces of the command that times a file.
const (
	HeldONNX  = "onnx"  // the file
	HeldBatch = "batch" // images a run
)

// TimeFiles has a command time the files of a folder, each once a round, in another order every round. The last line
// that it prints is the milliseconds of one run, as a number or as JSON, {"ms": 1.25}.
func TimeFiles(ctx context.Context, dir string, m *Manifest, tool command.Tool, o Options) (Samples, error) {
	abs, err := files.Absolute(dir)
	if err != nil {
		return nil, err
	}
	draw := philox.New(o.Seed, philox.PurposeSample, 1)
	s := Samples{}
	for round := range o.Rounds {
		for done, i := range draw.Perm(len(m.Files)) {
			f := m.Files[i]
			line, err := tool.Run(ctx, map[string]string{HeldONNX: filepath.Join(abs, filepath.FromSlash(f.File)),
				HeldBatch: strconv.Itoa(m.Batch)})
			if err != nil {
				return nil, err
			}
			v, err := said(line)
			if err != nil {
				return nil, fmt.Errorf("`%s`, for %s: the last line that it printed: %w", tool.Command, f.File, err)
			}
			s[f.File] = append(s[f.File], v)
			if o.Progress != nil {
				o.Progress(round*len(m.Files)+done+1, o.Rounds*len(m.Files))
			}
		}
	}
	return s, nil
}

// said reads the milliseconds of a line.
func said(line []byte) (float64, error) {
	text := string(line)
	if strings.HasPrefix(text, "{") {
		var all struct {
			MS *json.Number `json:"ms"`
		}
		if err := json.Unmarshal(line, &all); err != nil {
			return 0, fmt.Errorf("%.100q is no JSON: %w", text, err)
		}
		if all.MS == nil {
			return 0, fmt.Errorf("%.100q has no %s", text, columnMS)
		}
		text = all.MS.String()
	}
	return milliseconds(columnMS, text)
}

// Compose makes a table of what the files of a manifest took. What says what the times are of. As in Measure, what
// pieces take longer than the whole is divided among them and taken off.
func Compose(sp space.Composed, m *Manifest, s Samples, what, program string, now time.Time) (t *Table, check Check,
	err error) {
	if m.Space != sp.Name() {
		return nil, check, fmt.Errorf("the files are of %s, not of %s", m.Space, sp.Name())
	}
	at := map[string]int{}
	for i, name := range sp.Parts() {
		at[name] = i
	}
	parts := make([][]float64, len(at))
	var archs []space.Arch
	var wholes [][]float64
	var missing []string
	for _, f := range m.Files {
		times := s[f.File]
		switch i, known := at[f.Name]; {
		case f.Kind == kindNetwork && len(times) > 0:
			a, err := sp.Parse(f.Name)
			if err != nil {
				return nil, check, fmt.Errorf("%s: %w", f.File, err)
			}
			archs, wholes = append(archs, a), append(wholes, times)
		case f.Kind == kindNetwork: // then its sum is not judged
		case !known:
			return nil, check, fmt.Errorf("%s: %s has no part %q", f.File, sp.Name(), f.Name)
		case len(times) == 0:
			missing = append(missing, f.File)
		default:
			parts[i] = times
		}
	}
	if len(missing) > 0 {
		return nil, check, fmt.Errorf("no times of %d of the %d parts: %s", len(missing), len(at), few(missing, 5))
	}
	overhead, err := excess(sp, parts, archs, wholes)
	if err != nil {
		return nil, check, err
	}
	if t, check, err = tabulate(sp, parts, overhead, archs, wholes); err != nil {
		return nil, check, err
	}
	fact := func(key, format string, args ...any) {
		t.Facts = append(t.Facts, Fact{key, fmt.Sprintf(format, args...)})
	}
	fact(factSpace, "%s", sp.Name())
	fact(factDevice, "%s", cmp.Or(what, "unknown"))
	fact(factBatch, "%d", m.Batch)
	fact(factProgram, "%s", program)
	fact(factDate, "%s", now.UTC().Format(time.RFC3339))
	fact(factEffort, "by another program, blocks by themselves")
	t.judged(check)
	return t, check, nil
}

// excess is by how many milliseconds a part takes longer by itself than in the whole, the median over networks; 0 where
// it takes less, or no network was timed.
func excess(sp space.Composed, parts [][]float64, archs []space.Arch, wholes [][]float64) (float64, error) {
	var over []float64
	for i, a := range archs {
		sum, n := 0.0, 0
		missing := false
		if !sp.EachPart(a, func(p int) {
			missing = missing || len(parts[p]) == 0
			sum += stat.Median(parts[p])
			n++
		}) || missing {
			return 0, fmt.Errorf("%s has parts that were not timed", a)
		}
		over = append(over, (sum-stat.Median(wholes[i]))/float64(n))
	}
	if len(over) == 0 {
		return 0, nil
	}
	return max(0, stat.Median(over)), nil
}
