package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/search/space"
)

// cellsInput is an input of NAS-Bench-101.
func cellsInput(path string) *input {
	return &input{ctx: context.Background(), path: path, threads: 1, space: space.NASBench101{}}
}

// twoCells is a table of two architectures.
const twoCells = "arch,accuracy,training_time\nnasbench101:best,0.9,17.123456789\nnasbench101:inception,0.5,2\n"

func parseBytes(in *input, data []byte) (*Table, error) {
	return parseCTT(in, bytes.NewReader(data), int64(len(data)))
}

func TestCTTRoundTrip(t *testing.T) {
	cells := someCells(50)
	table := open(t, "nasbench_full.tfrecord", tfFile(shuffled(cells), 4, 108))
	path := filepath.Join(t.TempDir(), "sub.ctt")
	trees := bytes.Repeat([]byte("trees"), 1000)
	require.NoError(t, WriteCTT(path, table, Section{"forest", trees}, Section{"empty", nil}))
	again, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, again.Close()) }()

	require.Equal(t, FormatCTT, again.Format())
	require.Equal(t, path, again.Path())
	require.Equal(t, table.Checksum(), again.Checksum())
	require.Equal(t, Source{"nasbench_full.tfrecord", FormatTFRecord, table.Checksum()}, again.Source())
	require.Equal(t, table.Metrics(), again.Metrics())
	require.Equal(t, table.Space(), again.Space())
	for i := range cells {
		require.Equal(t, table.Arch(i), again.Arch(i))
		for k := range table.Metrics() {
			require.NoError(t, again.Check(k))
			require.Equal(t, table.Value(k, i), again.Value(k, i))
		}
	}
	data, ok, err := again.Section("forest")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, trees, data)
	data, ok, err = again.Section("empty")
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, data)
	_, ok, err = again.Section("absent")
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, []string{"forest", "empty"}, again.Sections())

	stored, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, stored, bytesOf(t, again, Section{"forest", trees}, Section{"empty", nil}),
		"the same again, byte by byte")
	require.NotEqual(t, stored, bytesOf(t, again), "sections are given anew")
}

func TestCTTReplacesAtomically(t *testing.T) {
	table := open(t, "x.csv", []byte("arch,accuracy\nnasbench101:best,0.9\n"))
	dir := t.TempDir()
	path := filepath.Join(dir, "x.ctt")
	require.NoError(t, os.WriteFile(path, []byte("what was there"), 0o644))
	err := WriteCTT(path, table, Section{"a", nil}, Section{"a", nil})
	require.ErrorContains(t, err, `section "a"`)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, WriteCTT(path, table, Section{"", nil}), `section ""`)
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "what was there", string(kept))
	require.NoError(t, WriteCTT(path, table))
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{path}, names, "nothing else is left")
	require.Error(t, WriteCTT(filepath.Join(dir, "absent", "x.ctt"), table))
}

// use looks at everything a table holds and returns the first error.
func use(table *Table) error {
	for k := range table.Metrics() {
		if err := table.Check(k); err != nil {
			return err
		}
	}
	for _, name := range table.Sections() {
		if _, _, err := table.Section(name); err != nil {
			return err
		}
	}
	return nil
}

func TestCTTFindsEveryDamage(t *testing.T) {
	table := open(t, "x.csv", []byte(twoCells))
	good := bytesOf(t, table, Section{"some", []byte("bytes")})
	in := cellsInput("x.ctt")
	again, err := parseBytes(in, good)
	require.NoError(t, err)
	require.NoError(t, use(again))
	for cut := range len(good) {
		_, err := parseBytes(in, good[:cut])
		require.Error(t, err, "cut at %d", cut)
		require.ErrorContains(t, err, "x.ctt: ")
	}
	_, err = parseBytes(in, append(bytes.Clone(good), 0))
	require.ErrorContains(t, err, "1 bytes follow")
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		damaged, err := parseBytes(in, bad)
		if err == nil {
			err = use(damaged)
		}
		if bit >= 8*len(cttMagic) { // Open looks at the magic
			require.Error(t, err, "bit %d", bit)
		}
	}
}

