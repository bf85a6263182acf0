package table

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/ctnas/ctnas/search/space"
)

// A .ctt file, all numbers little-endian:
//
//	 0  8 bytes   magic 0x89 "CTT" CR LF 0x1a LF, which a text-mode copy damages
//	 8  uint32    version, 1
//	12  uint32    length of the header
//	16  uint32    CRC-32C of the header
//	20  uint32    CRC-32C of the 20 bytes before
//	24            header: JSON, cttHeader below
//	              zeros up to a multiple of 64, where the sections begin; each begins at a multiple of 64 from there and the file ends with
//	              the last of them
//
// Sections: the cells (space.Cell as uint64, in ascending order of hash), one a metric, then whatever WriteCTT was given.
const (
	cttMagic   = "\x89CTT\r\n\x1a\n"
	cttVersion = 1
	cttFixed   = 24
	cttAlign   = 64
)

type cttHeader struct {
	Space    string       `json:"space"`
	Records  int          `json:"records"`
	Source   Source       `json:"source"`
	Cells    cttSection   `json:"cells"`
	Metrics  []cttMetric  `json:"metrics"`
	Sections []cttSection `json:"sections"`
}

type cttMetric struct {
	Metric
	packing
	Data cttSection `json:"data"`
}

type cttSection struct {
	Name   string `json:"name,omitempty"`
	Offset int64  `json:"offset"` // from the first section
	Size   int64  `json:"size"`
	CRC    uint32 `json:"crc32c"`
}

func aligned(n int64) int64 { return (n + cttAlign - 1) / cttAlign * cttAlign }

// Section is data that WriteCTT stores beside a table and Table.Section gives back.
type Section struct {
	Name string
	Data []byte
}

