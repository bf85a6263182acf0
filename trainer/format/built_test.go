package format

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/ctnas/ctnas/internal/testdata"
	"github.com/ctnas/ctnas/kernels/philox"
	"github.com/stretchr/testify/require"
)

// perByte is how many bytes reading a file of tensors may allocate for each of its own, in all: an instruction of a
// byte makes a dictionary.
const perByte = 256

// zipEntry is a file of an archive. One that shares another's body has its offset, size and checksum in the directory.
type zipEntry struct {
	name  string
	body  []byte
	share int // of the entries before; negative: none
}

// zipOf writes an archive as PyTorch does, nothing compressed, but for what entries share.
func zipOf(entries ...zipEntry) []byte {
	var out, directory []byte
	word := func(to []byte, numbers ...int) []byte {
		for _, n := range numbers {
			to = binary.LittleEndian.AppendUint16(to, uint16(n))
		}
		return to
	}
	offsets := make([]int, len(entries))
	for i, e := range entries {
		body := e.body
		if e.share >= 0 && e.share < i {
			entries[i].body = entries[e.share].body
			body, offsets[i] = entries[i].body, offsets[e.share]
		} else {
			offsets[i] = len(out)
		}
		head := word(nil, 20, 0, 0, 0, 0)
		head = binary.LittleEndian.AppendUint32(head, crc32.ChecksumIEEE(body))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(body)))
		head = word(head, len(e.name), 0)
		if offsets[i] == len(out) {
			out = append(append(append(append(out, "PK\x03\x04"...), head...), e.name...), body...)
		}
		directory = append(append(word(append(directory, "PK\x01\x02"...), 20), head...), make([]byte, 10)...)
		directory = append(binary.LittleEndian.AppendUint32(directory, uint32(offsets[i])), e.name...)
	}
	at := len(out)
	out = word(append(append(out, directory...), "PK\x05\x06"...), 0, 0, len(entries), len(entries))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(directory)))
	return word(binary.LittleEndian.AppendUint32(out, uint32(at)), 0)
}

// builder makes files of PyTorch of the numbers that it is given, so that a fuzzer that changes those changes what a
// file says and not whether it is one.
type builder struct{ numbers []byte }

// maxBuilt bounds a built file.
const maxBuilt = 1 << 16

func (b *builder) next() int {
	if len(b.numbers) == 0 {
		return 0
	}
	n := b.numbers[0]
	b.numbers = b.numbers[1:]
	return int(n)
}

// many is a number up to 2^15, small ones more often.
func (b *builder) many() int { return b.next() >> (b.next() % 9) << (b.next() % 8) }

const rebuildTensor = "ctorch._utils\n_rebuild_tensor_v2\n"

