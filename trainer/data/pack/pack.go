// Package pack is a file that holds an image set: the images one after the other, what is known of each, and sums of
// all. What the images are, and how they become smaller, is not known here.
//
// The form, with little-endian numbers:
//
//	magic   16 bytes
//	length  8 bytes, of the facts
//	facts   JSON: Facts
//	table   32 bytes an image: Entry
//	images  one after the other, in the order of the table, without gaps
//	sums    SHA-256 of each BlockBytes of the images, of the last ones fewer
//	seal    SHA-256 of all but the images
//
// So the seal, which is the set's checksum, is known without reading an image, and every byte counts in it. A file is
// read with pread and not mapped: a page of a mapped file that was cut off, or that the disk does not give, ends the
// program with SIGBUS, an error of pread names the image; copying the 20 KB of one takes some 2 µs of the 400 that
// drawing it takes.
package pack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ctnas/ctnas/internal/files"
)

// BlockBytes is how many bytes of the images have a sum.
const BlockBytes = 4 << 20

// Bounds of what a file may claim.
const (
	MaxImageBytes = 1 << 28 // of an image
	MaxImages     = 1 << 30
	MaxClasses    = 1 << 20
	maxFactsBytes = 64 << 20
	maxSide       = 1 << 20
)

const (
	magic       = "ctnas pack 1\n\x00\x00\x00"
	headBytes   = len(magic) + 8
	recordBytes = 32
)

// Parts of a set, in the order in which their images lie.
const (
	Train = iota
	Validation
	Test
	Parts
)

var partNames = [Parts]string{"train", "validation", "test"}

// Forms of images.
const (
	FormJPEG = "jpeg" // files of images, as they were or encoded anew
	FormRaw  = "raw"  // RGB, 8 bits a sample, row after row
)

// Facts say what a file holds.
type Facts struct {
	Form    string     `json:"form"`
	Side    int        `json:"side"`              // pixels that the shorter side of an image has at most
	Quality int        `json:"quality,omitempty"` // of JPEG, 1 to 100
	Resized string     `json:"resized"`           // how larger images were made smaller
	Decoder string     `json:"decoder"`           // that read them
	Encoder string     `json:"encoder,omitempty"` // that wrote those that were made smaller
	Source  string     `json:"source"`            // the kind of set that they come from
	Sum     string     `json:"source_checksum"`   // of that set
	Indexed bool       `json:"indexed"`           // the set itself gives each class its number
	Images  [Parts]int `json:"images"`
	Classes []string   `json:"classes"`
}

// Total is the number of all images.
func (f *Facts) Total() int { return f.Images[Train] + f.Images[Validation] + f.Images[Test] }

// part is which part image k belongs to.
func (f *Facts) part(k int) int {
	p := 0
	for ; k >= f.Images[p]; p++ {
		k -= f.Images[p]
	}
	return p
}

// Entry is what the table says of an image. One of no bytes could not be read when the file was written.
type Entry struct {
	Offset        int64 // in the file
	Bytes         uint32
	Width, Height uint32 // pixels
	Label         uint32
	Part          uint32
	sum           uint32 // CRC-32C of the other fields and the image
}

// castagnoli is the polynomial that processors have an instruction for: 20 KB take a microsecond.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode is the entry as the table has it.
func (e *Entry) encode() (r [recordBytes]byte) {
	binary.LittleEndian.PutUint64(r[:], uint64(e.Offset))
	for i, v := range []uint32{e.Bytes, e.Width, e.Height, e.Label, e.Part, e.sum} {
		binary.LittleEndian.PutUint32(r[8+4*i:], v)
	}
	return r
}

func decode(r []byte) Entry {
	at := func(i int) uint32 { return binary.LittleEndian.Uint32(r[8+4*i:]) }
	return Entry{int64(binary.LittleEndian.Uint64(r)), at(0), at(1), at(2), at(3), at(4), at(5)}
}

// sumOf is the sum that belongs to the entry of an image.
func (e *Entry) sumOf(image []byte) uint32 {
	r := e.encode()
	return crc32.Update(crc32.Checksum(r[:recordBytes-4], castagnoli), castagnoli, image)
}

