package latency

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
)

// MaxBytes bounds a table of latencies: it keeps a wrong or hostile file from taking the machine down.
const MaxBytes = 16 << 20

// The first and the last line of a signed table. What stands between them, the first included, is what the sum is of.
const (
	signed   = "# ctnas latency table 1"
	checksum = "# sha256: "
)

// Columns of a table; a hand-written one needs the first two.
const (
	columnPart    = "part"
	columnMS      = "ms"
	columnFirst   = "q1_ms"
	columnThird   = "q3_ms"
	columnSamples = "samples"
)

// Part is how long a part takes, in milliseconds.
type Part struct {
	Name         string
	MS           float64 // median over the rounds
	First, Third float64 // quartiles; of a table that does not say them MS
	Samples      int     // 0: not said
}

// Measured tells whether the quartiles say something: one sample has none, and a table that was written by hand may
// leave them out.
func (p Part) Measured() bool { return p.Samples > 1 || p.Samples == 0 && p.First != p.Third }

// Fact is a line of a table's head.
type Fact struct{ Key, Value string }

// Table is a table of latencies.
type Table struct {
	Path   string
	Signed bool
	Facts  []Fact // of a signed table: device, driver and so on
	Parts  []Part
	text   []byte
}

// Read reads a table. A signed one is refused where anything in it was changed.
func Read(path string) (*Table, error) {
	text, err := files.ReadText(path, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("latency table: %w", err)
	}
	return Parse(path, text)
}

// Parse reads the text of a table; path only names it in errors.
func Parse(path string, text []byte) (*Table, error) {
	t := &Table{Path: path, text: text}
	if err := t.parse(); err != nil {
		return nil, fmt.Errorf("latency table %s: %w", path, err)
	}
	return t, nil
}

func (t *Table) parse() error {
	if len(t.text) > MaxBytes {
		return fmt.Errorf("larger than %d bytes", MaxBytes)
	}
	if err := t.verify(); err != nil {
		return err
	}
	r := csv.NewReader(bytes.NewReader(t.text))
	r.Comment, r.ReuseRecord, r.TrimLeadingSpace = '#', true, true
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("there is no line of column names")
	} else if err != nil {
		return err
	}
	line, _ := r.FieldPos(0)
	column := map[string]int{}
	for i, name := range head {
		if _, twice := column[name]; twice {
			return fmt.Errorf("line %d: column %.40q comes twice", line, name)
		}
		column[name] = i
	}
	for _, name := range []string{columnPart, columnMS} {
		if _, ok := column[name]; !ok {
			return fmt.Errorf("line %d: no column %s: want at least %s and %s", line, name, columnPart, columnMS)
		}
	}
	lines := map[string]int{} // of the parts
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		line, _ := r.FieldPos(0)
		p, err := readPart(row, column)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if before := lines[p.Name]; before > 0 {
			return fmt.Errorf("line %d: part %.100q stands in line %d already", line, p.Name, before)
		}
		lines[p.Name] = line
		t.Parts = append(t.Parts, p)
	}
	if len(t.Parts) == 0 {
		return errors.New("there are no parts")
	}
	return nil
}

func readPart(row []string, column map[string]int) (Part, error) {
	p := Part{Name: strings.Clone(row[column[columnPart]])}
	if p.Name == "" {
		return p, errors.New("a part without a name")
	}
	var err error
	if p.MS, err = milliseconds(columnMS, row[column[columnMS]]); err != nil {
		return p, err
	}
	p.First, p.Third = p.MS, p.MS
	for name, to := range map[string]*float64{columnFirst: &p.First, columnThird: &p.Third} {
		if i, ok := column[name]; ok {
			if *to, err = milliseconds(name, row[i]); err != nil {
				return p, err
			}
		}
	}
	if i, ok := column[columnSamples]; ok {
		if p.Samples, err = strconv.Atoi(row[i]); err != nil || p.Samples < 0 {
			return p, fmt.Errorf("%s %.40q: want a number", columnSamples, row[i])
		}
	}
	return p, nil
}

// milliseconds reads a time: digits with a point, perhaps an exponent.
func milliseconds(column, text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.eE+-") != "" || !(v >= 0 && v <= space.MaxMilliseconds) {
		return 0, fmt.Errorf("%s %.40q: want milliseconds, 0 to %g", column, text, space.MaxMilliseconds)
	}
	return v, nil
}

