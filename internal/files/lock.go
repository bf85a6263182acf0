package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// LockName is the file in a folder that whoever writes there holds locked. It stays behind; what is written in it says
// whether somebody is there.
const LockName = ".lock"

// Holder is who has a folder locked.
type Holder struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

func (h Holder) String() string {
	return fmt.Sprintf("%s (process %d on %s, since %s)", h.Command, h.PID, h.Host, h.Since.Format(time.RFC3339))
}

// ErrLocked is another process at work in a folder.
type ErrLocked struct {
	Dir    string
	Holder Holder // zero where the holder is not known
}

func (e *ErrLocked) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("%s: another process is at work there", e.Dir)
	}
	return fmt.Sprintf("%s: %v is at work there; wait for it or stop it first", e.Dir, e.Holder)
}

// FolderLock is a folder that this process alone writes to.
type FolderLock struct {
	// Stale is who held the lock before and ended without giving it back, nil where there is nobody. The operating
	// system has released the lock with the process, so it can be taken over safely.
	Stale *Holder

	file *os.File
}

// maxHolderBytes bounds what is read of a lock's file.
const maxHolderBytes = 64 << 10

// Lock takes a folder, which must exist, for this process, or returns an ErrLocked that says who has it. The lock ends
// with the process, however that ends, and with Unlock.
func Lock(dir, command string) (*FolderLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockName), os.O_RDWR|os.O_CREATE|dontWait, 0o644)
	if err != nil {
		return nil, err
	}
	locked, err := tryLock(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	var before Holder
	text, err := io.ReadAll(io.LimitReader(f, maxHolderBytes))
	if err == nil && len(text) > 0 {
		_ = json.Unmarshal(text, &before) // a torn note names nobody
	}
	if err == nil && !locked {
		err = &ErrLocked{dir, before}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &FolderLock{file: f}
	if before.PID != 0 {
		l.Stale = &before
	}
	host, _ := os.Hostname() // unknown is said as such
	if host == "" {
		host = "an unknown host"
	}
	note, err := json.Marshal(Holder{host, os.Getpid(), time.Now().Truncate(time.Second), command})
	if err == nil {
		err = l.note(append(note, '\n'))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (l *FolderLock) note(text []byte) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt(text, 0)
	return err
}

// Unlock gives the folder back.
func (l *FolderLock) Unlock() error { return errors.Join(l.note(nil), l.file.Close()) }

// Remove deletes the folder and gives the lock up. The folder takes another name first: whoever waits in Claim
// meanwhile sees it whole or not at all.
func (l *FolderLock) Remove() error {
	dir := filepath.Dir(l.file.Name())
	away, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err == nil {
		err = errors.Join(os.Rename(dir, filepath.Join(away, "removed")), removeAll(away))
	}
	return errors.Join(err, l.file.Close())
}

// removeAll deletes a folder that has taken another name. Whoever had looked the old one up before may still put a lock
// into it, in the midst of the removal, but nobody looks it up any more.
func removeAll(dir string) error {
	for {
		if err := os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
}

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 200 * time.Millisecond

// Claim makes a folder and waits until this process alone has it, or ctx is done. Other processes may remove the
// folder, with its lock, at the end of their work (FolderLock.Remove).
func Claim(ctx context.Context, dir, command string) (*FolderLock, error) {
	for {
		if err := MkdirAll(dir); err != nil {
			return nil, err
		}
		l, err := Lock(dir, command)
		var taken *ErrLocked
		switch {
		case err == nil && l.named():
			return l, nil
		case err == nil: // the lock of a folder that has been removed by whoever had it
			_ = l.file.Close()
			continue
		case errors.Is(err, os.ErrNotExist): // removed in between
			continue
		case !errors.As(err, &taken):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// named tells whether the lock's open file still has its name.
func (l *FolderLock) named() bool {
	open, err := l.file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(l.file.Name())
	return err == nil && os.SameFile(open, now)
}
