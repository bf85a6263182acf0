// Package tfrecord reads and writes the record framing of TensorFlow's files, which NAS-Bench-101 and TensorBoard event
// files use:
//
//	uint64 length | uint32 masked CRC-32C of the length | data | uint32 masked CRC-32C of the data
//
// all little-endian, mask(c) = (c >> 15 | c << 17) + 0xa282ead8 (tensorflow/core/lib/io/record_writer.h and
// lib/hash/crc32c.h).
package tfrecord

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	headerSize = 12 // length and its checksum
	footerSize = 4
)

// MaxRecord is the longest record a Reader takes where none is set: far above what these files hold, far below what
// would hurt.
const MaxRecord = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func masked(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Kinds of damage that an *Error wraps.
var (
	ErrTruncated = errors.New("truncated")
	ErrChecksum  = errors.New("checksum does not match")
	ErrTooLong   = errors.New("record is too long")
)

// Error says where a stream is damaged.
type Error struct {
	Record int64 // from 0
	Offset int64 // bytes from the start of the stream to the record's first byte
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("record %d at offset %d: %v", e.Record, e.Offset, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Reader takes records off a stream, one after the other.
type Reader struct {
	r      *bufio.Reader
	max    int
	record int64
	offset int64
	err    error
}

// NewReader reads records of at most limit bytes (MaxRecord if limit is not positive).
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 {
		limit = MaxRecord
	}
	return &Reader{r: bufio.NewReaderSize(r, 1<<18), max: limit}
}

// Record returns the number and the offset of the record that Next returns next.
func (r *Reader) Record() (number, offset int64) { return r.record, r.offset }

// Next appends the next record's data to buf, which may be nil, and returns the extended slice; io.EOF where the stream
// ends after a whole record. Any other error is an *Error, unless the stream itself fails, and every later call repeats
// it.
func (r *Reader) Next(buf []byte) ([]byte, error) {
	if r.err != nil {
		return buf, r.err
	}
	out, err := r.next(buf)
	if err != nil {
		if !errors.Is(err, io.EOF) {
			err = &Error{r.record, r.offset, err}
		}
		r.err = err
		return buf, err
	}
	r.offset += headerSize + int64(len(out)-len(buf)) + footerSize
	r.record++
	return out, nil
}

func (r *Reader) next(buf []byte) ([]byte, error) {
	var header [headerSize]byte
	if n, err := io.ReadFull(r.r, header[:]); err != nil {
		if n == 0 && errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, truncated(err, "header", n, headerSize)
	}
	if binary.LittleEndian.Uint32(header[8:]) != masked(header[:8]) {
		return nil, fmt.Errorf("length: %w", ErrChecksum)
	}
	length := binary.LittleEndian.Uint64(header[:8])
	if length > uint64(r.max) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrTooLong, length, r.max)
	}
	// Grow step by step: a file that ends early must not cost the memory that it claims to need.
	want, start := int(length)+footerSize, len(buf)
	for read := 0; read < want; {
		step := min(want-read, 1<<20)
		at := len(buf)
		if cap(buf)-at < step {
			buf = append(buf, make([]byte, step)...)
		} else {
			buf = buf[:at+step]
		}
		n, err := io.ReadFull(r.r, buf[at:])
		read += n
		if err != nil {
			return nil, truncated(err, "data", read, want)
		}
	}
	end := len(buf) - footerSize
	if binary.LittleEndian.Uint32(buf[end:]) != masked(buf[start:end]) {
		return nil, fmt.Errorf("data: %w", ErrChecksum)
	}
	return buf[:end], nil
}

// truncated turns an end of file inside a record into ErrTruncated; another failure of the stream stays what it is.
func truncated(err error, part string, got, want int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %d of %d bytes of the %s", ErrTruncated, got, want, part)
	}
	return err
}

// Writer puts records on a stream. Each one is a single Write, so that a crash tears at most the last record.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter frames records onto w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes data as one record.
func (w *Writer) Write(data []byte) error {
	w.buf = Append(w.buf[:0], data)
	_, err := w.w.Write(w.buf)
	return err
}

// Append appends the framed record to buf.
func Append(buf, data []byte) []byte {
	at := len(buf)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(data)))
	buf = binary.LittleEndian.AppendUint32(buf, masked(buf[at:]))
	buf = append(buf, data...)
	return binary.LittleEndian.AppendUint32(buf, masked(data))
}
