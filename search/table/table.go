// Package table reads labels from tabular benchmarks: files that list architectures with the accuracies they reach. It
// takes the official NAS-Bench-101 files (tfrecord), those of NAS-Bench-201 and NATS-Bench (pickles), the
// nas_bench.json of the CTNAS authors, CSV files that anyone can write, and its own compact form, .ctt, that opens at
// once.
package table

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/search/space"
)

// Names of what a Metric measures.
const (
	Accuracy     = "accuracy"      // top-1, 0..1
	TrainingTime = "training_time" // seconds; its Split is empty
	// What the networks take that the accuracies are of, where they are other ones than the space's own: narrower, of
	// smaller images. Split, run and epochs are empty.
	TrainedMAdds  = "trained_madds"
	TrainedParams = "trained_params"
)

// Metric names one column of numbers.
type Metric struct {
	Name   string `json:"name"`
	Split  string `json:"split"`  // "train", "validation", "test"; empty where the file does not say
	Run    int    `json:"run"`    // 1, 2, 3; 0 is the mean of the runs, which a file means that names no run
	Epochs int    `json:"epochs"` // how long the architecture was trained; 0 where the file does not say
}

// String reads like "test accuracy, run 1, 108 epochs".
func (m Metric) String() string {
	text := strings.ReplaceAll(m.Name, "_", " ")
	if m.Split != "" {
		text = m.Split + " " + text
	}
	if m.Name != Accuracy && m.Name != TrainingTime {
		return text
	}
	if m.Run > 0 {
		text += fmt.Sprintf(", run %d", m.Run)
	} else {
		text += ", mean of runs"
	}
	if m.Epochs > 0 {
		text += fmt.Sprintf(", %d epochs", m.Epochs)
	}
	return text
}

// compareMetrics orders metrics as files list them: by epochs, then by name, split and run.
func compareMetrics(a, b Metric) int {
	if a.Epochs != b.Epochs {
		return a.Epochs - b.Epochs
	}
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if c := strings.Compare(a.Split, b.Split); c != 0 {
		return c
	}
	return a.Run - b.Run
}

// Formats that Open tells apart by content.
const (
	FormatTFRecord = "tfrecord" // nasbench_only108.tfrecord, nasbench_full.tfrecord
	FormatJSON     = "json"     // nas_bench.json
	FormatCSV      = "csv"
	FormatNATS     = "nats-bench" // NATS-Bench's folder or file, or NAS-Bench-201's
	FormatCTT      = "ctt"        // a table converted before
)

// Source is the published or user's file that a table's numbers come from.
type Source struct {
	File   string `json:"file"`   // its name, without folders
	Format string `json:"format"` // one of the Format constants, with ".gz" where it was compressed
	SHA256 string `json:"sha256"` // of the file as it lies on disk
}

// Table is a list of distinct architectures with their numbers, in ascending order of their hash. It may be read by
// several goroutines.
type Table struct {
	space   space.Space // whose architectures are wanted
	coder   space.Coder // of the space that the table lists
	path    string
	format  string
	source  Source
	codes   *section // coder.CodeBytes bytes an architecture; checked
	columns []*column
	costs   [len(told)]*section // of a space whose file does not say them, int64 an architecture; nil: not here either
	extra   []*section
	merged  int // rows of the file that wrote an architecture once more, for View.Describe
	close   func() error

	indexOnce sync.Once
	index     *codes
}

// told are the costs that a table may say of architectures whose space does not.
var told = [...]string{"madds", "params"}

// Options change how Open reads a file.
type Options struct {
	Space   space.Space // whose architectures are wanted; nil means NAS-Bench-101
	Columns Columns     // names of a CSV file's columns where they are not the usual ones
	// Dataset is which images' accuracies are read of a benchmark that has several: cifar10 (also if empty), cifar100
	// or ImageNet16-120 of NATS-Bench.
	Dataset string
	// Also names columns of other numbers of a CSV file, which must be there: metrics of any size.
	Also []string
	// Fail unless the file is, or was made from, a published one with its published SHA-256.
	VerifyChecksum bool
	Threads        int                     // that parse; 0 means one a processor. The result does not depend on it
	Progress       func(done, total int64) // bytes read so far and in all; may be nil. Not called twice at once
}

