package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
)

// Value is what a pickle holds: a number, a text, a truth, nothing, a list (or tuple, or set), or a dictionary.
type Value struct{ v any }

// ReadPickle reads a pickle of plain values, of Python's and of numpy's numbers: at most 16 MiB of it, whose values
// take at most 128 MiB. Nothing in it is executed: what a class or function that is not known would have made is a
// Value of none of these kinds.
func ReadPickle(r io.Reader) (Value, error) {
	u := newUnpickler(r)
	u.call = scalar
	v, err := u.load()
	return Value{v}, err
}

// mostParts bounds a pickle that is read in parts: those of NAS-Bench-201 have 5 GB.
const mostParts = 64 << 30

// ReadParts reads a pickle of any size that is made of many parts of which little is wanted, as ReadPickle does in one
// piece: a plain one, or one that torch.save has written, whose numbers are not tensors. part is called with each
// dictionary whenever entries of it have been set. It may take what it wants, have the dictionary Keep only some of it,
// and say that it has taken the part: then the rest is forgotten, so that the memory that is taken at a time is that of
// one part, and two bytes for each text that is remembered. What has not been taken may be 128 MiB.
func ReadParts(r io.Reader, part func(d Value) (taken bool, err error)) (Value, error) {
	u := newUnpickler(r)
	u.most = mostParts
	u.call = scalar
	u.persistent = func(any) (any, error) { return opaque{"a tensor"}, nil }
	head, err := u.r.Peek(4)
	if err != nil {
		return Value{}, io.ErrUnexpectedEOF
	}
	switch torch, _ := u.r.Peek(len(torchMagic)); {
	case bytes.Equal(head, []byte("PK\x03\x04")):
		if err := u.firstOfZip(); err != nil {
			return Value{}, err
		}
	case bytes.Equal(torch, torchMagic): // with two more pickles before the one that counts
		for range 3 {
			if _, err := u.load(); err != nil {
				return Value{}, err
			}
		}
	}
	u.part = func(d *dict) (bool, error) { return part(Value{d}) }
	v, err := u.load()
	return Value{v}, err
}

// firstOfZip goes to the content of an archive's first file, which in those of torch.save is the pickle, not packed.
func (u *unpickler) firstOfZip() error {
	var head struct { // APPNOTE.TXT of PKWARE, 4.3.7
		Signature               uint32
		Version, Flags, Method  uint16
		Time, Date              uint16
		Sum, Packed, Size       uint32
		NameLength, ExtraLength uint16
	}
	if err := binary.Read(u.r, binary.LittleEndian, &head); err != nil {
		return fmt.Errorf("the archive: %w", io.ErrUnexpectedEOF)
	}
	name := make([]byte, head.NameLength)
	if _, err := io.ReadFull(u.r, name); err != nil {
		return fmt.Errorf("the archive: %w", io.ErrUnexpectedEOF)
	}
	if !strings.HasSuffix(string(name), "/data.pkl") || head.Method != 0 {
		return fmt.Errorf("a zip archive that begins with %.100q: those of torch.save begin with NAME/data.pkl, not "+
			"packed", name)
	}
	if _, err := u.r.Discard(int(head.ExtraLength)); err != nil {
		return fmt.Errorf("the archive: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

// Keep has a dictionary hold only some of its keys.
func (v Value) Keep(wanted func(key Value) bool) {
	d, is := v.v.(*dict)
	if !is {
		return
	}
	var keys, values []any
	for i, k := range d.keys {
		if wanted(Value{k}) {
			keys, values = append(keys, k), append(values, d.values[i])
		}
	}
	d.keys, d.values = keys, values
}

// scalar stands for the functions by which numpy's numbers, and bytes, are pickled.
func scalar(f global, a tuple) (any, bool, error) {
	switch {
	case f == global{"_codecs", "encode"} && len(a) == 2 && a[1] == any("latin1"): // bytes, before protocol 3
		text, is := a[0].(string)
		if !is {
			return nil, true, errors.New("bytes that are no text")
		}
		var b strings.Builder
		for _, r := range text {
			if r > 0xff {
				return nil, true, errors.New("bytes above 255")
			}
			b.WriteByte(byte(r))
		}
		return b.String(), true, nil
	case f == global{"numpy", "dtype"} && len(a) > 0:
		name, is := a[0].(string)
		if !is || len(name) > 8 {
			return nil, true, errors.New("a type of numpy without a name")
		}
		return numpyType(name), true, nil
	case f.name == "scalar" && (f.module == "numpy.core.multiarray" || f.module == "numpy._core.multiarray") &&
		len(a) == 2:
		kind, is := a[0].(numpyType)
		text, isText := a[1].(string)
		if !is || !isText {
			return nil, true, errors.New("a number of numpy without type and bytes")
		}
		v, err := kind.number([]byte(text))
		return v, true, err
	}
	return nil, false, nil
}

// number is what bytes of the type hold, little-endian.
func (t numpyType) number(b []byte) (any, error) {
	wide := map[numpyType]int{"f8": 8, "f4": 4, "i8": 8, "i4": 4, "b1": 1}[t]
	if wide == 0 {
		return opaque{"a number of numpy"}, nil
	}
	if len(b) != wide {
		return nil, fmt.Errorf("a number of type %s in %d bytes", string(t), len(b))
	}
	switch t {
	case "f8":
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
	case "f4":
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), nil
	case "i8":
		return int64(binary.LittleEndian.Uint64(b)), nil
	case "i4":
		return int64(int32(binary.LittleEndian.Uint32(b))), nil
	}
	return b[0] != 0, nil
}

// Float is a number.
func (v Value) Float() (float64, bool) {
	switch x := v.v.(type) {
	case float64:
		return x, true
	case int64:
		return float64(x), true
	}
	return 0, false
}

// Int is a whole number.
func (v Value) Int() (int64, bool) {
	n, is := v.v.(int64)
	return n, is
}

// Text is a text, or bytes.
func (v Value) Text() (string, bool) {
	s, is := v.v.(string)
	return s, is
}

// Items are those of a list, a tuple or a set.
func (v Value) Items() ([]Value, bool) {
	var items []any
	switch x := v.v.(type) {
	case tuple:
		items = x
	case *list:
		items = x.items
	default:
		return nil, false
	}
	out := make([]Value, len(items))
	for i, item := range items {
		out[i] = Value{item}
	}
	return out, true
}

// Pairs are the keys of a dictionary with their values, in the order in which they were set; none of anything else.
func (v Value) Pairs() iter.Seq2[Value, Value] {
	return func(yield func(k, v Value) bool) {
		d, is := v.v.(*dict)
		if !is {
			return
		}
		for i, k := range d.keys {
			if !yield(Value{k}, Value{d.values[i]}) {
				return
			}
		}
	}
}

// Field is what a dictionary has under a text, the last of several; false where it has nothing.
func (v Value) Field(name string) (field Value, found bool) {
	for k, value := range v.Pairs() {
		if k.v == any(name) {
			field, found = value, true
		}
	}
	return field, found
}