func TestCTTDamagedColumnIsNoNumber(t *testing.T) {
	table := open(t, "x.csv", []byte("arch,accuracy\nnasbench101:best,0.9\n"))
	bad := bytesOf(t, table)
	bad[len(bad)-1] ^= 1
	path := file(t, "x.ctt", bad)
	damaged, err := Open(t.Context(), path, Options{})
	require.NoError(t, err, "columns are looked at when they are needed")
	defer damaged.Close()
	requireError(t, damaged.Check(0), -1, 0, 0, "accuracy, mean of runs: checksum does not match")
	require.True(t, math.IsNaN(damaged.Value(0, 0)))
	_, err = damaged.View(Query{})
	requireError(t, err, -1, 0, 0, "checksum does not match")
	_, err = damaged.Info()
	require.Error(t, err)
	_, err = Open(t.Context(), path, Options{VerifyChecksum: true})
	require.ErrorContains(t, err, "checksum does not match")
	require.Error(t, WriteCTT(filepath.Join(t.TempDir(), "y.ctt"), damaged), "damage is not passed on")
}

// withHeader replaces a file's header and makes every checksum right again, as far as its sections lie in the file.
func withHeader(data []byte, header []byte) []byte {
	length := int(binary.LittleEndian.Uint32(data[12:]))
	body := data[min(aligned(int64(cttFixed+length)), int64(len(data))):]
	var h cttHeader
	if json.Unmarshal(header, &h) == nil {
		fix := func(s *cttSection) {
			if s.Offset >= 0 && s.Size >= 0 && s.Offset <= int64(len(body)) && s.Size <= int64(len(body))-s.Offset {
				s.CRC = crc32.Checksum(body[s.Offset:s.Offset+s.Size], castagnoli)
			}
		}
		fix(&h.Cells)
		for i := range h.Metrics {
			fix(&h.Metrics[i].Data)
		}
		for i := range h.Sections {
			fix(&h.Sections[i])
		}
		if text, err := json.Marshal(h); err == nil {
			header = text
		}
	}
	out := bytes.Clone(data[:12])
	out = binary.LittleEndian.AppendUint32(out, uint32(len(header)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(header, castagnoli))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
	out = append(out, header...)
	out = append(out, make([]byte, aligned(int64(len(out)))-int64(len(out)))...)
	return append(out, body...)
}

func headerOf(data []byte) []byte {
	return data[cttFixed : cttFixed+int(binary.LittleEndian.Uint32(data[12:]))]
}

func TestCTTWrongContentWithRightChecksums(t *testing.T) {
	table := open(t, "x.csv", []byte(twoCells))
	good := bytesOf(t, table, Section{"some", []byte("bytes")})
	in := cellsInput("x.ctt")
	again, err := parseBytes(in, withHeader(good, headerOf(good)))
	require.NoError(t, err)
	require.NoError(t, use(again))
	for name, c := range map[string]struct {
		change func(h *cttHeader)
		text   string
	}{
		"another space":    {func(h *cttHeader) { h.Space = "mars" }, `space "mars"`},
		"no records":       {func(h *cttHeader) { h.Records = 0 }, "0 records"},
		"negative records": {func(h *cttHeader) { h.Records = -1 }, "-1 records"},
		"more records":     {func(h *cttHeader) { h.Records = 3 }, "16 bytes for 3 records"},
		"fewer records":    {func(h *cttHeader) { h.Records = 1 }, "16 bytes for 1 records"},
		"immense records":  {func(h *cttHeader) { h.Records = math.MaxInt }, "do not fit"},
		"negative size":    {func(h *cttHeader) { h.Cells.Size = -8 }, "architectures: -8 bytes"},
		"immense size": {func(h *cttHeader) {
			h.Metrics[0].Data.Size = math.MaxInt64
		}, "truncated or damaged"},
		"negative offset":  {func(h *cttHeader) { h.Metrics[0].Data.Offset = -64 }, "truncated or damaged"},
		"overlapping":      {func(h *cttHeader) { h.Metrics[0].Data.Offset = 0 }, "truncated or damaged"},
		"unknown encoding": {func(h *cttHeader) { h.Metrics[0].Encoding = "int7" }, `unknown encoding "int7"`},
		"another width": {func(h *cttHeader) {
			h.Metrics[1].Encoding = encodeFloat32
		}, "16 bytes for 2 records"},
		"counts of nothing":     {func(h *cttHeader) { h.Metrics[0].Of = 0 }, "of 0"},
		"metrics out of order":  {func(h *cttHeader) { h.Metrics[1].Metric = h.Metrics[0].Metric }, "not in order"},
		"a section beyond":      {func(h *cttHeader) { h.Sections[0].Size = 6 }, "section some: 6 bytes"},
		"a section left out":    {func(h *cttHeader) { h.Sections = nil }, "bytes follow the last section"},
		"far too many sections": {func(h *cttHeader) { h.Sections = make([]cttSection, maxMetrics+1) }, "at most 256"},
	} {
		var h cttHeader
		require.NoError(t, json.Unmarshal(headerOf(good), &h))
		c.change(&h)
		text, err := json.Marshal(h)
		require.NoError(t, err)
		_, err = parseBytes(in, withHeader(good, text))
		require.ErrorContains(t, err, c.text, name)
	}
	_, err = parseBytes(in, withHeader(good, []byte("[")))
	require.ErrorContains(t, err, "header: ")

	old := bytes.Clone(good)
	binary.LittleEndian.PutUint32(old[8:], 7)
	_, err = parseBytes(in, withHeader(old, headerOf(good)))
	require.ErrorContains(t, err, "version 7 of the format")

	body := int(aligned(int64(cttFixed + len(headerOf(good)))))
	for value, text := range map[uint64]string{0: "0x0 is not", math.MaxUint64: "is not a NAS-Bench-101 cell",
		uint64(table.Arch(1).(space.Cell)) + 1<<20: "is not"} {
		bad := bytes.Clone(good)
		binary.LittleEndian.PutUint64(bad[body+8:], value)
		_, err = parseBytes(in, withHeader(bad, headerOf(good)))
		require.ErrorContains(t, err, "x.ctt: record 1 at offset 8: ")
		require.ErrorContains(t, err, text)
	}
	var h cttHeader
	require.NoError(t, json.Unmarshal(headerOf(good), &h))
	bad := bytes.Clone(good)
	binary.LittleEndian.PutUint16(bad[body+int(h.Metrics[0].Data.Offset):], 60000) // of 10,000
	wrong, err := parseBytes(in, withHeader(bad, headerOf(good)))
	require.NoError(t, err)
	require.ErrorContains(t, wrong.Check(0), "record 0: accuracy 6 is outside of 0..1")
}

func TestPackingIsExact(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   packing
	}{
		"counts": {[]float64{9197.0 / 9984, 0, 1, math.NaN()}, packing{encodeCount, 9984, false}},
		"counts in float32": {[]float64{float64(float32(9197) / 9984), float64(float32(7) / 9984)},
			packing{encodeCount, 9984, true}},
		"four decimals":       {[]float64{0.9432, 0.1}, packing{encodeCount, 10000, false}},
		"train, in float32":   {[]float64{float64(float32(39935) / 39936), 1}, packing{encodeCount, 39936, true}},
		"float32":             {[]float64{float64(float32(math.Pi)), math.NaN()}, packing{Encoding: encodeFloat32}},
		"float64":             {[]float64{math.Pi, 1}, packing{Encoding: encodeFloat64}},
		"more than one":       {[]float64{6.5}, packing{encodeCount, 9984, false}},
		"too much for counts": {[]float64{7, 6.625}, packing{Encoding: encodeFloat32}},
		"negative":            {[]float64{-0.5}, packing{Encoding: encodeFloat32}},
		"negative zero":       {[]float64{math.Copysign(0, -1)}, packing{Encoding: encodeFloat32}},
	} {
		require.Equal(t, c.want, choosePacking(c.values), name)
	}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float64(), rapid.Just(math.NaN()),
			rapid.Map(rapid.IntRange(0, 70000), func(k int) float64 {
				return float64(k) / 9984
			}),
			rapid.Map(rapid.IntRange(0, 10000), func(k int) float64 { return float64(k) / 10000 }),
			rapid.Map(rapid.Float32(), func(v float32) float64 { return float64(v) }))
		values := rapid.SliceOfN(value, 1, 20).Draw(t, "values")
		c := pack(Metric{Name: "any"}, values)
		require.Equal(t, len(values), c.len())
		for i, v := range values {
			if v != v {
				require.True(t, math.IsNaN(c.at(i)))
			} else {
				require.Equal(t, math.Float64bits(v), math.Float64bits(c.at(i)), fmt.Sprint(c.packing))
			}
		}
	})
}

