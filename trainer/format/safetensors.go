package format

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ctnas/ctnas/internal/files"
)

// A safetensors file is the length of a header in 8 bytes (little-endian), the header in JSON, and the tensors' bytes
// without gaps or overlaps (github.com/huggingface/safetensors). The header maps a name to {"dtype", "shape",
// "data_offsets": [begin, end]}, offsets counted from its end, and "__metadata__" to texts.
const (
	metadataKey = "__metadata__"
	maxHeader   = 16 << 20
	maxTensors  = 1 << 20
)

type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// WriteSafetensors writes a file, which appears whole or not at all.
func WriteSafetensors(path string, tensors []Tensor, metadata map[string]string) error {
	header, err := encodeHeader(tensors, metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	file, err := files.Create(path)
	if err != nil {
		return err
	}
	defer file.Discard()
	w := bufio.NewWriterSize(file, 1<<20)
	_, err = w.Write(header)
	for _, t := range tensors {
		var buf [4]byte
		for _, v := range t.Data {
			binary.LittleEndian.PutUint32(buf[:], math.Float32bits(v))
			if _, e := w.Write(buf[:]); e != nil {
				err = e
			}
		}
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return err
	}
	return file.Commit()
}

func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	fields := map[string]any{}
	if len(metadata) > 0 {
		fields[metadataKey] = metadata
	}
	at := int64(0)
	for _, t := range tensors {
		e := entry{DType: "F32", Shape: make([]int64, len(t.Shape)), Offsets: [2]int64{at, at + 4*int64(len(t.Data))}}
		n := 1
		for i, d := range t.Shape {
			e.Shape[i] = int64(d)
			n *= d
		}
		if _, twice := fields[t.Name]; twice || t.Name == metadataKey || n != len(t.Data) {
			return nil, fmt.Errorf("tensor %q with %d numbers of shape %v", t.Name, len(t.Data), t.Shape)
		}
		fields[t.Name] = e
		at = e.Offsets[1]
	}
	text, err := json.Marshal(fields) // keys sorted
	if err != nil {
		return nil, err
	}
	for len(text)%8 != 0 { // so that the numbers are aligned
		text = append(text, ' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// decodeSafetensors reads tensors as float32, in the order in which they lie in the file.
func decodeSafetensors(r io.Reader, size int64) ([]Tensor, map[string]string, error) {
	var prefix [8]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, nil, fmt.Errorf("%d bytes are no safetensors file", size)
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeader || int64(length) > size-8 {
		return nil, nil, fmt.Errorf("a header of %d bytes in a file of %d; at most %d are accepted", length,
			size, maxHeader)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	names, entries, metadata, err := decodeHeader(text)
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(entries[a].Offsets[0], entries[b].Offsets[0]),
			cmp.Compare(entries[a].Offsets[1], entries[b].Offsets[1]))
	})
	data := size - 8 - int64(length)
	at := int64(0)
	for _, i := range order {
		if err := entries[i].check(at, data); err != nil {
			return nil, nil, fmt.Errorf("tensor %.200q: %w", names[i], err)
		}
		at = entries[i].Offsets[1]
	}
	if at != data {
		return nil, nil, fmt.Errorf("%d bytes of tensors, the header says %d", data, at)
	}
	tensors := make([]Tensor, 0, len(order))
	var chunk [1 << 16]byte
	for _, i := range order {
		e := entries[i]
		d := dtypes[e.DType]
		t := Tensor{Name: names[i], Shape: make([]int, len(e.Shape)),
			Data: make([]float32, 0, (e.Offsets[1]-e.Offsets[0])/int64(d.size))}
		for k, d := range e.Shape {
			t.Shape[k] = int(d)
		}
		for len(t.Data) < cap(t.Data) {
			part := chunk[:min(len(chunk), d.size*(cap(t.Data)-len(t.Data)))]
			if _, err := io.ReadFull(r, part); err != nil {
				return nil, nil, fmt.Errorf("tensor %q: %w", t.Name, err)
			}
			t.Data = d.numbers(t.Data, part)
		}
		tensors = append(tensors, t)
	}
	return tensors, metadata, nil
}

// check requires a tensor to begin at an offset and to fit.
func (e entry) check(at, data int64) error {
	d, known := dtypes[e.DType]
	if !known {
		return fmt.Errorf("type %.40q, want one of %s", e.DType, strings.Join(slices.Sorted(maps.Keys(dtypes)), ", "))
	}
	if len(e.Shape) > maxDims {
		return fmt.Errorf("%d dimensions, at most %d are accepted", len(e.Shape), maxDims)
	}
	n, ok := elements(e.Shape)
	if !ok {
		return fmt.Errorf("shape %v", e.Shape)
	}
	switch begin, end := e.Offsets[0], e.Offsets[1]; {
	case begin != at:
		return fmt.Errorf("begins at offset %d, the one before it ends at %d", begin, at)
	case end < begin || end > data:
		return fmt.Errorf("offsets %d to %d of %d bytes", begin, end, data)
	case end-begin != int64(d.size)*n:
		return fmt.Errorf("%d bytes for shape %v of %s", end-begin, e.Shape, e.DType)
	}
	return nil
}

// decodeHeader reads the header, in which no name may stand twice.
func decodeHeader(text []byte) (names []string, entries []entry, metadata map[string]string, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, nil, nil, errors.New("no JSON object")
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, nil, nil, err
		}
		name := token.(string) // a key is one
		if seen[name] || len(seen) > maxTensors {
			return nil, nil, nil, fmt.Errorf("%.200q stands there twice, or too many names", name)
		}
		seen[name] = true
		if name == metadataKey {
			if err := d.Decode(&metadata); err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		var e entry
		if err := d.Decode(&e); err != nil {
			return nil, nil, nil, fmt.Errorf("%.200q: %w", name, err)
		}
		names, entries = append(names, name), append(entries, e)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, nil, err
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, nil, nil, errors.New("something stands behind the JSON object")
	}
	return names, entries, metadata, nil
}