// verify reads the head of a signed table and checks that nothing was changed since.
func (t *Table) verify() error {
	first, rest, _ := strings.Cut(string(t.text), "\n")
	if strings.TrimRight(first, "\r") != signed {
		if strings.Contains(first, "ctnas latency table") {
			return fmt.Errorf("line 1: %.60q: this program reads %q", first, signed)
		}
		return nil
	}
	t.Signed = true
	body, last := t.text, 1
	if i := bytes.LastIndexByte(bytes.TrimRight(t.text, "\n"), '\n'); i >= 0 {
		body, last = t.text[:i+1], bytes.Count(t.text[:i+1], []byte("\n"))+1
	}
	sum, found := strings.CutPrefix(strings.TrimRight(string(t.text[len(body):]), "\n"), checksum)
	if !found {
		return fmt.Errorf("line %d: the table ends without its checksum: it was cut off, or changed by hand (one "+
			"that is written by hand begins without %q)", last, signed)
	}
	if digest.Of(body) != sum {
		return fmt.Errorf("line %d: the checksum is not that of the lines above: the table was changed (one that is "+
			"written by hand begins without %q)", last, signed)
	}
	for line := range strings.SplitSeq(rest, "\n") {
		fact, isFact := strings.CutPrefix(line, "# ")
		if !isFact {
			break
		}
		if key, value, ok := strings.Cut(fact, ": "); ok {
			t.Facts = append(t.Facts, Fact{key, value})
		}
	}
	return nil
}

// Fact is the value of a line of the head; empty where there is none.
func (t *Table) Fact(key string) string {
	for _, f := range t.Facts {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}

// Text is the file.
func (t *Table) Text() []byte { return t.text }

// Checksum identifies the table.
func (t *Table) Checksum() string {
	return digest.Of(t.text)
}

// String says in a line where the times come from.
func (t *Table) String() string {
	if !t.Signed {
		return fmt.Sprintf("%s (unsigned: nothing says what its times are of)", t.Path)
	}
	said := fmt.Sprintf("%s (%s, batch %s, ", t.Path, t.Fact(factDevice), t.Fact(factBatch))
	if threads := t.Fact(factThreads); threads != "" { // of another program nobody may know
		said += threads + " threads, "
	}
	said += t.Fact(factDate)
	if e := t.Fact(factError); e != "" {
		said += "; sums are off by " + e
	}
	return said + ")"
}

// For returns the times of a space's parts. All of them must be in the table.
func (t *Table) For(sp space.Space) (*space.Times, error) {
	composed, ok := sp.(space.Composed)
	if !ok {
		return nil, fmt.Errorf("the latency of an architecture of %s is no sum over parts: latency tables are for %s "+
			"and spaces from files", sp.Name(), strings.Join(space.NamesOf[space.Composed](), ", "))
	}
	return t.timesOf(composed)
}

func (t *Table) timesOf(sp space.Composed) (*space.Times, error) {
	by := make(map[string]float64, len(t.Parts))
	for _, p := range t.Parts {
		by[p.Name] = p.MS
	}
	names := sp.Parts()
	ns := make([]int64, len(names))
	var missing []string
	for i, name := range names {
		ms, found := by[name]
		if !found {
			missing = append(missing, name)
			continue
		}
		ns[i] = space.Nanoseconds(ms)
	}
	if len(missing) > 0 {
		of := ""
		if measured := t.Fact(factSpace); measured != "" {
			of = ", which is of " + measured
		}
		return nil, fmt.Errorf("latency table %s%s: %d of the %d parts of %s are missing: %s", t.Path, of, len(missing),
			len(names), sp.Name(), few(missing, 5))
	}
	return space.NewTimes(sp, ns)
}

// few lists some of many.
func few(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", …"
}

// Write writes a signed table, whole or not at all.
func (t *Table) Write(path string) error {
	var b bytes.Buffer
	fmt.Fprintln(&b, signed)
	for _, f := range t.Facts {
		fmt.Fprintf(&b, "# %s: %s\n", f.Key, oneLine(f.Value))
	}
	w := csv.NewWriter(&b)
	rows := [][]string{{columnPart, columnMS, columnFirst, columnThird, columnSamples}}
	decimal := func(ms float64) string { return strconv.FormatFloat(ms, 'f', 6, 64) } // nanoseconds
	for _, p := range t.Parts {
		rows = append(rows, []string{p.Name, decimal(p.MS), decimal(p.First), decimal(p.Third),
			strconv.Itoa(p.Samples)})
	}
	if err := w.WriteAll(rows); err != nil {
		return err
	}
	fmt.Fprintf(&b, "%s%s\n", checksum, digest.Of(b.Bytes()))
	t.text, t.Path, t.Signed = b.Bytes(), path, true
	return files.Write(path, t.text)
}

// oneLine is a fact's value without what would end its line.
func oneLine(s string) string {
	return cmp.Or(strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == '\n' || r == '\r'
	}), " "), "unknown")
}

// Slowest lists the parts that take longest.
func (t *Table) Slowest(n int) []Part {
	sorted := slices.Clone(t.Parts)
	slices.SortStableFunc(sorted, func(a, b Part) int { return cmp.Compare(b.MS, a.MS) })
	return sorted[:min(n, len(sorted))]
}