func TestIndexOfAnArchitectureOfAnotherKind(t *testing.T) {
	table := open(t, "x.csv", []byte("arch,accuracy\nnasbench101:best,0.9\n"))
	_, ok := table.Index(nil)
	require.False(t, ok)
	_, ok = table.Index(foreign{})
	require.False(t, ok)
}

// foreign is an architecture of no space.
type foreign struct{ space.Arch }

// A file that is shortened or changed while it is in use is an error that says so, wherever it is noticed, and never
// the program's end.
func TestCTTShortenedWhileInUse(t *testing.T) {
	source := open(t, "x.csv", []byte(twoCells))
	good := bytesOf(t, source, Section{"some", bytes.Repeat([]byte("bytes"), 2000)})
	for cut := range len(good) {
		if cut%7 != 0 && cut < len(good)-100 {
			continue
		}
		path := file(t, "x.ctt", good)
		table, err := Open(t.Context(), path, Options{})
		require.NoError(t, err)
		require.NoError(t, os.Truncate(path, int64(cut)))
		err = use(table)
		require.ErrorContains(t, err, path+": ")
		require.ErrorContains(t, err, "the file was shortened while in use: it ends at byte ")
		require.Equal(t, 2, table.Len())
		require.NotNil(t, table.Arch(1), "what has been read stays")
		require.NoError(t, table.Close())
	}
	path := file(t, "x.ctt", good)
	table, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	defer table.Close()
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{7}, len(good)), 0o600))
	require.ErrorContains(t, use(table), "checksum does not match")
	require.ErrorContains(t, table.Verify(t.Context()), "checksum does not match")
}