// Error says where in a file the trouble lies.
type Error struct {
	File   string
	Record int64 // from 0; -1 where the trouble is not in a record
	Line   int   // of a text, from 1; 0 where the file has no lines
	Offset int64 // bytes from the start of the content, unpacked where it is compressed, to the record
	Err    error
}

func (e *Error) Error() string {
	switch {
	case e.Record < 0:
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	case e.Line > 0:
		return fmt.Sprintf("%s: line %d (record %d at offset %d): %v", e.File, e.Line, e.Record, e.Offset, e.Err)
	}
	return fmt.Sprintf("%s: record %d at offset %d: %v", e.File, e.Record, e.Offset, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Open reads a table from a file of any of the formats, which it tells apart by their content, or the table of that
// name that comes with the program (Embedded). Close it after use. Errors about content are *Error and name the file,
// the record and its offset. ctx ends the reading.
func Open(ctx context.Context, path string, o Options) (*Table, error) {
	return openWith(path, o, func(sp space.Coder) (*Table, error) { return read(ctx, path, sp, o) })
}

// Read is Open of a file's content; name is what errors and reports call it.
func Read(ctx context.Context, name string, content []byte, o Options) (*Table, error) {
	return openWith(name, o, func(sp space.Coder) (*Table, error) {
		return readTable(ctx, name, bytes.NewReader(content), int64(len(content)), sp, o)
	})
}

// openWith opens the space and, with read, its table.
func openWith(path string, o Options, read func(sp space.Coder) (*Table, error)) (*Table, error) {
	sp := o.Space
	if sp == nil {
		sp = space.NASBench101{}
	}
	listed, ok := sp.(space.Coder) // what the file lists; small cells are looked up among all
	if !ok {
		return nil, fmt.Errorf("tables of the space %s are not read", sp.Name())
	}
	if _, cells := sp.(space.NASBench101); cells {
		listed = space.NASBench101{}
	}
	t, err := read(listed)
	if err != nil {
		return nil, err
	}
	t.space = sp
	t.price()
	if o.VerifyChecksum {
		if err := t.VerifyPublished(); err != nil {
			_ = t.Close()
			return nil, err
		}
	}
	return t, nil
}

// price lets the space know the costs that only the table says.
func (t *Table) price() {
	f := space.FileOf(t.space)
	if f == nil || t.costs == [len(told)]*section{} {
		return
	}
	f.UseCosts(func(a space.Arch) (costs space.Cost, known bool) {
		i, known := t.Index(a)
		if !known {
			return costs, false
		}
		costs = space.Cost{MAdds: space.Unknown, Params: space.Unknown}
		for k, to := range []*int64{&costs.MAdds, &costs.Params} {
			if t.costs[k] != nil {
				*to = int64(binary.LittleEndian.Uint64(t.costs[k].data[8*i:]))
			}
		}
		return costs, true
	})
}

// read opens an embedded table or a file of any of the formats.
func read(ctx context.Context, path string, sp space.Coder, o Options) (*Table, error) {
	switch text, comes := embedded[path]; {
	case !comes && isNATS(path):
		return readNATS(ctx, path, sp, o)
	case comes:
		return readTable(ctx, path, bytes.NewReader(text), int64(len(text)), sp, o)
	}
	file, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	head := make([]byte, len(cttMagic))
	if n, err := io.ReadFull(file, head); err == nil && string(head[:n]) == cttMagic {
		if o.Dataset != "" {
			return nil, errors.Join(oneDataset(path, o.Dataset), file.Close())
		}
		t, err := openCTT(ctx, path, file, stat.Size(), sp, o)
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		t.close = file.Close
		return t, nil
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return readTable(ctx, path, file, stat.Size(), sp, o)
}

// oneDataset is the error of a file where there is nothing to choose.
func oneDataset(path, dataset string) error {
	return &Error{File: path, Record: -1, Err: fmt.Errorf("dataset=%s: this table has the accuracies of one "+
		"set of images: leave the key out", dataset)}
}

// input is a file on its way to a reader.
type input struct {
	ctx     context.Context
	path    string
	r       *bufio.Reader
	threads int
	columns Columns
	also    []string // columns of other metrics that must be there
	dataset string   // of a benchmark that has several
	space   space.Coder
	tells   [len(told)]bool // costs that the space does not say
	base    int64           // bytes of the content before where the reader begins
	skipped int             // lines likewise
}

func (in *input) fail(record, offset int64, line int, err error) error {
	if in.ctx != nil && in.ctx.Err() != nil {
		return in.ctx.Err()
	}
	return &Error{File: in.path, Record: record, Line: line, Offset: offset, Err: err}
}

// readTable reads one of the foreign formats. The checksum is taken on the way.
func readTable(ctx context.Context, path string, r io.Reader, size int64, sp space.Coder, o Options) (*Table, error) {
	whole := sha256.New()
	counted := io.TeeReader(&counter{ctx: ctx, r: r, total: size, progress: o.Progress}, whole)
	in, format, packed, err := newInput(ctx, path, counted, sp, o)
	if err != nil {
		return nil, err
	}
	read := map[string]func(*input) (*builder, error){FormatTFRecord: readTFRecord, FormatJSON: readJSON,
		FormatCSV: readCSV, FormatNATS: readNATSFile}[format]
	b, err := read(in)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		// A reader stops at its last record; the checksum is of the whole file.
		return nil, in.fail(-1, 0, 0, err)
	}
	t, err := b.finish(in)
	if err != nil {
		return nil, err
	}
	t.path, t.format = path, format+packed
	t.source = Source{File: filepath.Base(path), Format: t.format, SHA256: hex.EncodeToString(whole.Sum(nil))}
	if format == FormatNATS {
		t.source.File += ", " + natsDataset(o)
	}
	return t, nil
}

// newInput unpacks a file where it is packed, which packed says, and tells its format.
func newInput(ctx context.Context, path string, r io.Reader, sp space.Coder, o Options) (in *input, format,
	packed string, err error) {
	in = &input{ctx: ctx, path: path, r: bufio.NewReaderSize(r, 1<<18), threads: o.Threads, columns: o.Columns,
		also: o.Also, space: sp, dataset: o.Dataset}
	in.tell()
	if magic, _ := in.r.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(in.r)
		if err != nil {
			return nil, "", "", in.fail(-1, 0, 0, fmt.Errorf("gzip: %w", err))
		}
		in.r = bufio.NewReaderSize(unpacked, 1<<18)
		packed = ".gz"
	} else if magic, _ := in.r.Peek(3); string(magic) == "BZh" {
		in.r = bufio.NewReaderSize(bzip2.NewReader(in.r), 1<<18)
		packed = ".bz2"
	}
	in.plainText()
	if format, err = sniff(in.r); err != nil {
		return nil, "", "", in.fail(-1, 0, 0, err)
	}
	if format != FormatCSV && len(o.Also) > 0 {
		return nil, "", "", in.fail(-1, 0, 0, fmt.Errorf("this is a %s file, which has no column %s", format,
			o.Also[0]))
	}
	if format != FormatCSV && o.Columns != (Columns{}) {
		return nil, "", "", in.fail(-1, 0, 0, fmt.Errorf("column names are set, and this is a %s file, not CSV",
			format))
	}
	if format != FormatNATS && o.Dataset != "" {
		return nil, "", "", oneDataset(path, o.Dataset)
	}
	if _, cells := sp.(space.NASBench101); !cells && format != FormatCSV && format != FormatNATS {
		return nil, "", "", in.fail(-1, 0, 0, fmt.Errorf("this is a %s file: tables of the space %s are CSV", format,
			sp.Name()))
	}
	return in, format, packed, nil
}

// sniff tells the formats apart by the first bytes.
func sniff(r *bufio.Reader) (string, error) {
	head, err := r.Peek(512)
	if len(head) == 0 {
		if err != nil && !errors.Is(err, io.EOF) {
			return "", unpackError(err)
		}
		return "", errors.New("the file is empty")
	}
	pickle := len(head) > 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && head[2] != 0 // zero is in a length
	if pickle || bytes.HasPrefix(head, []byte("PK\x03\x04")) {
		return FormatNATS, nil
	}
	if bytes.IndexByte(head, 0) >= 0 { // a record's length has bytes that are zero; no text has
		return FormatTFRecord, nil
	}
	if text := bytes.TrimLeft(head, " \t\r\n"); len(text) > 0 && (text[0] == '[' || text[0] == '{') {
		return FormatJSON, nil
	}
	return FormatCSV, nil
}

// unpackError explains the errors of a gzip stream, which otherwise read as if they were about the content.
func unpackError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the file is truncated: %w", err)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return fmt.Errorf("the compressed file is damaged: %w", err)
	}
	return err
}

