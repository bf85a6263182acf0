package trained

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ctnas/ctnas/internal/checkpoint"
	"github.com/ctnas/ctnas/internal/files"
	"github.com/ctnas/ctnas/internal/objects"
	"github.com/ctnas/ctnas/search/made"
)

// copyEvery is how often it is looked whether a training has another checkpoint to copy.
const copyEvery = 2 * time.Second

// copying is a training whose folder is copied while it is in work.
type copying struct {
	store  objects.Store
	keeper *objects.Keeper
	warn   func(error)
}

// copy fetches what another machine has left of a training whose folder holds none of it, and copies the folder with
// every checkpoint from then on. What cannot be copied or fetched is told, and otherwise does not matter: work is
// repeated, and the record is the same. nil: nothing is copied.
func (l *Local) copy(ctx context.Context, k Key, dir string) *copying {
	if l.Copies == "" {
		return nil
	}
	c := &copying{warn: func(err error) {
		if l.Warn != nil {
			l.Warn(fmt.Errorf("the copy of the training of %s: %w", k.Arch, err))
		}
	}}
	var err error
	if c.store, err = objects.Open(l.Copies + "/" + k.hash()); err != nil {
		c.warn(err)
		return nil
	}
	if err := c.fetch(ctx, dir); err != nil && ctx.Err() == nil {
		c.warn(err)
	}
	c.keeper = objects.Keep(ctx, c.store, dir, copyEvery, c.warn)
	return c
}

// fetch makes a training's folder, which is this process's, of its copy, if there is one and nothing here.
func (c *copying) fetch(ctx context.Context, dir string) error {
	_, err := os.Stat(filepath.Join(dir, checkpoint.Dir, checkpoint.Latest))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there, err := c.store.List(ctx, checkpoint.Dir+"/"+checkpoint.Latest)
	if err != nil || len(there) == 0 { // it is written last: without it there is no training to go on with
		return err
	}
	part := dir + ".fetching"
	defer func() { _ = os.RemoveAll(part) }()
	_, err = objects.Pull(ctx, c.store, part, "the copy of a training", 4, func(_, _ int) {})
	if err != nil {
		return err
	}
	if err := made.Empty(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(part)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != checkpoint.Dir && name != files.LockName {
			if err := files.Rename(filepath.Join(part, name), filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return files.Rename(filepath.Join(part, checkpoint.Dir), filepath.Join(dir, checkpoint.Dir))
}

// end leaves a copy of a training that was stopped, as it is now, and none of one that has ended, well or not: what
// failed from its checkpoint is tried afresh elsewhere.
func (c *copying) end(ctx context.Context) {
	if c == nil {
		return
	}
	if ctx.Err() != nil {
		if err := c.keeper.Close(ctx); err != nil {
			c.warn(err)
		}
		return
	}
	c.keeper.Stop()
	all, err := c.store.List(ctx, "")
	for _, o := range all {
		err = errors.Join(err, c.store.Delete(ctx, o.Name))
	}
	if err != nil {
		c.warn(err)
	}
}