// check compares the entry of image k with the facts and with where the image before it ends.
func (e *Entry) check(f *Facts, k int, begin int64) error {
	switch {
	case e.Offset != begin:
		return fmt.Errorf("the image is said to lie at offset %d, the one before it ends at %d", e.Offset, begin)
	case e.Bytes > MaxImageBytes:
		return fmt.Errorf("an image of %d bytes: at most %d are accepted", e.Bytes, MaxImageBytes)
	case int(e.Label) >= len(f.Classes):
		return fmt.Errorf("class %d of %d", e.Label, len(f.Classes))
	case int(e.Part) != f.part(k):
		return fmt.Errorf("part %d, want %d", e.Part, f.part(k))
	case e.Bytes == 0 && (e.Width != 0 || e.Height != 0):
		return fmt.Errorf("%dx%d pixels of no bytes", e.Width, e.Height)
	case e.Bytes > 0 && (e.Width < 1 || e.Height < 1 || e.Width > maxSide || e.Height > maxSide):
		return fmt.Errorf("an image of %dx%d pixels", e.Width, e.Height)
	case f.Form == FormRaw && uint64(e.Bytes) != 3*uint64(e.Width)*uint64(e.Height):
		return fmt.Errorf("%d bytes of %dx%d pixels", e.Bytes, e.Width, e.Height)
	}
	return nil
}

// head is a file's beginning.
func (f *Facts) head() ([]byte, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint64([]byte(magic), uint64(len(text)))
	return append(out, text...), f.check()
}

func (f *Facts) check() error {
	total := 0
	for _, n := range f.Images {
		if n < 0 || n > MaxImages-total {
			return fmt.Errorf("%d images of parts: at most %d are accepted", f.Images, MaxImages)
		}
		total += n
	}
	switch {
	case f.Form != FormJPEG && f.Form != FormRaw:
		return fmt.Errorf("images of the form %.40q: want %s or %s", f.Form, FormJPEG, FormRaw)
	case f.Side < 1 || f.Side > maxSide:
		return fmt.Errorf("a shorter side of %d pixels: want 1..%d", f.Side, maxSide)
	case len(f.Classes) < 1 || len(f.Classes) > MaxClasses:
		return fmt.Errorf("%d classes: want 1..%d", len(f.Classes), MaxClasses)
	case total == 0:
		return errors.New("no images")
	}
	return nil
}

// File is an opened file. Its methods are for any number of goroutines.
type File struct {
	Facts
	Sum [sha256.Size]byte // the seal: of all that the file holds

	entries []Entry
	sums    [][sha256.Size]byte
	r       io.ReaderAt
	close   func() error
}

