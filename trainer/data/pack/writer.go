package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctnas/ctnas/internal/files"
)

// beginning is what a file is called in its folder until it is whole.
const beginning = "pack"

// What is written at a time: so much a process that is killed loses at most.
const (
	flushBytes  = 1 << 20
	flushImages = 16
)

// Writer writes a file. Images come in the order of the table, and what the file holds is a function of the facts and
// of them alone. It is written in a folder beside its place, PATH.part; what a process that was killed has written
// there is gone on with: an entry of the table that fits its image is done. For one goroutine.
type Writer struct {
	path  string
	facts Facts
	lock  *files.FolderLock
	file  *os.File
	head  []byte

	done    int   // images
	left    int   // of them, those that could not be read
	begin   int64 // where the images begin
	end     int64 // of those that are done, with what waits to be written
	images  []byte
	records []byte
	block   hash.Hash // of the images' end
	filled  int       // bytes of it
	sums    []byte
}

// Create begins a file, or goes on with it. command says what is done, for who finds the folder locked.
func Create(path string, f Facts, command string) (w *Writer, err error) {
	head, err := f.head()
	if err != nil {
		return nil, err
	}
	dir := path + ".part"
	if err := files.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := files.Lock(dir, command)
	if err != nil {
		return nil, err
	}
	w = &Writer{path: path, facts: f, lock: lock, head: head, block: sha256.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	name := filepath.Join(dir, beginning)
	if w.file, err = files.OpenFile(name, os.O_RDWR|os.O_CREATE); err != nil {
		return w, err
	}
	w.begin = int64(len(head)) + recordBytes*int64(f.Total())
	w.end = w.begin
	info, err := w.file.Stat()
	if err != nil {
		return w, err
	}
	have := make([]byte, len(head))
	n, err := w.file.ReadAt(have, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return w, err
	case n < len(head) && bytes.HasPrefix(head, have[:n]): // killed before it had begun
		_, err = w.file.WriteAt(head, 0)
		return w, err
	case !bytes.Equal(have, head):
		return w, fmt.Errorf("%s was begun from other images or with other settings: remove it, or repeat the command "+
			"that began it", dir)
	}
	if err := w.resume(info.Size()); err != nil {
		return w, fmt.Errorf("%s: %w", name, err)
	}
	return w, nil
}

// resume finds the images that are done: those whose entries fit.
func (w *Writer) resume(size int64) error {
	var image []byte
	chunk := make([]byte, recordBytes<<10)
	for k := 0; k < w.facts.Total(); {
		n, err := w.file.ReadAt(chunk, int64(len(w.head))+recordBytes*int64(k))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for part := chunk[:n]; len(part) >= recordBytes; part = part[recordBytes:] {
			if k == w.facts.Total() {
				return nil
			}
			e := decode(part)
			if e.check(&w.facts, k, w.end) != nil || e.Offset+int64(e.Bytes) > size {
				return nil
			}
			image = append(image[:0], make([]byte, e.Bytes)...)
			if _, err := w.file.ReadAt(image, e.Offset); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if e.sumOf(image) != e.sum {
				return nil
			}
			w.hash(image)
			w.end += int64(e.Bytes)
			k++
			w.done = k
			if e.Bytes == 0 {
				w.left++
			}
		}
		if n < recordBytes {
			return nil
		}
	}
	return nil
}

// Done is how many images the file holds already.
func (w *Writer) Done() int { return w.done }

// Left is how many of the images that are done could not be read.
func (w *Writer) Left() int { return w.left }

// hash adds bytes to the sums of blocks.
func (w *Writer) hash(p []byte) {
	for len(p) > 0 {
		n := min(len(p), BlockBytes-w.filled)
		_, _ = w.block.Write(p[:n]) // a hash takes everything
		p = p[n:]
		if w.filled += n; w.filled == BlockBytes {
			w.endBlock()
		}
	}
}

func (w *Writer) endBlock() {
	w.sums = w.block.Sum(w.sums)
	w.block.Reset()
	w.filled = 0
}

// Add appends an image of a class; one of no bytes could not be read.
func (w *Writer) Add(image []byte, width, height, label int) error {
	if w.done == w.facts.Total() {
		return fmt.Errorf("%s: more than %d images", w.path, w.done)
	}
	e := Entry{Offset: w.end, Bytes: uint32(len(image)), Width: uint32(width), Height: uint32(height),
		Label: uint32(label), Part: uint32(w.facts.part(w.done))}
	if err := e.check(&w.facts, w.done, w.end); err != nil || len(image) > MaxImageBytes {
		return fmt.Errorf("%s: image %d of %d bytes: %w", w.path, w.done, len(image), err)
	}
	e.sum = e.sumOf(image)
	r := e.encode()
	w.hash(image)
	w.images, w.records = append(w.images, image...), append(w.records, r[:]...)
	w.end += int64(len(image))
	w.done++
	if len(image) == 0 {
		w.left++
	}
	if len(w.images) >= flushBytes || len(w.records) >= flushImages*recordBytes {
		return w.Flush()
	}
	return nil
}

// Flush hands what was added to the system: it stays when the process is killed. What could not be written is
// forgotten, so that an error is told once.
func (w *Writer) Flush() error {
	if len(w.records) == 0 {
		return nil
	}
	images, records := w.images, w.records
	w.images, w.records = w.images[:0], w.records[:0]
	if _, err := w.file.WriteAt(images, w.end-int64(len(images))); err != nil {
		return err
	}
	_, err := w.file.WriteAt(records, int64(len(w.head))+recordBytes*int64(w.done)-int64(len(records)))
	return err
}

// Commit ends a file that has all of its images: it is flushed to the disk and takes its name.
func (w *Writer) Commit() error {
	if w.done != w.facts.Total() {
		return fmt.Errorf("%s: %d of %d images", w.path, w.done, w.facts.Total())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if w.filled > 0 {
		w.endBlock()
	}
	seal := sha256.New()
	if _, err := io.Copy(seal, io.NewSectionReader(w.file, 0, w.begin)); err != nil {
		return err
	}
	_, _ = seal.Write(w.sums)
	tail := seal.Sum(w.sums)
	if _, err := w.file.WriteAt(tail, w.end); err != nil {
		return err
	}
	if err := w.file.Truncate(w.end + int64(len(tail))); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := files.Rename(w.file.Name(), w.path); err != nil {
		return err
	}
	err := errors.Join(w.file.Close(), w.lock.Remove())
	w.file, w.lock = nil, nil
	return err
}

// Close ends the writing. What has been written, unless it was committed, is gone on with the next time.
func (w *Writer) Close() error {
	var err error
	if w.file != nil {
		err = errors.Join(w.Flush(), w.file.Close())
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Unlock())
	}
	w.file, w.lock = nil, nil
	return err
}

// Same opens a file that is there and holds what these facts say: then there is nothing to write. What a process that
// was killed at the very end left beside it is removed. Without a file the error is fs.ErrNotExist.
func Same(path string, f Facts) (*File, error) {
	have, err := Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w; it is not replaced: remove it, or give another name", err)
	}
	want, err := f.head()
	if err != nil {
		return nil, errors.Join(err, have.Close())
	}
	now, err := have.head()
	if err != nil || !bytes.Equal(want, now) {
		return nil, errors.Join(fmt.Errorf("%s is there and was packed from other images or with other settings: "+
			"remove it, or give another name", path), err, have.Close())
	}
	return have, removeBeginning(path)
}

// removeBeginning removes the folder of a file that is whole.
func removeBeginning(path string) error {
	dir := path + ".part"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := files.Lock(dir, "ctnas data pack")
	if err != nil {
		return err
	}
	return lock.Remove()
}