// counter reports how much of a file has been read, and stops where ctx ends.
type counter struct {
	ctx         context.Context
	r           io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.done += int64(n)
	if c.progress != nil && n > 0 {
		c.progress(c.done, c.total)
	}
	return n, err
}

// Close releases the file. What has not been used of it yet is out of reach afterwards.
func (t *Table) Close() error {
	if t.close == nil {
		return nil
	}
	closeFile := t.close
	t.close = nil
	return closeFile()
}

// Space is the space whose architectures are wanted: a View leaves the table's others out.
func (t *Table) Space() space.Space { return t.space }

// Path is the name that Open was given.
func (t *Table) Path() string { return t.path }

// Format is what Open found: one of the Format constants, with ".gz" where the file is compressed.
func (t *Table) Format() string { return t.format }

// Source is the file the numbers come from: that of Path itself, or the one that a .ctt file was made from.
func (t *Table) Source() Source { return t.source }

// Checksum is the SHA-256 of the source in hexadecimal, the same for a file and for what was converted from it.
func (t *Table) Checksum() string { return t.source.SHA256 }

// Len is the number of architectures.
func (t *Table) Len() int { return int(t.codes.size) / t.coder.CodeBytes() }

// Arch is architecture i in 0..Len()-1.
func (t *Table) Arch(i int) space.Arch { return t.coder.FromCode(t.code(i)) }