// Open opens a file and checks all of it but the images.
func Open(path string) (*File, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var out *File
		if out, err = open(f, info.Size()); err == nil {
			out.close = f.Close
			return out, nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	return nil, errors.Join(err, f.Close())
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

// readHead reads the facts at the beginning of a file of size bytes, and says how many bytes they take with what is
// before them.
func readHead(r io.ReaderAt, size int64) (f Facts, head []byte, err error) {
	head = make([]byte, headBytes)
	if n, err := r.ReadAt(head, 0); n < headBytes {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("truncated after %d bytes", n)
		}
		if !bytes.HasPrefix([]byte(magic), head[:min(n, len(magic))]) {
			err = errNoPack(head[:n])
		}
		return f, nil, err
	}
	if string(head[:len(magic)]) != magic {
		return f, nil, errNoPack(head)
	}
	length := binary.LittleEndian.Uint64(head[len(magic):])
	if length > maxFactsBytes || int64(length) > size-int64(headBytes) {
		return f, nil, fmt.Errorf("offset %d: facts of %d bytes in a file of %d", len(magic), length, size)
	}
	head = append(head, make([]byte, length)...)
	if _, err := r.ReadAt(head[headBytes:], int64(headBytes)); err != nil {
		return f, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(head[headBytes:]))
	d.DisallowUnknownFields()
	if err = d.Decode(&f); err == nil {
		err = f.check()
	}
	if err != nil {
		err = fmt.Errorf("offset %d: %w", headBytes, err)
	}
	return f, head, err
}

// errNoPack says that something else begins so.
func errNoPack(head []byte) error {
	return fmt.Errorf("not a file of `ctnas data pack`: it starts with %.16q", head[:min(len(head), len(magic))])
}

// open reads all but the images. What a file claims is compared with its size before memory is taken for it.
func open(r io.ReaderAt, size int64) (*File, error) {
	facts, head, err := readHead(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{Facts: facts, r: r}
	seal := sha256.New()
	_, _ = seal.Write(head) // a hash takes everything
	at, n := int64(len(head)), f.Total()
	if int64(n) > (size-at)/recordBytes {
		return nil, fmt.Errorf("offset %d: a table of %d images in a file of %d bytes", at, n, size)
	}
	f.entries = make([]Entry, n)
	end := at + recordBytes*int64(n)
	chunk := make([]byte, min(recordBytes*n, 1<<20))
	for k := 0; k < n; {
		part := chunk[:min(len(chunk), recordBytes*(n-k))]
		if _, err := r.ReadAt(part, at); err != nil {
			return nil, err
		}
		_, _ = seal.Write(part)
		for ; len(part) > 0; part, k, at = part[recordBytes:], k+1, at+recordBytes {
			e := decode(part)
			if err := e.check(&f.Facts, k, end); err != nil {
				return nil, fmt.Errorf("image %d at offset %d of the table: %w", k, at, err)
			}
			f.entries[k] = e
			end += int64(e.Bytes)
		}
	}
	blocks := (end - at + BlockBytes - 1) / BlockBytes
	if want := end + sha256.Size*(blocks+1); size != want {
		return nil, fmt.Errorf("%d bytes, want %d for %d images: it is truncated or something follows", size, want, n)
	}
	tail := make([]byte, sha256.Size*(blocks+1))
	if _, err := r.ReadAt(tail, end); err != nil {
		return nil, err
	}
	_, _ = seal.Write(tail[:sha256.Size*blocks])
	f.sums = make([][sha256.Size]byte, blocks)
	for i := range f.sums {
		copy(f.sums[i][:], tail[sha256.Size*i:])
	}
	copy(f.Sum[:], tail[sha256.Size*blocks:])
	if now := [sha256.Size]byte(seal.Sum(nil)); now != f.Sum {
		return nil, fmt.Errorf("offset %d: the seal is %x, what it stands for has %x: damaged before the images or "+
			"behind them", size-sha256.Size, f.Sum[:6], now[:6])
	}
	return f, nil
}

// Entry is what the table says of image k.
func (f *File) Entry(k int) Entry { return f.entries[k] }

// Checksum is the seal in hexadecimal.
func (f *File) Checksum() string { return hex.EncodeToString(f.Sum[:]) }

// Name says which image k is, counted within its part, and where it lies.
func (f *File) Name(k int) string {
	part := f.part(k)
	within := k
	for p := range part {
		within -= f.Images[p]
	}
	return fmt.Sprintf("%s image %d at offset %d", partNames[part], within, f.entries[k].Offset)
}

// Damaged is an image that is not what was packed.
type Damaged struct {
	Image  int    `json:"image"` // its number in the file; -1: none of them
	Offset int64  `json:"offset"`
	Why    string `json:"why"`
}

func (d *Damaged) Error() string { return d.Why }

// Left says that an image could not be read when the file was written.
const Left = "it could not be read when the set was packed"

// Read appends image k to buf. A Damaged error says that it is not what was packed, another one that it cannot be
// read now.
func (f *File) Read(k int, buf []byte) ([]byte, error) {
	e := &f.entries[k]
	if e.Bytes == 0 {
		return buf, &Damaged{k, e.Offset, Left}
	}
	at := len(buf)
	buf = slices.Grow(buf, int(e.Bytes))[:at+int(e.Bytes)]
	if _, err := f.r.ReadAt(buf[at:], e.Offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // it was cut off since it was opened
		}
		return buf[:at], fmt.Errorf("offset %d: %w", e.Offset, err)
	}
	if err := e.verify(k, buf[at:]); err != nil {
		return buf[:at], err
	}
	return buf, nil
}

// verify compares image k with its sum.
func (e *Entry) verify(k int, image []byte) error {
	if now := e.sumOf(image); now != e.sum {
		return &Damaged{k, e.Offset, fmt.Sprintf("damaged: the sum of its %d bytes at offset %d is %08x, want %08x",
			e.Bytes, e.Offset, now, e.sum)}
	}
	return nil
}

// Verified is what Verify found.
type Verified struct {
	Damaged []Damaged // in the order of the file
	Left    int       // images that could not be read when the file was written
}

// Verify reads the whole file and compares every sum. progress is told how many of the blocks are read; it may be nil.
func (f *File) Verify(ctx context.Context, progress func(done, total int)) (*Verified, error) {
	out := &Verified{Damaged: []Damaged{}}
	for i := range f.entries {
		if f.entries[i].Bytes == 0 {
			out.Left++
		}
	}
	var mu sync.Mutex
	var next atomic.Int64
	done := 0
	g, inner := errgroup.WithContext(ctx)
	for range min(len(f.sums), runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			var block, crossing []byte
			for {
				b := int(next.Add(1)) - 1
				if b >= len(f.sums) {
					return nil
				}
				if err := inner.Err(); err != nil {
					return err
				}
				var bad []Damaged
				var err error
				if bad, block, crossing, err = f.verifyBlock(b, block, crossing); err != nil {
					return err
				}
				mu.Lock()
				out.Damaged = append(out.Damaged, bad...)
				if done++; progress != nil {
					progress(done, len(f.sums))
				}
				mu.Unlock()
			}
		})
	}
	err := g.Wait()
	slices.SortFunc(out.Damaged, func(a, b Damaged) int { return cmp.Compare(a.Offset, b.Offset) })
	return out, err
}

