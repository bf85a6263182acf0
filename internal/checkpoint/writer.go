package checkpoint

import "time"

// Writer writes the checkpoints of a run in the background, one at a time, so that the run goes on meanwhile. One
// goroutine uses it.
type Writer struct {
	folder  string
	pending chan written // of the one on its way; nil: there is none
	took    time.Duration
	known   bool // the latest one is its own, and whole
}

type written struct {
	err  error
	took time.Duration
}

// NewWriter is one of a run folder.
func NewWriter(folder string) *Writer { return &Writer{folder: folder} }

// Write has a checkpoint written, see package Write. encode makes its bytes in the background, of what nobody changes
// until Wait. Before that the one on its way is waited for, whose error is returned.
func (w *Writer) Write(encode func() ([]byte, error)) error {
	if err := w.Wait(); err != nil {
		return err
	}
	pending, known := make(chan written, 1), w.known
	w.pending = pending
	go func() {
		begin := time.Now()
		data, err := encode()
		if err == nil {
			err = write(w.folder, data, known)
		}
		pending <- written{err, time.Since(begin)}
	}()
	return nil
}

// Wait waits until the checkpoint on its way stands on the disk, and tells why it does not.
func (w *Writer) Wait() error {
	if w.pending == nil {
		return nil
	}
	return w.ended(<-w.pending)
}

// Failed is Wait without waiting: nil for as long as the checkpoint is on its way.
func (w *Writer) Failed() error {
	select {
	case r := <-w.pending: // never where there is none
		return w.ended(r)
	default:
		return nil
	}
}

func (w *Writer) ended(r written) error {
	w.pending, w.took, w.known = nil, r.took, r.err == nil
	return r.err
}

// Took is how long the latest checkpoint took that has ended; 0: there is none.
func (w *Writer) Took() time.Duration { return w.took }