// Verify finds what checksums do not show.
func TestVerifyLooksAtAll(t *testing.T) {
	source := open(t, "x.csv", []byte(twoCells))
	good := bytesOf(t, source)
	in := cellsInput(file(t, "x.ctt", good))
	sound, err := parseBytes(in, good)
	require.NoError(t, err)
	require.NoError(t, sound.Verify(t.Context()))
	body := int(aligned(int64(cttFixed + len(headerOf(good)))))
	swapped := bytes.Clone(good)
	copy(swapped[body:], good[body+8:body+16])
	copy(swapped[body+8:], good[body:body+8])
	twice := bytes.Clone(good)
	copy(twice[body+8:], good[body:body+8])
	for _, bad := range [][]byte{swapped, twice} {
		table, err := parseBytes(in, withHeader(bad, headerOf(good)))
		require.NoError(t, err)
		requireError(t, table.Verify(t.Context()), 1, 8, 0, "not in the order of their hashes, or one comes twice")
	}

	// A genotype whose nodes stand in another order is another text of the same architecture.
	darts, err := Open(t.Context(), testdata.Path(t, "darts/oncenas_darts_545.csv"),
		Options{Space: spaceOf(t, "darts")})
	require.NoError(t, err)
	good = bytesOf(t, darts)
	body = int(aligned(int64(cttFixed + len(headerOf(good)))))
	in.space = darts.coder
	bad := bytes.Clone(good)
	bad[body+1], bad[body+2] = bad[body+2], bad[body+1]
	require.NotEqual(t, good, bad)
	table, err := parseBytes(in, withHeader(bad, headerOf(good)))
	require.NoError(t, err)
	requireError(t, table.Verify(t.Context()), 0, 0, 0, "not in canonical form")
}

// A context that has ended ends the reading of every format, also in the middle.
func TestOpenIsCancelled(t *testing.T) {
	cells := someCells(3000)
	csv := "arch,accuracy\n"
	for _, c := range cells {
		csv += fmt.Sprintf("%v,0.5\n", c)
	}
	for name, content := range map[string][]byte{
		"csv": []byte(csv), "csv.gz": zipped(t, []byte(csv)), "tfrecord": tfFile(cells,
			108), "json": []byte("[" + goodItem + "]"),
		"ctt": bytesOf(t, open(t, "x.csv", []byte(csv))),
	} {
		path := file(t, "x", content)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Open(ctx, path, Options{Progress: func(int64, int64) { cancel() }})
		if name != "ctt" && name != "json" { // which are read by then
			require.ErrorIs(t, err, context.Canceled, name)
		}
		cancel()
		_, err = Open(ctx, path, Options{})
		require.ErrorIs(t, err, context.Canceled, name)
		require.EqualError(t, err, "context canceled", name)
	}
}