// verifyBlock compares the sum of block b and those of the images that begin in it.
func (f *File) verifyBlock(b int, block, crossing []byte) (bad []Damaged, _, _ []byte, err error) {
	first := f.entries[0].Offset
	last := &f.entries[len(f.entries)-1]
	from := first + int64(b)*BlockBytes
	to := min(from+BlockBytes, last.Offset+int64(last.Bytes))
	block = slices.Grow(block[:0], int(to-from))[:to-from]
	if _, err := f.r.ReadAt(block, from); err != nil {
		return nil, block, crossing, fmt.Errorf("offset %d: %w", from, err)
	}
	broken := sha256.Sum256(block) != f.sums[b]
	k := sort.Search(len(f.entries), func(k int) bool { return f.entries[k].Offset >= from })
	if broken && k > 0 { // the one that reaches into the block
		k--
	}
	for ; k < len(f.entries) && f.entries[k].Offset < to; k++ {
		e := &f.entries[k]
		var image []byte
		switch end := e.Offset + int64(e.Bytes); {
		case e.Bytes == 0:
			continue
		case e.Offset >= from && end <= to:
			image = block[e.Offset-from : end-from]
		default:
			crossing = slices.Grow(crossing[:0], int(e.Bytes))[:e.Bytes]
			if _, err := f.r.ReadAt(crossing, e.Offset); err != nil {
				return nil, block, crossing, fmt.Errorf("offset %d: %w", e.Offset, err)
			}
			image = crossing
		}
		var d *Damaged
		if errors.As(e.verify(k, image), &d) {
			if e.Offset >= from { // otherwise the block that it begins in tells it
				bad = append(bad, *d)
			}
			broken = false
		}
	}
	if broken {
		bad = append(bad, Damaged{-1, from, fmt.Sprintf("the sum of the %d bytes at offset %d is another, and that of "+
			"no image", to-from, from)})
	}
	return bad, block, crossing, nil
}

// Size is how many bytes the file has.
func (f *File) Size() int64 {
	last := &f.entries[len(f.entries)-1]
	return last.Offset + int64(last.Bytes) + sha256.Size*int64(len(f.sums)+1)
}