func (t *Table) code(i int) []byte {
	width := t.coder.CodeBytes()
	return t.codes.data[i*width : (i+1)*width]
}

// Index finds an architecture; false where the table does not list it.
func (t *Table) Index(a space.Arch) (int, bool) {
	code, ok := t.coder.AppendCode(make([]byte, 0, 64), a)
	if !ok {
		return 0, false
	}
	t.indexOnce.Do(func() {
		t.index = newCodes(t.coder.CodeBytes(), t.Len())
		for range t.Len() {
			t.index.add(t.codes.data)
		}
	})
	i, ok := t.index.find(t.codes.data, code)
	if !ok {
		return 0, false
	}
	return i, true
}

// Metrics lists the columns.
func (t *Table) Metrics() []Metric {
	metrics := make([]Metric, len(t.columns))
	for i, c := range t.columns {
		metrics[i] = c.Metric
	}
	return metrics
}

// Check tells whether the numbers of a metric, an index into Metrics, are sound. A .ctt file's columns are checked when
// they are first used; it costs nothing after that.
func (t *Table) Check(metric int) error {
	if err := t.columns[metric].check(); err != nil {
		return &Error{File: t.path, Record: -1, Err: err}
	}
	return nil
}

// Value is the number of a metric, an index into Metrics, for architecture i; NaN where the file has none, and where
// Check fails.
func (t *Table) Value(metric, i int) float64 {
	c := t.columns[metric]
	if c.check() != nil {
		return math.NaN()
	}
	return c.at(i)
}

// TrainedCosts returns what the networks take that a table's accuracies are of; nil where they are the space's own.
// What the table does not say is space.Unknown.
func (t *Table) TrainedCosts() func(a space.Arch) space.Cost {
	find := func(name string) int {
		return slices.IndexFunc(t.columns, func(c *column) bool { return c.Name == name })
	}
	madds, params := find(TrainedMAdds), find(TrainedParams)
	if madds < 0 && params < 0 {
		return nil
	}
	value := func(metric, i int) int64 {
		if metric < 0 {
			return space.Unknown
		}
		v := t.Value(metric, i)
		if !(v < 1<<62) {
			return space.Unknown
		}
		return int64(v)
	}
	return func(a space.Arch) space.Cost {
		i, ok := t.Index(a)
		if !ok {
			return space.Cost{MAdds: space.Unknown, Params: space.Unknown}
		}
		return space.Cost{MAdds: value(madds, i), Params: value(params, i)}
	}
}

// Section returns the bytes that were stored under a name with WriteCTT; false where there are none. They are read
// anew each time, for they may be many and most are used once. The error is that of damaged bytes.
func (t *Table) Section(name string) ([]byte, bool, error) {
	for _, s := range t.extra {
		if s.name == name {
			data, err := s.fetch()
			if err != nil {
				return nil, true, &Error{File: t.path, Record: -1, Err: err}
			}
			return data, true, nil
		}
	}
	return nil, false, nil
}

// Sections lists the names that Section knows.
func (t *Table) Sections() []string {
	names := make([]string, len(t.extra))
	for i, s := range t.extra {
		names[i] = s.name
	}
	return names
}

