package format

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"

	"github.com/ctnas/ctnas/internal/files"
)

// WriteTorch writes a file that PyTorch's torch.load reads, with nothing but weights in it: a dictionary whose
// state_dict holds the tensors in their order. It appears whole or not at all, and the same tensors are the same bytes.
func WriteTorch(path string, tensors []Tensor) error {
	seen := map[string]bool{}
	for _, t := range tensors {
		if n := count(t.Shape); seen[t.Name] || n != len(t.Data) {
			return fmt.Errorf("%s: tensor %q with %d numbers of shape %v", path, t.Name, len(t.Data), t.Shape)
		}
		seen[t.Name] = true
	}
	file, err := files.Create(path)
	if err != nil {
		return err
	}
	defer file.Discard()
	buffered := bufio.NewWriterSize(file, 1<<20)
	a := &archive{}
	a.zip = zip.NewWriter(io.MultiWriter(a, buffered))
	a.add("data.pkl", stateDict(tensors))
	a.add("byteorder", []byte("little"))
	for i, t := range tensors {
		a.add("data/"+strconv.Itoa(i), numbers(t.Data))
	}
	a.add("version", []byte("3\n"))
	if err := errors.Join(a.err, a.zip.Close(), buffered.Flush()); err != nil {
		return err
	}
	return file.Commit()
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func numbers(values []float32) []byte {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

// archive is a zip archive whose files are not compressed, as PyTorch's reader wants them, and begin at multiples of 64
// bytes, so that they can be mapped into memory.
type archive struct {
	zip *zip.Writer
	at  int64 // bytes written
	err error
}

// Write counts.
func (a *archive) Write(p []byte) (int, error) {
	a.at += int64(len(p))
	return len(p), nil
}

// Sizes of what stands before a file's bytes.
const (
	zipHeader = 30 // and name and extra field
	zipExtra  = 4  // of a field: its kind and length
	zipAlign  = 64
)

func (a *archive) add(name string, data []byte) {
	if a.err != nil {
		return
	}
	a.err = a.zip.Flush() // so that what is written is counted
	h := &zip.FileHeader{Name: "archive/" + name, Method: zip.Store, CRC32: crc32.ChecksumIEEE(data),
		CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data))}
	from := a.at + zipHeader + int64(len(h.Name)) + zipExtra
	padding := (zipAlign - from%zipAlign) % zipAlign
	h.Extra = append([]byte("FB"), byte(padding), 0) // the kind of field that PyTorch pads with
	h.Extra = append(h.Extra, bytes.Repeat([]byte("Z"), int(padding))...)
	w, err := a.zip.CreateRaw(h)
	if err == nil {
		_, err = w.Write(data)
	}
	a.err = errors.Join(a.err, err)
}

// stateDict is the pickle of {"state_dict": OrderedDict(...)}, in which a tensor is a call of torch's with its storage,
// offset, shape and strides. Instructions are those that unpickler reads.
func stateDict(tensors []Tensor) []byte {
	p := &pickler{}
	p.raw("\x80\x02}") // protocol 2; an empty dictionary
	p.text("state_dict")
	p.ordered()
	p.raw("(") // what it is filled with
	for i, t := range tensors {
		p.text(t.Name)
		p.raw("ctorch._utils\n_rebuild_tensor_v2\n((")
		p.text("storage")
		p.raw("ctorch\nFloatStorage\n")
		p.text(strconv.Itoa(i))
		p.text("cpu")
		p.number(len(t.Data))
		p.raw("tQ") // the tuple names something outside the pickle
		p.number(0)
		p.tuple(t.Shape)
		p.tuple(strides(t.Shape))
		p.raw("\x89") // no gradient
		p.ordered()   // no hooks
		p.raw("tR")
	}
	p.raw("us.")
	return p.out
}

func strides(shape []int) []int {
	out := make([]int, len(shape))
	n := 1
	for k := len(shape) - 1; k >= 0; k-- {
		out[k] = n
		n *= shape[k]
	}
	return out
}

// pickler writes instructions.
type pickler struct{ out []byte }

func (p *pickler) raw(s string) { p.out = append(p.out, s...) }

func (p *pickler) text(s string) {
	p.out = append(binary.LittleEndian.AppendUint32(append(p.out, 'X'), uint32(len(s))), s...)
}

// number is one that is not negative.
func (p *pickler) number(n int) {
	if n <= math.MaxInt32 {
		p.out = binary.LittleEndian.AppendUint32(append(p.out, 'J'), uint32(n))
		return
	}
	p.out = binary.LittleEndian.AppendUint64(append(p.out, '\x8a', 8), uint64(n))
}

func (p *pickler) tuple(numbers []int) {
	p.raw("(")
	for _, n := range numbers {
		p.number(n)
	}
	p.raw("t")
}

func (p *pickler) ordered() { p.raw("ccollections\nOrderedDict\n)R") }