// WriteCTT writes a table in the compact form, atomically: path either keeps what it was or holds the whole table. Sections that the
// table carries already are dropped unless they are given again. The same table and sections give the same bytes.
func WriteCTT(path string, t *Table, sections ...Section) error {
	out, err := createAtomic(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = out.Cleanup() }()
	if err := t.writeCTT(out, sections); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// atomicFile is a file being written; Cleanup drops it unless CloseAtomicallyReplace has given it its name.
type atomicFile interface {
	io.Writer
	Cleanup() error
	CloseAtomicallyReplace() error
}

func (t *Table) writeCTT(w io.Writer, sections []Section) error {
	header := cttHeader{Space: (space.NASBench101{}).Name(), Records: t.Len(), Source: t.source, Sections: []cttSection{}}
	var parts [][]byte
	end := int64(0)
	place := func(s *section) (cttSection, error) {
		if err := s.check(); err != nil {
			return cttSection{}, err
		}
		at := aligned(end)
		end = at + int64(len(s.data))
		parts = append(parts, s.data)
		return cttSection{Name: s.name, Offset: at, Size: int64(len(s.data)), CRC: s.crc}, nil
	}
	var err error
	if header.Cells, err = place(t.cells); err != nil {
		return err
	}
	for _, c := range t.columns {
		m := cttMetric{Metric: c.Metric, packing: c.packing}
		if m.Data, err = place(&c.section); err != nil {
			return err
		}
		header.Metrics = append(header.Metrics, m)
	}
	names := map[string]bool{}
	for _, s := range sections {
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("section %q: a name must not be empty, nor come twice", s.Name)
		}
		names[s.Name] = true
		stored, err := place(newSection(s.Name, s.Data))
		if err != nil {
			return err
		}
		header.Sections = append(header.Sections, stored)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	head := []byte(cttMagic)
	head = binary.LittleEndian.AppendUint32(head, cttVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(text)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(text, castagnoli))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	head = append(head, text...)
	head = append(head, make([]byte, aligned(int64(len(head)))-int64(len(head)))...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	written := int64(0)
	for _, part := range parts {
		padding := make([]byte, aligned(written)-written)
		if _, err := w.Write(append(padding, part...)); err != nil {
			return err
		}
		written = aligned(written) + int64(len(part))
	}
	return nil
}

func zeros(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// openCTT maps a file.
func openCTT(path string, file *os.File, o Options) (*Table, error) {
	if o.Columns != (Columns{}) {
		return nil, &Error{File: path, Record: -1, Err: errors.New("column names are set, and this is a .ctt file, not CSV")}
	}
	data, unmap, err := mapFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	in := &input{path: path, threads: o.Threads}
	t, err := parseCTT(in, data)
	if err != nil {
		_ = unmap()
		return nil, err
	}
	t.path, t.format, t.unmap = path, FormatCTT, unmap
	if o.Progress != nil {
		o.Progress(int64(len(data)), int64(len(data)))
	}
	return t, nil
}

// parseCTT makes a table of a file's bytes, which it keeps. The cells are checked here, the metrics and sections when first used.
func parseCTT(in *input, data []byte) (*Table, error) {
	fail := func(err error) (*Table, error) { return nil, in.fail(-1, 0, 0, err) }
	if len(data) < cttFixed {
		return fail(fmt.Errorf("the file is truncated: %d bytes", len(data)))
	}
	if binary.LittleEndian.Uint32(data[20:]) != crc32.Checksum(data[:20], castagnoli) {
		return fail(errors.New("the first 24 bytes are damaged: checksum does not match"))
	}
	if version := binary.LittleEndian.Uint32(data[8:]); version != cttVersion {
		return fail(fmt.Errorf("version %d of the format, this program reads version %d: convert the source again", version, cttVersion))
	}
	length := int64(binary.LittleEndian.Uint32(data[12:]))
	if length > int64(len(data)-cttFixed) {
		return fail(fmt.Errorf("the file is truncated: %d bytes, the header alone has %d", len(data), length))
	}
	text := data[cttFixed : cttFixed+length]
	if binary.LittleEndian.Uint32(data[16:]) != crc32.Checksum(text, castagnoli) {
		return fail(errors.New("the header is damaged: checksum does not match"))
	}
	var header cttHeader
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&header); err != nil {
		return fail(fmt.Errorf("header: %w", err))
	}
	begin := min(aligned(cttFixed+length), int64(len(data)))
	if !zeros(data[cttFixed+length : begin]) {
		return fail(errors.New("the bytes after the header are damaged: they are not zero"))
	}
	return header.table(in, data[begin:])
}

func (h *cttHeader) table(in *input, body []byte) (*Table, error) {
	fail := func(err error) (*Table, error) { return nil, in.fail(-1, 0, 0, err) }
	if h.Space != (space.NASBench101{}).Name() {
		return fail(fmt.Errorf("the table is of the space %q, which this format does not hold", h.Space))
	}
	if h.Records < 1 || int64(h.Records) > int64(len(body))/8 {
		return fail(fmt.Errorf("%d records do not fit into %d bytes: the file is truncated", h.Records, len(body)))
	}
	if len(h.Metrics) > maxMetrics || len(h.Sections) > maxMetrics {
		return fail(fmt.Errorf("%d metrics and %d sections, at most %d are accepted", len(h.Metrics), len(h.Sections), maxMetrics))
	}
	end := int64(0)
	take := func(what string, s cttSection) (*section, error) {
		if s.Offset != aligned(end) || s.Size < 0 || s.Offset > int64(len(body)) || s.Size > int64(len(body))-s.Offset {
			return nil, fmt.Errorf("%s: %d bytes at %d of %d: the file is truncated or damaged", what, s.Size, s.Offset, len(body))
		}
		if !zeros(body[end:s.Offset]) {
			return nil, fmt.Errorf("%s: the bytes before it are damaged: they are not zero", what)
		}
		end = s.Offset + s.Size
		return &section{name: what, data: body[s.Offset:end:end], crc: s.CRC}, nil
	}
	t := &Table{space: space.NASBench101{}, source: h.Source}
	var err error
	if t.cells, err = take("cells", h.Cells); err != nil {
		return fail(err)
	}
	if int64(len(t.cells.data)) != 8*int64(h.Records) {
		return fail(fmt.Errorf("cells: %d bytes for %d records", len(t.cells.data), h.Records))
	}
	for i, m := range h.Metrics {
		c := &column{Metric: m.Metric, packing: m.packing}
		width := c.width()
		if width == 0 || c.Encoding == encodeCount && (c.Of < 1 || c.Of >= missingCount) {
			return fail(fmt.Errorf("%v: unknown encoding %q of %d", m.Metric, c.Encoding, c.Of))
		}
		if i > 0 && compareMetrics(h.Metrics[i-1].Metric, m.Metric) >= 0 {
			return fail(fmt.Errorf("%v: metrics are not in order", m.Metric))
		}
		s, err := take(m.String(), m.Data)
		if err != nil {
			return fail(err)
		}
		if len(s.data) != width*h.Records {
			return fail(fmt.Errorf("%v: %d bytes for %d records", m.Metric, len(s.data), h.Records))
		}
		c.name, c.data, c.crc = s.name, s.data, s.crc
		t.columns = append(t.columns, c)
	}
	for _, s := range h.Sections {
		stored, err := take(s.Name, s)
		if err != nil {
			return fail(fmt.Errorf("section %w", err))
		}
		t.extra = append(t.extra, stored)
	}
	if end != int64(len(body)) {
		return fail(fmt.Errorf("%d bytes follow the last section", int64(len(body))-end))
	}
	if err := t.cells.check(); err != nil {
		return fail(err)
	}
	return t, eachRow(in.workers(), h.Records, func(i int) error {
		if _, err := space.UnpackCell(uint64(t.cell(i))); err != nil {
			return in.fail(int64(i), int64(8*i), 0, err)
		}
		return nil
	})
}