// Verify looks at all of the table: every checksum, every number's range, that every architecture reads back as itself
// and that they stand in the order of their hashes.
func (t *Table) Verify(ctx context.Context) error {
	in := &input{ctx: ctx, path: t.path}
	if err := t.checkAll(); err != nil {
		return err
	}
	hashes := make([]moduleHash, t.Len())
	width := int64(t.coder.CodeBytes())
	err := eachRow(ctx, in.workers(), t.Len(), func(i int) error {
		a := t.Arch(i)
		hashes[i] = hashOf(a)
		again, err := t.coder.Parse(a.String())
		if err == nil && again != a {
			err = fmt.Errorf("%v is not in canonical form, which is %v", a, again)
		}
		if err != nil {
			return in.fail(int64(i), int64(i)*width, 0, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := 1; i < len(hashes); i++ {
		if bytes.Compare(hashes[i-1][:], hashes[i][:]) >= 0 {
			return in.fail(int64(i), int64(i)*width, 0,
				fmt.Errorf("module hash %x stands behind %x: architectures are not in the order of their hashes, "+
					"or one comes twice", hashes[i], hashes[i-1]))
		}
	}
	return nil
}

// checkAll compares every checksum and looks at every number's range.
func (t *Table) checkAll() error {
	for i := range t.columns {
		if err := t.Check(i); err != nil {
			return err
		}
	}
	for _, s := range t.extra {
		if _, err := s.fetch(); err != nil {
			return &Error{File: t.path, Record: -1, Err: err}
		}
	}
	return nil
}

// VerifyPublished compares the source's checksum with the published ones, and all that a .ctt file stores with its own.
func (t *Table) VerifyPublished() error {
	if err := t.checkAll(); err != nil {
		return err
	}
	if strings.TrimSuffix(t.source.Format, ".gz") != FormatTFRecord {
		return &Error{File: t.path, Record: -1, Err: fmt.Errorf(
			"no SHA-256 is published for %s (%s), only for the tfrecord files of NAS-Bench-101",
			t.source.File, t.source.Format)}
	}
	for _, p := range Published {
		if p.SHA256 == t.source.SHA256 {
			return nil
		}
	}
	return &Error{File: t.path, Record: -1, Err: fmt.Errorf("SHA-256 %s is that of neither published file (%s)",
		t.source.SHA256, strings.Join(publishedNames(), ", "))}
}

// Info is what `ctnas table info --json` prints.
type Info struct {
	File     string   `json:"file"`
	Format   string   `json:"format"`
	Space    string   `json:"space"`
	Records  int      `json:"records"`
	Merged   int      `json:"averaged,omitempty"` // rows that write an architecture once more
	Metrics  []Metric `json:"metrics"`
	Best     *Best    `json:"best"`     // null where no accuracy is known
	Checksum string   `json:"checksum"` // SHA-256 of the source
	Source   Source   `json:"source"`
	Sections []string `json:"sections,omitempty"`
	Verified string   `json:"verified,omitempty"` // what was, where that was asked for
}

// Best is the architecture that leads a table.
type Best struct {
	Arch     string  `json:"arch"`
	Hash     string  `json:"hash"`
	Accuracy float64 `json:"accuracy"`
	Judged   string  `json:"judged"` // by which numbers
	Params   *int64  `json:"params"` // null where neither the space nor the table says it
	MAdds    *int64  `json:"madds"`
}

// Info describes the table. Best is by the accuracy that judges a search which asks for nothing in particular.
func (t *Table) Info() (Info, error) {
	info := Info{
		File: t.path, Format: t.format, Space: t.space.Name(), Records: t.Len(), Merged: t.merged, Metrics: t.Metrics(),
		Checksum: t.Checksum(),
		Source:   t.source, Sections: t.Sections(),
	}
	v, err := t.View(Query{Missing: MissingDrop})
	if err != nil {
		var damage *Error
		if errors.As(err, &damage) {
			return info, err
		}
		return info, nil // no accuracy, or none of an architecture that has all that it takes
	}
	v.Unseal()
	i, accuracy, err := v.Best()
	if err != nil {
		return info, err
	}
	a := t.Arch(i)
	cost := a.Cost()
	info.Best = &Best{a.String(), a.Hash(), accuracy, v.judgedBy.String(), space.Known(cost.Params),
		space.Known(cost.MAdds)}
	return info, nil
}
