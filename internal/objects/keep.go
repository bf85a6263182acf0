package objects

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ctnas/ctnas/internal/checkpoint"
)

// Keeper copies a run's folder into a store while the run goes on, so that it can go on elsewhere.
type Keeper struct {
	store Store
	dir   string
	skip  []string         // folders in it that are left out
	kept  map[string]state // by name
	stop  chan struct{}
	ended chan struct{}
}

// state is by what a file is known to be as it was.
type state struct {
	size int64
	time time.Time
}

// Keep copies what is new in a folder whenever there is another checkpoint, for which it looks so often. What goes
// wrong is told to failed, and tried again at the next look. Folders of the names in skip are not copied: they hold
// what is this machine's alone. End it with Stop or Close.
func Keep(ctx context.Context, s Store, dir string, every time.Duration, failed func(error), skip ...string) *Keeper {
	k := &Keeper{store: s, dir: dir, skip: skip, kept: map[string]state{}, stop: make(chan struct{}),
		ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-k.stop:
				return
			}
			if err := k.look(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		}
	}()
	return k
}

// latest is the name of the newest checkpoint.
const latest = checkpoint.Dir + "/" + checkpoint.Latest

// look copies what a newer checkpoint needs, and the checkpoint last.
func (k *Keeper) look(ctx context.Context) error {
	if !k.isNew(latest) {
		return nil
	}
	// The file that is open stays what it is, whatever takes its name: what is read after it is as old, or newer.
	file, err := os.Open(filepath.Join(k.dir, filepath.FromSlash(latest)))
	if errors.Is(err, fs.ErrNotExist) { // between two names
		return nil
	} else if err != nil {
		return err
	}
	defer file.Close()
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || strings.HasPrefix(name, ".") || strings.HasPrefix(name, eventFiles) {
			continue
		}
		if err := k.put(ctx, name); err != nil {
			return err
		}
	}
	return k.putOpen(ctx, latest, file)
}

// eventFiles begins the names of files for TensorBoard, which are copied at the end: a run that goes on writes others.
const eventFiles = "events.out."

// isNew tells whether a file is another one than the copy.
func (k *Keeper) isNew(name string) bool {
	info, err := os.Stat(filepath.Join(k.dir, filepath.FromSlash(name)))
	return err == nil && k.kept[name] != state{info.Size(), info.ModTime()}
}

// put copies a file unless that was done.
func (k *Keeper) put(ctx context.Context, name string) error {
	if !k.isNew(name) {
		return nil
	}
	file, err := os.Open(filepath.Join(k.dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer file.Close()
	return k.putOpen(ctx, name, file)
}

func (k *Keeper) putOpen(ctx context.Context, name string, file *os.File) error {
	info, err := file.Stat()
	if err == nil {
		err = putFile(ctx, k.store, name, file, info.Size())
	}
	if err == nil {
		k.kept[name] = state{info.Size(), info.ModTime()}
	}
	return err
}

// Stop copies nothing more.
func (k *Keeper) Stop() {
	close(k.stop)
	<-k.ended
}

// Close is Stop, and copies everything that is there by now, also where the context has ended, but for no longer than a
// minute.
func (k *Keeper) Close(ctx context.Context) error {
	k.Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := k.look(ctx); err != nil {
		return err
	}
	return filepath.WalkDir(k.dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(k.dir, at)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(inside)
		switch {
		case e.IsDir() && name != "." && (strings.HasPrefix(e.Name(), ".") || slices.Contains(k.skip, name)):
			return filepath.SkipDir
		case !e.Type().IsRegular() || strings.HasPrefix(e.Name(), "."):
			return nil
		}
		if path.Dir(name) == checkpoint.Dir && name != latest { // one is enough where a copy is whole or not at all
			return nil
		}
		return k.put(ctx, name)
	})
}