func pickledInt(n int) string {
	if n >= 0 && n < 256 {
		return "K" + string([]byte{byte(n)})
	}
	return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

func pickledText(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

var builtKinds = []string{"FloatStorage", "ByteStorage", "DoubleStorage", "HalfStorage", "NoStorage"}

// storageReference refers to a storage.
func storageReference(key, kind string, count int) string {
	return "(" + pickledText("storage") + "ctorch\n" + kind + "\n" + pickledText(key) + pickledText("cpu") +
		pickledInt(count) + "NtQ"
}

// Places of the memo that a built pickle begins with; tuples and storages of its own follow.
const (
	memoRebuild = iota
	memoShape
	memoStride
	memoFirst
)

// root is a pickle of a dictionary. reference writes how it refers to storage or tensor i.
func (b *builder) root(things int, reference func(i int) string) string {
	get := func(place int) string { return "h" + string([]byte{byte(place)}) }
	put := func(place int) string { return "q" + string([]byte{byte(place)}) }
	numbers := func() string {
		many := b.next() % 4
		if many == 3 {
			many = b.many()
		}
		return "(" + strings.Repeat(pickledInt(b.next()%8), many) + strings.Repeat("K\x01", b.next()%3) + "t"
	}
	var p strings.Builder
	p.WriteString("\x80\x02" + rebuildTensor + put(memoRebuild) + "0")
	p.WriteString(numbers() + put(memoShape) + "0" + numbers() + put(memoStride) + "0")
	for i := range things {
		p.WriteString(reference(i) + put(memoFirst+i) + "0")
	}
	p.WriteString("}")
	tensor := func() string {
		shape, stride := get(memoShape), get(memoStride)
		if how := b.next(); how%4 == 0 {
			shape, stride = numbers(), numbers()
		} else if how%4 == 1 {
			stride = shape
		}
		storage := get(memoFirst + b.next()%things)
		return get(memoRebuild) + "(" + storage + pickledInt(b.next()%16/15) + shape + stride + "\x89NtR"
	}
	from := p.Len() // of what may be repeated
	for len(b.numbers) > 0 && p.Len() < maxBuilt {
		begin := p.Len()
		switch b.next() % 12 {
		case 0, 1:
			p.WriteString(pickledText(fmt.Sprint("w", b.next())) + tensor() + "s")
		case 2:
			p.WriteString(pickledText(fmt.Sprint("w", b.next())) + get(b.next()%8) + "s")
		case 3: // again, as often as it is said
			part := p.String()[from:begin]
			p.WriteString(strings.Repeat(part, min(b.many(), maxBuilt/max(1, len(part)))))
			begin = from
		case 4:
			list := strings.Repeat(get(b.next()%8), b.many())
			p.WriteString(pickledText("k") + "]" + put(b.next()) + "(" + list + "es")
		case 5:
			p.WriteString(pickledText("k") + numbers() + put(b.next()%8) + "s")
		case 6:
			p.WriteString(tensor() + put(memoFirst+b.next()%8) + "0")
		case 7:
			name := dictionaries[b.next()%len(dictionaries)]
			p.WriteString(pickledText(name) + "}(" + pickledText("w") + tensor() + "us")
		case 8:
			p.WriteString(pickledText("o") + "ccollections\nOrderedDict\n)Rs")
		case 9:
			op := "}N\x942]\x85("[b.next()%7]
			p.WriteString(pickledText("x") + strings.Repeat(string([]byte{op}), b.many()) + "s")
		case 10:
			p.WriteString(pickledText(strings.Repeat("n", b.many())) + tensor() + "s")
		case 11:
			if what := b.next(); what%8 == 0 {
				p.WriteByte(byte(b.next()))
			}
		}
		from = begin
	}
	return p.String() + "."
}

// build is a file in one of the three forms.
func (b *builder) build() []byte {
	form, things := b.next()%3, 1+b.next()%5
	kind, data := make([]string, things), make([][]byte, things)
	for i := range things {
		kind[i] = builtKinds[4]
		if n := b.next(); n < 250 {
			kind[i] = builtKinds[n%4]
		}
		data[i] = make([]byte, b.many()/8*8)
	}
	width := func(i int) int { return max(1, dtypes[storageTypes[kind[i]]].size) }
	count := func(i int) int { return len(data[i])/width(i) + max(0, b.next()-250) }
	switch form {
	case 0:
		var entries []zipEntry
		for i := range things {
			entries = append(entries, zipEntry{fmt.Sprint("a/data/", i), data[i], b.next() - 250})
		}
		p := b.root(things, func(i int) string { return storageReference(fmt.Sprint(i), kind[i], count(i)) })
		entries = append(entries, zipEntry{"a/data.pkl", []byte(p), -1}, zipEntry{"a/byteorder", []byte("little"), -1})
		return zipOf(entries...)
	case 1:
		var behind []string
		keys := "\x80\x02]"
		for i := range things {
			keys += pickledText(fmt.Sprint(i)) + "a"
			behind = append(behind, string(binary.LittleEndian.AppendUint64(nil, uint64(count(i)))), string(data[i]))
		}
		p := b.root(things, func(i int) string { return storageReference(fmt.Sprint(i), kind[i], 0) })
		return pickled(p, slices.Concat([]string{keys + "."}, behind)...)
	}
	storages, tensors := pickledInt(things)+".", pickledInt(things)+"."
	for i := range things {
		storages += pickledInt(i) + pickledText("cpu") + "ctorch\n" + kind[i] + "\n\x87."
		storages += string(binary.LittleEndian.AppendUint64(nil, uint64(count(i)))) + string(data[i])
		tensors += pickledInt(i) + pickledInt(i) + "ctorch\nFloatTensor\n\x87."
		dims := b.many() % 66 % (1 + b.next()%66)
		numbers := binary.LittleEndian.AppendUint64(nil, uint64(dims))
		for range 2*dims + 1 {
			numbers = binary.LittleEndian.AppendUint64(numbers, uint64(b.next()%4))
		}
		tensors += string(numbers)
	}
	parts := "]("
	for range b.next() % 4 {
		parts += "(" + pickledInt(things+b.next()%8) + pickledInt(b.next()%things)
		parts += "K\x00" + pickledInt(b.next()%2) + "t"
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	p := b.root(things, func(i int) string { return pickledInt(i) + "Q" })
	storages += parts + "e."
	for _, f := range []struct{ name, text string }{{"storages", storages}, {"tensors", tensors}, {"pickle", p}} {
		_ = w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Format: tar.FormatUSTAR}) // into memory
		_, _ = w.Write([]byte(f.text))
	}
	_ = w.Close()
	return out.Bytes()
}

// checkTorch reads a file, which may be hostile, and checks what it is read as.
func checkTorch(t *testing.T, content []byte) (tensors []Tensor, err error) {
	testdata.WithinFactor(t, len(content), perByte, func() {
		tensors, err = decodeTorch(bytes.NewReader(content), int64(len(content)))
	})
	if err != nil {
		require.Less(t, len(err.Error()), 8<<10)
		return nil, err
	}
	total := 0
	for _, x := range tensors {
		n := 1
		for _, d := range x.Shape {
			n *= d
		}
		require.Len(t, x.Data, n)
		total += n
	}
	require.LessOrEqual(t, 4*total, 10*len(content))
	return tensors, nil
}

// FuzzTorchBuilt reads files that are well-formed but for what they say.
func FuzzTorchBuilt(f *testing.F) {
	for form := range byte(3) {
		f.Add([]byte{form, 2, 0, 64, 0, 0, 4, 9, 1, 0, 3, 3, 2, 3, 1, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 0, 0, 2,
			1, 3, 3, 200})
	}
	f.Fuzz(func(t *testing.T, numbers []byte) { _, _ = checkTorch(t, (&builder{numbers}).build()) })
}

// What the builder writes is what the reader reads, in each form.
func TestBuiltFilesAreRead(t *testing.T) {
	shape := "(K\x02K\x03t"
	root := func(reference string) string {
		return "\x80\x02}" + pickledText("w") + rebuildTensor + "(" + reference + "K\x00" + shape +
			"(K\x03K\x01t\x89NtRs."
	}
	one := root(storageReference("0", "ByteStorage", 6))
	want := []Tensor{{"w", []int{2, 3}, []float32{0, 1, 2, 3, 4, 5}}}
	data := []byte{0, 1, 2, 3, 4, 5}
	zipped := zipOf(zipEntry{"a/data/0", data, -1}, zipEntry{"a/data.pkl", []byte(one), -1})
	got, err := checkTorch(t, zipped)
	require.NoError(t, err)
	require.Equal(t, want, got)
	streamed := pickled(one, "\x80\x02]"+pickledText("0")+"a.", "\x06"+strings.Repeat("\x00", 7), string(data))
	got, err = checkTorch(t, streamed)
	require.NoError(t, err)
	require.Equal(t, want, got)
	read := 0
	stream := philox.New(1, philox.PurposeTest, 0)
	for range 300 {
		numbers := make([]byte, 40+stream.Intn(80))
		for i := range numbers {
			numbers[i] = byte(stream.Intn(256))
		}
		if _, err := checkTorch(t, (&builder{numbers}).build()); err == nil {
			read++
		}
	}
	require.Positive(t, read, "of 300; the others are refused")
}

// Small files that ask for much: each is refused, or read, with little memory.
func TestSmallHostileTorchFiles(t *testing.T) {
	views := func(setup, each string, n int) []byte {
		root := "\x80\x02" + rebuildTensor + "q\x020" + storageReference("0", "FloatStorage", 2) + "q\x010" +
			setup + "]q\x03"
		root += strings.Repeat(each, n) + "."
		return pickled(root, "\x80\x02]"+pickledText("0")+"a.", "\x02"+strings.Repeat("\x00", 7+8))
	}
	strided := "h\x02(h\x01K\x00h\x00h\x04\x89NtRa"
	view := "h\x02(h\x01K\x00h\x00h\x00\x89NtRa"
	shared := []zipEntry{{"a/data/0", make([]byte, 100_000), -1}}
	var refer strings.Builder
	for i := range 2_000 {
		if i > 0 {
			shared = append(shared, zipEntry{fmt.Sprint("a/data/", i), nil, 0})
		}
		refer.WriteString(pickledText(fmt.Sprint(i)) + storageReference(fmt.Sprint(i), "FloatStorage", 25_000) + "s")
	}
	shared = append(shared, zipEntry{"a/data.pkl", []byte("\x80\x02}" + refer.String() + "."), -1})
	tied := "\x80\x02" + rebuildTensor + "q\x020" + storageReference("0", "ByteStorage", 100_000) + "q\x010}"
	for i := range 1_000 {
		tied += pickledText(fmt.Sprint(i)) + "h\x02(h\x01K\x00J\xa0\x86\x01\x00\x85K\x01\x85\x89NtRs"
	}
	bytes100k := zipEntry{"a/data/0", make([]byte, 100_000), -1}
	entry := zipEntry{"a/data.pkl", []byte("}."), -1}
	ones := func(n int) string { return "(" + strings.Repeat("K\x01", n) + "tq" }
	twice := strings.Repeat("h\x00\x86q\x00", 60) // a pair of the one before: printed, 2^60 of them
	for want, content := range map[string][]byte{
		"shape: 500000 dimensions, at most 64 are accepted":    views(ones(500_000)+"\x000", view, 20_000),
		"the pickle is no dictionary":                          views(ones(64)+"\x000", view, 10_000),
		"strides: 65 dimensions, at most 64 are accepted":      views(ones(0)+"\x000"+ones(65)+"\x040", strided, 1),
		"the values take more than":                            views("(tq\x000", "}", 3<<20),
		`"a/data/0" and "a/data/1" share bytes of the archive`: zipOf(shared...),
		`"a/data.pkl" stands in the archive twice`:             zipOf(entry, entry),
		"its storages and tensors take more than ten times the": zipOf(bytes100k,
			zipEntry{"a/data.pkl", []byte(tied + "."), -1}),
		`nothing refers to the storage ""`: pickled("\x80\x02}.",
			"\x80\x02]NN\x86q\x00"+twice+"a."),
	} {
		_, err := checkTorch(t, content)
		require.ErrorContains(t, err, want)
	}
}
