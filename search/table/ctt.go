package table

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/ctnas/ctnas/internal/digest"
	"github.com/ctnas/ctnas/internal/files"
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
//	              zeros up to a multiple of 64, where the sections begin; each begins at a multiple of 64 from there
//	              and the file ends with the last of them
//
// Sections: the architectures' codes (space.Coder; of NAS-Bench-101 space.Cell as uint64) in ascending order of hash,
// one a metric, the costs that the space does not say (int64, -1 for unknown), then whatever WriteCTT was given.
const (
	cttMagic     = "\x89CTT\r\n\x1a\n"
	cttVersion   = 1
	cttFixed     = 24
	cttAlign     = 64
	cttMaxHeader = 1 << 20
)

type cttHeader struct {
	Space string `json:"space"`
	// of the file that describes the space: codes are numbers of its choices
	SpaceSum string       `json:"space_sha256,omitempty"`
	Records  int          `json:"records"`
	Merged   int          `json:"merged,omitempty"`
	Source   Source       `json:"source"`
	Cells    cttSection   `json:"cells"` // the architectures
	Metrics  []cttMetric  `json:"metrics"`
	Costs    []cttSection `json:"costs,omitempty"`
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

// WriteCTT writes a table in the compact form, atomically: path either keeps what it was or holds the whole table.
// Sections that the table carries already are dropped unless they are given again. The same table and sections give the
// same bytes.
func WriteCTT(path string, t *Table, sections ...Section) error {
	out, err := files.Create(path)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer out.Discard()
	if err := t.writeCTT(out, sections); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := out.Commit(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// spaceSum is the checksum of the file that describes a space; empty where none does.
func spaceSum(sp space.Space) string {
	f := space.FileOf(sp)
	if f == nil {
		return ""
	}
	return digest.Of(f.Text())
}

func (t *Table) writeCTT(w io.Writer, sections []Section) error {
	header := cttHeader{
		Space: t.coder.Name(), SpaceSum: spaceSum(t.coder), Records: t.Len(), Merged: t.merged,
		Source: t.source, Sections: []cttSection{},
	}
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
	if header.Cells, err = place(t.codes); err != nil {
		return err
	}
	for _, c := range t.columns {
		m := cttMetric{Metric: c.Metric, packing: c.packing}
		if m.Data, err = place(c.section); err != nil {
			return err
		}
		header.Metrics = append(header.Metrics, m)
	}
	for _, c := range t.costs {
		if c == nil {
			continue
		}
		stored, err := place(c)
		if err != nil {
			return err
		}
		header.Costs = append(header.Costs, stored)
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

// openCTT reads a file's header and architectures, and the rest when it is asked for.
func openCTT(
	ctx context.Context, path string, file io.ReaderAt, size int64, sp space.Coder, o Options,
) (*Table, error) {
	in := &input{ctx: ctx, path: path, threads: o.Threads, space: sp}
	if o.Columns != (Columns{}) {
		return nil, in.fail(-1, 0, 0, errors.New("column names are set, and this is a .ctt file, not CSV"))
	}
	t, err := parseCTT(in, file, size)
	if err != nil {
		return nil, err
	}
	t.format = FormatCTT
	if o.Progress != nil {
		o.Progress(size, size)
	}
	return t, nil
}

// stretch reads bytes of a file that had them when it was opened.
func stretch(r io.ReaderAt, offset, size int64) ([]byte, error) {
	data := make([]byte, size)
	if n, err := r.ReadAt(data, offset); int64(n) < size {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the file was shortened while in use: it ends at byte %d, want %d", offset+int64(n),
				offset+size)
		}
		return nil, err
	}
	return data, nil
}

// parseCTT makes a table of a file. The architectures are read and checked here, the metrics and sections when first
// used.
func parseCTT(in *input, r io.ReaderAt, size int64) (*Table, error) {
	fail := func(err error) (*Table, error) { return nil, in.fail(-1, 0, 0, err) }
	if size < cttFixed {
		return fail(fmt.Errorf("the file is truncated: %d bytes", size))
	}
	fixed, err := stretch(r, 0, cttFixed)
	if err != nil {
		return fail(err)
	}
	if binary.LittleEndian.Uint32(fixed[20:]) != crc32.Checksum(fixed[:20], castagnoli) {
		return fail(errors.New("the first 24 bytes are damaged: checksum does not match"))
	}
	if version := binary.LittleEndian.Uint32(fixed[8:]); version != cttVersion {
		return fail(fmt.Errorf("version %d of the format, this program reads version %d: convert the source again",
			version, cttVersion))
	}
	length := int64(binary.LittleEndian.Uint32(fixed[12:]))
	switch {
	case length > size-cttFixed:
		return fail(fmt.Errorf("the file is truncated: %d bytes, the header alone has %d", size, length))
	case length > cttMaxHeader:
		return fail(fmt.Errorf("a header of %d bytes, at most %d are accepted", length, cttMaxHeader))
	}
	begin := min(aligned(cttFixed+length), size)
	text, err := stretch(r, cttFixed, begin-cttFixed)
	if err != nil {
		return fail(err)
	}
	text, rest := text[:length], text[length:]
	if binary.LittleEndian.Uint32(fixed[16:]) != crc32.Checksum(text, castagnoli) {
		return fail(errors.New("the header is damaged: checksum does not match"))
	}
	var header cttHeader
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&header); err != nil {
		return fail(fmt.Errorf("header: %w", err))
	}
	if !zeros(rest) {
		return fail(errors.New("the bytes after the header are damaged: they are not zero"))
	}
	return header.table(in, io.NewSectionReader(r, begin, size-begin), size-begin)
}

// fits tells whether the codes are those of a space.
func (h *cttHeader) fits(sp space.Space) error {
	switch sum := spaceSum(sp); {
	case h.Space != sp.Name():
		return fmt.Errorf("the table is of the space %q, want %s", h.Space, sp.Name())
	case h.SpaceSum != sum:
		return fmt.Errorf("the table was converted for another file of the space %s, with SHA-256 %s; "+
			"that of the file given now is %s: convert it again",
			h.Space, cmp.Or(h.SpaceSum, "unknown"), cmp.Or(sum, "unknown"))
	}
	return nil
}

func (h *cttHeader) table(in *input, body io.ReaderAt, size int64) (*Table, error) {
	fail := func(err error) (*Table, error) { return nil, in.fail(-1, 0, 0, err) }
	if err := h.fits(in.space); err != nil {
		return fail(err)
	}
	width := int64(in.space.CodeBytes())
	if h.Records < 1 || int64(h.Records) > size/width {
		return fail(fmt.Errorf("%d records do not fit into %d bytes: the file is truncated", h.Records, size))
	}
	if len(h.Metrics) > maxMetrics || len(h.Sections) > maxMetrics {
		return fail(fmt.Errorf("%d metrics and %d sections, at most %d are accepted", len(h.Metrics),
			len(h.Sections), maxMetrics))
	}
	if h.Merged < 0 {
		return fail(fmt.Errorf("%d rows came once more", h.Merged))
	}
	end := int64(0)
	take := func(what string, s cttSection) (*section, error) {
		if s.Offset != aligned(end) || s.Size < 0 || s.Offset > size || s.Size > size-s.Offset {
			return nil, fmt.Errorf("%s: %d bytes at %d of %d: the file is truncated or damaged", what, s.Size,
				s.Offset, size)
		}
		gap, err := stretch(body, end, s.Offset-end)
		if err != nil {
			return nil, err
		}
		if !zeros(gap) {
			return nil, fmt.Errorf("%s: the bytes before it are damaged: they are not zero", what)
		}
		end = s.Offset + s.Size
		return &section{name: what, size: s.Size, crc: s.CRC,
			load: func() ([]byte, error) { return stretch(body, s.Offset, s.Size) }}, nil
	}
	t := &Table{space: in.space, coder: in.space, path: in.path, source: h.Source, merged: h.Merged}
	var err error
	if t.codes, err = take("architectures", h.Cells); err != nil {
		return fail(err)
	}
	if t.codes.size != width*int64(h.Records) {
		return fail(fmt.Errorf("architectures: %d bytes for %d records", t.codes.size, h.Records))
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
		if c.section, err = take(m.String(), m.Data); err != nil {
			return fail(err)
		}
		if c.size != int64(width*h.Records) {
			return fail(fmt.Errorf("%v: %d bytes for %d records", m.Metric, c.size, h.Records))
		}
		t.columns = append(t.columns, c)
	}
	if err := h.costs(t, take); err != nil {
		return fail(err)
	}
	for _, s := range h.Sections {
		stored, err := take(s.Name, s)
		if err != nil {
			return fail(fmt.Errorf("section %w", err))
		}
		t.extra = append(t.extra, stored)
	}
	if end != size {
		return fail(fmt.Errorf("%d bytes follow the last section", size-end))
	}
	if err := t.codes.check(); err != nil {
		return fail(err)
	}
	return t, eachRow(in.ctx, in.workers(), h.Records, func(i int) error {
		if err := t.coder.CheckCode(t.code(i)); err != nil {
			return in.fail(int64(i), width*int64(i), 0, err)
		}
		return nil
	})
}

// costs takes the costs that the space does not say.
func (h *cttHeader) costs(t *Table, take func(what string, s cttSection) (*section, error)) error {
	for _, s := range h.Costs {
		k := slices.Index(told[:], s.Name)
		if k < 0 || t.costs[k] != nil || k == 0 && t.costs[1] != nil {
			return fmt.Errorf("costs %q: unknown, out of order or twice", s.Name)
		}
		stored, err := take(s.Name, s)
		if err != nil {
			return err
		}
		if stored.size != 8*int64(h.Records) {
			return fmt.Errorf("%s: %d bytes for %d records", s.Name, stored.size, h.Records)
		}
		if err := stored.check(); err != nil {
			return err
		}
		for i := range h.Records {
			if cost := int64(binary.LittleEndian.Uint64(stored.data[8*i:])); cost < space.Unknown {
				return fmt.Errorf("%s: record %d: %d", s.Name, i, cost)
			}
		}
		t.costs[k] = stored
	}
	return nil
}
